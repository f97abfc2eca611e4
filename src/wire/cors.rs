//! Which pages of other origins may call the gateway from a browser (spec 1.2).
//!
//! Off unless it is configured. Keys travel in header fields that a page sets itself, so credentials of the browser
//! (cookies, client certificates) are never asked for, and any origin may be allowed without lending it anything.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// Fields of answers that pages may read, besides those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
);
const ANY: HeaderValue = HeaderValue::from_static("*");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
/// The longest list of fields that a page may ask for, in bytes.
const ASKED_MAX: usize = 2_048;

/// A header field of an answer.
pub type Field = (HeaderName, HeaderValue);

/// What pages may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The origins whose pages may call; empty for all.
    pub origins: Vec<Box<str>>,
    /// The fields that their requests may have; empty for whatever they ask for.
    pub headers: Vec<HeaderName>,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

impl Policy {
    /// The fields that an answer carries to a request with these.
    #[must_use]
    pub fn answer(&self, request: &HeaderMap) -> Vec<Field> {
        // Caches must not give one page the answer for another.
        let vary = (!self.origins.is_empty()).then_some((VARY, VARY_ORIGIN));
        let allowed = self
            .allowed(request)
            .map(|origin| [(ACCESS_CONTROL_ALLOW_ORIGIN, origin), (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)]);
        vary.into_iter().chain(allowed.into_iter().flatten()).collect()
    }

    /// The fields that answer a preflight for a path with these methods; `None` for what is no preflight of an origin
    /// that may call.
    #[must_use]
    pub fn preflight(&self, request: &HeaderMap, methods: &'static str) -> Option<Vec<Field>> {
        let origin = self.allowed(request)?;
        request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut fields = vec![
            (VARY, VARY_PREFLIGHT),
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods)),
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs())),
        ];
        fields.extend(self.headers(request).map(|headers| (ACCESS_CONTROL_ALLOW_HEADERS, headers)));
        Some(fields)
    }

    /// The origin as it is told that it may call.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.origins.is_empty() {
            return Some(ANY);
        }
        self.origins.iter().any(|own| own.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The fields that a request may have.
    fn headers(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if !self.headers.is_empty() {
            let names: Vec<&str> = self.headers.iter().map(HeaderName::as_str).collect();
            return HeaderValue::from_str(&names.join(", ")).ok();
        }
        let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS)?;
        let names = asked.to_str().ok().filter(|names| names.len() <= ASKED_MAX)?;
        names.split(',').all(|name| name.trim().parse::<HeaderName>().is_ok()).then(|| asked.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str], headers: &[&'static str]) -> Policy {
        Policy {
            origins: origins.iter().map(|origin| (*origin).into()).collect(),
            headers: headers.iter().map(|name| HeaderName::from_static(name)).collect(),
            max_age: Duration::from_secs(600),
        }
    }

    fn request(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn value(fields: &[Field], name: &HeaderName) -> Option<String> {
        let found = fields.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    /// Goal: an origin may call if it is named to the letter, or if all may; caches are told what an answer depends on.
    #[test]
    fn origins_are_matched_exactly() {
        let own = policy(&["https://app.example"], &[]);
        for (origin, allowed) in [
            ("https://app.example", true),
            ("http://app.example", false),
            ("https://app.example:444", false),
            ("https://app.example.evil", false),
            ("https://evil.app.example", false),
            ("null", false),
        ] {
            let fields = own.answer(&request(&[("origin", origin)]));
            assert_eq!(value(&fields, &ACCESS_CONTROL_ALLOW_ORIGIN), allowed.then(|| origin.to_owned()));
            assert_eq!(value(&fields, &VARY).as_deref(), Some("Origin"), "{origin}");
        }
        assert_eq!(own.answer(&HeaderMap::new()), [(VARY, VARY_ORIGIN)]);
        let any = policy(&[], &[]).answer(&request(&[("origin", "null")]));
        assert_eq!(value(&any, &ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), Some("*"));
        assert_eq!((value(&any, &VARY), policy(&[], &[]).answer(&HeaderMap::new())), (None, vec![]));
    }

    /// Goal: a preflight is told methods, fields and how long that holds; what is no preflight is not answered.
    #[test]
    fn preflights_are_told_what_may_be_sent() {
        let asked = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization, x-stainless-os"),
        ];
        let fields = policy(&[], &[]).preflight(&request(&asked), "POST").unwrap();
        let headers = value(&fields, &ACCESS_CONTROL_ALLOW_HEADERS);
        assert_eq!(headers.as_deref(), Some("authorization, x-stainless-os"));
        assert_eq!(value(&fields, &ACCESS_CONTROL_ALLOW_METHODS).as_deref(), Some("POST"));
        assert_eq!(value(&fields, &ACCESS_CONTROL_MAX_AGE).as_deref(), Some("600"));
        let fields =
            policy(&[], &["authorization", "content-type"]).preflight(&request(&asked), "POST").unwrap();
        let headers = value(&fields, &ACCESS_CONTROL_ALLOW_HEADERS);
        assert_eq!(headers.as_deref(), Some("authorization, content-type"));
        let odd = request(&[asked[0], asked[1], ("access-control-request-headers", "a b, (c)")]);
        let fields = policy(&[], &[]).preflight(&odd, "POST").unwrap();
        assert_eq!(value(&fields, &ACCESS_CONTROL_ALLOW_HEADERS), None);
        assert_eq!(policy(&[], &[]).preflight(&request(&asked[..1]), "POST"), None);
        assert_eq!(policy(&[], &[]).preflight(&request(&asked[1..]), "POST"), None);
        assert_eq!(policy(&["https://other.example"], &[]).preflight(&request(&asked), "POST"), None);
    }
}
