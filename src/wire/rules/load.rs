//! Load, rate and defects of a provider: load before rate, because several providers report it under rate codes and it
//! weighs less.

use super::words::{LOAD, UNSUPPORTED};
use crate::core::failure::{Class, Effect};
use crate::wire::rule::Row;
use Class::{Broken, NotUnderstood, Overloaded, RateLimited};

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // Load, before rate codes: several providers report it under them, and it weighs less.
    Row::new("code: overloaded", Overloaded).codes(&[
        "overloaded",
        "engine_overloaded",
        "server_overloaded",
        "server_is_overloaded",
        "system_*_overloaded",
        "system_cpu_overloaded",
        "system_disk_overloaded",
        "system_memory_overloaded",
        "model_overloaded",
        "capacity_exceeded",
        "service_tier_capacity_exceeded",
        "model_capacity_exhausted",
        "no_capacity",
        "queue_exceeded",
        "service_unavailable",
        "model_not_ready",
        "resource_unavailable",
        "finish_insufficient_system_resource",
    ]),
    Row::new("code: overloaded, by Zhipu", Overloaded).status(&[(429, 429)]).codes(&["1305", "1312"]),
    Row::new("text: overloaded", Overloaded).status(LOAD).texts(&[
        &["overload"],
        &["at capacity"],
        &["capacity available"],
        &["no capacity"],
        &["out of capacity"],
        &["capacity exceeded"],
        &["capacity temporarily exceeded"],
        &["high traffic"],
        &["high demand"],
        &["heavy load"],
        &["server busy"],
        &["too busy"],
        &["is loading"],
        &["currently loading"],
        &["no deployments available"],
        &["pending requests"],
        &["receiving too many requests"],
        &["负载已饱和"],
        &["负载"],
        &["访问量过大"],
        &["繁忙"],
    ]),
    Row::new("code: rate limited", RateLimited)
        .codes(&[
            "rate_limit",
            "rate_limit_exceeded*",
            "rate_limit_reached*",
            "rate_limited",
            "throttling*",
            "too_many_requests",
            "limit_burst_rate",
            "slow_down",
            "ramp_limit_exceeded",
            "quota_exceeded",
            "service_quota_exceeded",
            "model_rate_limit",
            "limit_requests",
            "limit_tokens",
            "base_resp.1002",
            "base_resp.1039",
            "base_resp.1041",
            "base_resp.2056",
        ])
        .status(&[(200, 299), (400, 499), (500, 500)]),
    Row::new("code: rate limited, by Zhipu", RateLimited)
        .status(&[(429, 429)])
        .codes(&["1302", "1303", "1304", "1308", "1309", "1310"]),
    Row::new("code: server error", Broken)
        .codes(&[
            "server",
            "internal_server",
            "internal",
            "internal_service",
            "api",
            "model",
            "model_timeout",
            "model_stream",
            "timeout",
            "deadline_exceeded",
            "request_timeout",
            "request_time_out",
            "do_request_failed",
            "bad_response*",
            "upstream*",
            "incomplete_generation",
            "base_resp.1000",
            "base_resp.1001",
            "base_resp.1013",
            "base_resp.1024",
            "base_resp.1033",
        ])
        .status(&[(200, 299), (408, 408), (424, 424), (500, 599)])
        .unless(UNSUPPORTED),
    // What the model made is useless, and the channel is as well as before.
    Row::new("code: a malformed call", NotUnderstood).codes(&["finish_malformed*"]).effect(Effect::None),
];
