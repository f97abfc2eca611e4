//! The sections `defaults` and `channels`.

use super::dialect::{Dialect, dialect};
use super::reader::{Form, Item, Object};
use super::tree::Value;
use super::types::{Channel, Model, Retry, Timeouts};
use super::{classify, limits, name, secret, tls, unsupported, video};
use crate::core::api::Api;
use crate::core::health::Times;
use http::HeaderName;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Fields that are the gateway's own business with an upstream.
const NEVER_PASSED: [&str; 16] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
];

/// Names in one `pass_members`.
const PASS_MEMBERS_MAX: usize = 64;
/// The longest name in `pass_members`, in bytes.
const MEMBER_NAME_MAX: usize = 128;

/// What channels have where they say nothing.
pub(super) struct Defaults {
    timeouts: Timeouts,
    attempts: u32,
    /// Bounds that hold for all channels together.
    pub(super) retry: Retry,
}

pub(super) fn defaults(item: Option<Item<'_>>) -> Defaults {
    let built_in = Timeouts {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(60),
        idle: Duration::from_secs(120),
        total: Duration::from_secs(600),
        video: Duration::from_secs(900),
        failover: Duration::from_secs(60),
    };
    let mut retry =
        Retry { budget_ratio: 0.1, failover_wait: Duration::from_secs(1), times: Times::default() };
    let Some(section) = item.and_then(|item| item.object()) else {
        return Defaults { timeouts: built_in, attempts: 3, retry };
    };
    let timeouts = timeouts(&section, built_in);
    let mut count = 3;
    if let Some(bounds) = section.get("retry").and_then(|item| item.object()) {
        count = bounds.get("attempts").and_then(|item| item.number(1..=10)).unwrap_or(3);
        let ratio = bounds.get("budget_ratio").and_then(|item| item.ratio());
        retry.budget_ratio = ratio.unwrap_or(retry.budget_ratio);
        let wait = bounds.get("failover_wait").and_then(|item| item.duration());
        retry.failover_wait = wait.unwrap_or(retry.failover_wait);
        bounds.finish();
    }
    if let Some(health) = section.get("health").and_then(|item| item.object()) {
        let time = |name, default| health.get(name).and_then(|item| item.duration()).unwrap_or(default);
        let built_in = Times::default();
        retry.times = Times {
            cooldown_max: time("cooldown_max", built_in.cooldown_max),
            ejection: time("ejection", built_in.ejection),
            refused: time("refused", built_in.refused),
            blocked: time("blocked", built_in.blocked),
            missing: time("missing", built_in.missing),
        };
        health.finish();
    }
    section.finish();
    Defaults { timeouts, attempts: count, retry }
}

fn timeouts(parent: &Object<'_>, defaults: Timeouts) -> Timeouts {
    let Some(section) = parent.get("timeouts").and_then(|item| item.object()) else { return defaults };
    let time = |name, default| section.get(name).and_then(|item| item.time_limit()).unwrap_or(default);
    let timeouts = Timeouts {
        connect: time("connect", defaults.connect),
        first_byte: time("first_byte", defaults.first_byte),
        idle: time("idle", defaults.idle),
        total: time("total", defaults.total),
        video: time("video", defaults.video),
        failover: time("failover", defaults.failover),
    };
    section.finish();
    timeouts
}

fn attempts(parent: &Object<'_>, default: u32) -> u32 {
    let Some(section) = parent.get("retry").and_then(|item| item.object()) else { return default };
    let attempts = section.get("attempts").and_then(|item| item.number(1..=10)).unwrap_or(default);
    section.finish();
    attempts
}

pub(super) fn channels(item: Option<Item<'_>>, models: &[Model], defaults: &Defaults) -> Vec<Channel> {
    let mut seen = HashSet::new();
    let list = item.map(|item| item.list()).unwrap_or_default();
    let models = models.iter().map(|model| (model.id.as_str(), model)).collect();
    list.iter().filter_map(|item| channel(item, &models, defaults, &mut seen)).collect()
}

/// Models by their ids.
type Models<'a> = HashMap<&'a str, &'a Model>;

fn channel(
    item: &Item<'_>,
    models: &Models<'_>,
    defaults: &Defaults,
    seen: &mut HashSet<String>,
) -> Option<Channel> {
    let object = item.object()?;
    let flag = |name, default| object.get(name).map_or(Some(default), |item| item.flag());
    let id = name(&object, seen);
    let Dialect { provider, base_url, api_version, apis } = dialect(&object);
    let hint = "a list of secrets, or none for an upstream that asks for none";
    let credentials = object.required_with("credentials", hint).map(|item| credentials(&item));
    let served = object.required("models").map(|item| served(&item, models, &apis));
    let enabled = flag("enabled", true);
    let stream_usage = flag("stream_usage", true);
    let trusted = flag("trusted", false);
    let unsupported = unsupported::unsupported(object.get("unsupported"));
    let status_map = object.get("status_map").map(|item| classify::status_map(&item)).unwrap_or_default();
    let limits = limits::limits(object.get("limits"));
    let context_window = object.get("context_window").and_then(|item| item.number(1..=1_000_000_000));
    let pass_headers = object.get("pass_headers").map(|item| pass_headers(&item)).unwrap_or_default();
    let pass_members = object.get("pass_members").map(|item| pass_members(&item)).unwrap_or_default();
    let groups = object.get("groups").map(|item| texts(&item)).unwrap_or_default();
    let http2 = flag("http2", false);
    let ca = object.get("ca").and_then(|item| tls::authorities(&item));
    let sni = object.get("sni").and_then(|item| item.text().map(str::to_owned));
    let video = object.get("video").and_then(|item| video::kind(&item));
    let timeouts = timeouts(&object, defaults.timeouts);
    let attempts = attempts(&object, defaults.attempts);
    let priority = object.get("priority").map_or(Some(0), |item| item.number(0..=1_000));
    let weight = object.get("weight").map_or(Some(1), |item| item.number(0..=1_000_000));
    object.finish();
    Some(Channel {
        id: id?,
        enabled: enabled?,
        provider: provider?,
        base_url: base_url?,
        api_version,
        credentials: credentials?,
        models: served?,
        apis,
        stream_usage: stream_usage?,
        unsupported,
        status_map,
        context_window,
        http2: http2?,
        ca,
        limits,
        trusted: trusted?,
        pass_headers,
        pass_members,
        groups,
        sni,
        video,
        timeouts,
        attempts,
        priority: priority?,
        weight: weight?,
    })
}

/// A list of secrets, or the word `none` for an upstream that asks for none.
fn credentials(item: &Item<'_>) -> Vec<super::Secret> {
    item.as_form(Form::OneOf(vec!["none"]));
    match &item.node.value {
        Value::Text(word) if **word == *"none" => return Vec::new(),
        Value::List(list) if list.is_empty() => {
            item.refuse_with("must not be empty", "write none for an upstream that asks for none");
        }
        _ => {}
    }
    item.list().iter().filter_map(secret::read).collect()
}

fn served(item: &Item<'_>, models: &Models<'_>, apis: &[Api]) -> Vec<(String, String)> {
    let entries = item.entries();
    if entries.is_empty() {
        item.refuse("must name at least one model");
    }
    entries
        .iter()
        .filter_map(|(public, item)| {
            match models.get(public) {
                None => item.refuse("is not under models"),
                Some(model) if !apis.iter().any(|api| model.kind.speaks(*api)) => {
                    item.warn("cannot be called here: the channel speaks no API of such a model");
                }
                Some(_) => {}
            }
            let upstream = item.text()?;
            if upstream.is_empty() {
                item.refuse("must be the upstream's name of the model");
            }
            Some(((*public).to_owned(), upstream.to_owned()))
        })
        .collect()
}

fn texts(item: &Item<'_>) -> Vec<String> {
    item.list().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

fn pass_members(item: &Item<'_>) -> Arc<[String]> {
    let list = item.list();
    if list.len() > PASS_MEMBERS_MAX {
        item.refuse(format!("has more than {PASS_MEMBERS_MAX} names"));
    }
    let name = |item: &Item<'_>| {
        let text = item.text()?;
        if !(1..=MEMBER_NAME_MAX).contains(&text.len()) {
            item.refuse(format!("is no member name of 1 to {MEMBER_NAME_MAX} bytes"));
        } else if matches!(text, "id" | "model" | "response_id") {
            item.refuse("is the gateway's own; only `trusted: true` passes the upstream's");
        }
        Some(text.to_owned())
    };
    list.iter().filter_map(name).collect()
}

fn pass_headers(item: &Item<'_>) -> Vec<HeaderName> {
    let header = |item: &Item<'_>| {
        let text = item.text()?;
        match text.parse::<HeaderName>() {
            Ok(name) if NEVER_PASSED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") => {
                item.refuse("is a field that is never passed on");
                None
            }
            Ok(name) => Some(name),
            Err(_) => {
                item.refuse("is no header name");
                None
            }
        }
    };
    item.list().iter().filter_map(header).collect()
}
