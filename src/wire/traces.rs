//! Members of answers that tell who gave them (spec 1.5, 2.8), as lists.
//!
//! They stand at the top of an answer, in its choices or images, or beside the figures of its usage; what stands deeper
//! is content. Gemini's `extra_content`, with the signatures without which a conversation with tools cannot go on, is not
//! among them.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// At the top of any answer, and of any chunk.
pub(super) const UPSTREAM_ONLY: [&str; 21] = [
    "system_fingerprint",
    "service_tier",
    "provider",
    "x_groq",
    "request_id",
    "timings",
    "time_info",
    "prompt_filter_results",
    "prompt_annotations",
    "content_filters",
    "billing",
    "base_resp",
    "extra_fields",
    "provider_metadata",
    "perf_metrics",
    "nvext",
    "kv_transfer_params",
    "__verbose",
    "amazon-bedrock-invocationMetrics",
    "amazon-bedrock-guardrailAction",
    "amazon-bedrock-trace",
];

/// What Azure's filters found, in choices and images, and what a relay says of the provider behind it. Where something was
/// held back, the finish reason, which passes, says so.
pub(super) const FINDINGS: &[&str] = FINDINGS_AND_USAGE.split_at(1).1;

/// The same in a chunk whose choices have a usage of their own (spec 1.6).
pub(super) const FINDINGS_AND_USAGE: &[&str] = &[
    "usage",
    "native_finish_reason",
    "content_filter_results",
    "content_filter_result",
    "content_filter_offsets",
    "content_filter_raw",
    "prompt_filter_results",
];

/// Tiers, regions, times and prices of the upstream, beside the figures of a usage.
pub(super) const BESIDE_USAGE: &[&str] = &[
    "service_tier",
    "inference_geo",
    "cost",
    "cost_details",
    "is_byok",
    "queue_time",
    "prompt_time",
    "completion_time",
    "total_time",
    "extra_properties",
    "cost_in_usd_ticks",
    "estimated_cost",
    "time_to_first_token",
    "total_latency",
    "start_time",
    "end_time",
    "acceptance_rate",
    "total_tokens_per_sec",
    "completion_tokens_per_sec",
    "completion_tokens_after_first_per_sec",
    "completion_tokens_after_first_per_sec_first_ten",
    "completion_tokens_after_first_per_sec_graph",
];

/// What the names of all findings have in common.
static FINDING: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new("_filter_"), Finder::new("native_finish_reason")]);

/// Whether an answer, or a chunk of one, may have findings of filters in it. Most have none, and are not looked into: a
/// look inside costs several times what the copy costs.
pub(super) fn may_have_findings(json: &[u8]) -> bool {
    FINDING.iter().any(|finder| finder.find(json).is_some())
}

#[cfg(test)]
mod tests {
    use crate::wire::answer::{Identity, rewrite};

    /// Goal: what filters found is left out of choices and images, wherever it stands in them, and what looks like it is left
    /// alone; what stands beside the figures of a usage goes (spec 1.5, 2.8).
    #[test]
    fn nothing_tells_of_an_upstreams_filters_and_tiers() {
        for (before, after) in [
            (
                r#"{"choices":[{"content_filter_results":{"hate":{"filtered":false}},"index":0,"message":{"content":"a \"content_filter_results\"","tool_calls":[{"function":{"arguments":"{\"content_filter_raw\":1}"}}]},"finish_reason":"stop"},{"index":1,"content_filter_offsets":{}}],"prompt_filter_results":[{"prompt_index":0}]}"#,
                r#"{"choices":[{"index":0,"message":{"content":"a \"content_filter_results\"","tool_calls":[{"function":{"arguments":"{\"content_filter_raw\":1}"}}]},"finish_reason":"stop"},{"index":1}]}"#,
            ),
            (
                r#"{"created":1,"data":[{"b64_json":"AA==","content_filter_results":{},"prompt_filter_results":{},"revised_prompt":"x"}]}"#,
                r#"{"created":1,"data":[{"b64_json":"AA==","revised_prompt":"x"}]}"#,
            ),
            (
                r#"{"output":[{"type":"message"}],"content_filters":[{"blocked":false}]}"#,
                r#"{"output":[{"type":"message"}]}"#,
            ),
            (
                r#"{"choices":[{"index":0,"finish_reason":"stop","native_finish_reason":"STOP"}],"usage":{"prompt_tokens":1,"extra_properties":{"google":{"traffic_type":"ON_DEMAND"}}},"extra_fields":{"provider":"x"},"base_resp":{"status_code":0}}"#,
                r#"{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            ),
            (
                r#"{"object":"response","output":[],"response_id":"resp_1"}"#,
                r#"{"object":"response","output":[],"response_id":"g"}"#,
            ),
            (
                r#"{"content":[],"usage":{"input_tokens":1,"service_tier":"standard","inference_geo":"eu","output_tokens":1.0}}"#,
                r#"{"content":[],"usage":{"input_tokens":1,"output_tokens":1.0}}"#,
            ),
        ] {
            assert_eq!(&rewrite(before.as_bytes(), Identity::new("g", "m")).0[..], after.as_bytes());
            let trusted = rewrite(before.as_bytes(), Identity::new("g", "m").unchanged()).0;
            assert_eq!(&trusted[..], before.as_bytes());
        }
        assert_eq!(&Identity::new("g", "m").usage(br#"{"a":1,"cost":2}"#)[..], br#"{"a":1}"#);
    }
}
