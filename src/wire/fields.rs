//! Header fields of a trusted upstream's answer that pass to the client (spec 1.5); of others none does (spec 2.8).
//!
//! Everything passes but what speaks of the one connection it came by, what the gateway says itself, and what would bind a
//! client to the upstream's origin: cookies, which are not sent on to upstreams either, and other ways to reach it.

use super::cors::Field;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

/// Fields that never pass, in lower case.
const KEPT_BACK: [&str; 21] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "content-type",
    "date",
    "cache-control",
    "x-request-id",
    "request-id",
    "x-accel-buffering",
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "vary",
];

/// The fields that pass, in their order.
#[must_use]
pub fn of_trusted(answer: &HeaderMap) -> Vec<Field> {
    let named: Vec<&str> = answer
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .collect();
    let passes = |(name, _): &(&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        !KEPT_BACK.contains(&name)
            && !name.starts_with("access-control-")
            && !named.iter().any(|hop| hop.eq_ignore_ascii_case(name))
    };
    answer.iter().filter(passes).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is the upstream's own to say passes, also more than once; what belongs to the connection, to the gateway or
    /// to the upstream's origin does not.
    #[test]
    fn what_is_not_of_the_connection_passes() {
        let mut answer = HeaderMap::new();
        for (name, value) in [
            ("openai-processing-ms", "12"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("x-request-id", "theirs"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("server", "them"),
        ] {
            answer.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value));
        }
        let passed = of_trusted(&answer);
        let mut told: Vec<_> = passed.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        told.sort_unstable();
        let expected = [("openai-processing-ms", "12"), ("server", "them"), ("x-many", "1"), ("x-many", "2")];
        assert_eq!(told, expected);
    }
}
