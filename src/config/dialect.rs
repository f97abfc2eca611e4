//! The members of a channel that say where it is and what it speaks.

use super::reader::{Item, Object};
use super::types::{BaseUrl, Provider};
use crate::core::api::Api;
use crate::wire::dialect::azure;
use crate::wire::endpoint;
use http::Uri;

/// Where Google's imitation of OpenAI stands, and the end of its path.
const GEMINI: (&str, &str) = ("generativelanguage.googleapis.com", "/openai");

/// Where a channel is and what it speaks.
pub(super) struct Dialect {
    pub(super) provider: Option<Provider>,
    pub(super) base_url: Option<BaseUrl>,
    pub(super) api_version: Option<String>,
    pub(super) apis: Vec<Api>,
}

pub(super) fn dialect(object: &Object<'_>) -> Dialect {
    let (provider_item, base_item) = (object.required("provider"), object.required("base_url"));
    let provider = provider_item.as_ref().and_then(|item| item.one_of(&Provider::WORDS));
    let base_url = base_item.as_ref().and_then(base_url);
    let version_item = object.get("api_version");
    let api_version = version_item.as_ref().and_then(Item::text);
    if let (Some(provider), Some(url)) = (provider, &base_url) {
        if let Some(item) = base_item
            && check_path(&item, provider, url)
        {
            warn_of_path(&item, provider, url);
        }
        if let Some(item) = version_item.or(provider_item) {
            check_version(&item, provider, &url.path, api_version);
        }
    }
    let default = || spoken_by(provider, base_url.as_ref(), api_version);
    let apis = object.get("apis").map_or_else(default, |item| apis(&item, provider));
    Dialect { provider, apis, api_version: api_version.map(str::to_owned), base_url }
}

/// The APIs of a dialect, unless the channel says otherwise (spec 12.1).
fn spoken_by(provider: Option<Provider>, url: Option<&BaseUrl>, api_version: Option<&str>) -> Vec<Api> {
    let provider = provider.unwrap_or(Provider::OpenAiCompatible);
    let base = url.map(|url| url.path.as_str()).unwrap_or_default();
    let there = |api: &Api| {
        provider != Provider::Azure || *api != Api::Responses || azure::has_responses(base, api_version)
    };
    provider.apis().iter().copied().filter(there).collect()
}

fn apis(item: &Item<'_>, provider: Option<Provider>) -> Vec<Api> {
    let spoken = |item: &Item<'_>| {
        let api = item.one_of(&Api::WORDS)?;
        if let Some(provider) = provider.filter(|provider| !provider.apis().contains(&api)) {
            let known: Vec<_> = provider.apis().iter().map(|api| api.as_str()).collect();
            item.refuse_with(
                format!("is not spoken by {}", provider.as_str()),
                format!("known: {}", known.join(", ")),
            );
        }
        Some(api)
    };
    item.list().iter().filter_map(spoken).collect()
}

/// Whether the path is one that the dialect can have.
fn check_path(item: &Item<'_>, provider: Provider, url: &BaseUrl) -> bool {
    if provider == Provider::Azure && format!("{}/", url.path).contains("/deployments/") {
        item.refuse_with(
            "must end before /deployments",
            "the deployment is the upstream's name of a model, under models",
        );
        return false;
    }
    let (host, end) = GEMINI;
    if provider == Provider::Gemini && url.host == host && !url.path.ends_with(end) {
        item.refuse_with(
            "must be the base of Google's OpenAI-compatible endpoint",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        );
        return false;
    }
    true
}

/// Warns of a base URL that most likely is not where an API begins: routes are appended to it as it is.
fn warn_of_path(item: &Item<'_>, provider: Provider, url: &BaseUrl) {
    let routes = endpoint::TABLE.iter().map(|line| line.path).filter(|path| !path.contains('{'));
    // A part of a route (`/chat`) is as wrong at the end as all of it.
    let parts = routes.flat_map(|route| {
        let ends = route.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        ends.chain([route.len()]).filter_map(move |end| route.get(..end))
    });
    let path = url.path.to_ascii_lowercase();
    let longest = parts.filter(|part| path.ends_with(part)).max_by_key(|part| part.len());
    if let Some(route) = longest {
        let message = format!("ends with the route {route}, which the gateway appends itself");
        item.warn_with(message, format!("leave {route} out"));
        return;
    }
    let is_version = |part: &str| {
        let digits = part.strip_prefix(['v', 'V']).unwrap_or_default();
        digits.starts_with(|first: char| first.is_ascii_digit())
    };
    // Deployments of Azure have their version in the query.
    if provider != Provider::Azure && !url.path.split('/').any(is_version) {
        let route = if provider == Provider::Anthropic { "/messages" } else { "/chat/completions" };
        let message = format!("has no version: a call goes to {url}{route}");
        item.warn_with(message, "most providers have one, such as /v1 at its end");
    }
}

fn check_version(item: &Item<'_>, provider: Provider, base: &str, version: Option<&str>) {
    if provider == Provider::Azure {
        if let Some((message, hint)) = azure::version_fault(base, version) {
            item.refuse_with(message, hint);
        }
    } else if version.is_some() {
        item.refuse_with("is for provider azure alone", "leave it out");
    }
}

fn base_url(item: &Item<'_>) -> Option<BaseUrl> {
    let text = item.text()?;
    let hint = "such as https://api.provider.example/v1";
    let Ok(uri) = text.parse::<Uri>() else {
        item.refuse_with("is no URL", hint);
        return None;
    };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => {
            item.refuse_with("must begin with http:// or https://", hint);
            return None;
        }
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        item.refuse_with("must not contain a credential", "write it under credentials");
        return None;
    }
    if uri.query().is_some() || text.contains('#') || authority.host().is_empty() {
        item.refuse_with("must be scheme, host and path, and nothing else", hint);
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(BaseUrl { tls, host, port, path: uri.path().trim_end_matches('/').to_owned() })
}
