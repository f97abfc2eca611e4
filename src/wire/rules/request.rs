//! Pages, and codes that name a fault of the request, of the route or of the model (spec 3.4): before any text, because such
//! messages echo what clients write.

use super::words::{CLIENT, LENGTHS, PAGES};
use crate::core::failure::{Class, Next};
use crate::wire::reading::Form;
use crate::wire::rule::Row;
use Class::{AddressRefused, BodyTooLarge, ContentRefused, ContextTooLong, Misconfigured, ModelMissing};

/// The rows, in order.
pub(super) const ROWS: &[Row] = &[
    // Bodies that are no report of a provider: pages of the way there.
    Row::new("page: our address is blocked", AddressRefused).status(CLIENT).forms(PAGES).texts(&[
        &["error code: 10"],
        &["error 10", "cloudflare"],
        &["attention required"],
        &["just a moment"],
        &["you have been blocked"],
        &["access denied", "reference #"],
        &["request blocked"],
        &["captcha"],
    ]),
    Row::new("page: 403", AddressRefused).status(&[(403, 403)]).forms(&[Form::Html]),
    Row::new("page: body too large", BodyTooLarge).status(&[(413, 413)]).forms(PAGES).unless(LENGTHS),
    Row::new("page: not found", Misconfigured).status(&[(404, 405)]).forms(PAGES),
    Row::new("page: 4xx", Misconfigured)
        .status(&[(400, 400), (402, 402), (406, 407), (409, 412), (414, 428), (430, 498)])
        .forms(&[Form::Html]),
    // Exceptions that gateways of clouds name about signatures and routes, not about keys.
    Row::new("code: signature or route", Misconfigured).codes(&[
        "missing_authentication_token",
        "invalid_signature",
        "signature_does_not_match",
        "request_expired",
        "unknown_url",
        "unknown_operation",
        "invalid_api_version_parameter",
        "api_version_unsupported",
        "not_supported",
    ]),
    // Codes for faults of the request, before any text: such messages echo the prompt.
    Row::new("code: context length", ContextTooLong).codes(&[
        "context_length_exceeded",
        "context_length",
        "context_too_large",
        "context_window_exceeded",
        "context_window_exceeds_limit",
        "model_max_prompt_tokens_exceeded",
        "max_prompt_tokens_exceeded",
        "prompt_too_long",
        "input_too_long",
        "exceed_context_size",
        "tokens_limit_exceeded",
        "string_above_max_length_tokens",
        "finish_model_context_window_exceeded",
    ]),
    Row::new("code: a long text", ContextTooLong).codes(&["string_above_max_length"]).params(&[
        "input*",
        "prompt*",
        "messages*",
        "system*",
        "instructions",
    ]),
    Row::new("code: context length, by Zhipu", ContextTooLong).status(&[(400, 400)]).codes(&["1261"]),
    Row::new("code: content policy", ContentRefused).codes(&[
        "content_policy_violation",
        "content_policy",
        "content_filter*",
        "content_blocked",
        "content_moderation*",
        "contains_sensitive*",
        "moderation_blocked",
        "moderation*",
        "data_inspection_failed",
        "data_inspection*",
        "responsible_ai_policy_violation",
        "sensitive_words_detected",
        "sensitive_content_detected*",
        "input_text_sensitive*",
        "input_image_sensitive*",
        "output_text_sensitive*",
        "output_image_sensitive*",
        "image_generation_user",
        "cyber_policy*",
        "safety*",
        "invalid_prompt",
        "prompt_blocked",
        "prohibited_content",
        "guardrail*",
        "risk_control*",
        "finish_safety",
        "finish_prohibited_content",
        "finish_blocklist",
        "base_resp.1026",
        "base_resp.1027",
    ]),
    Row::new("code: content policy, by Zhipu", ContentRefused).status(&[(400, 400)]).codes(&["1301"]),
    Row::new("code: body too large", BodyTooLarge)
        .codes(&["request_too_large", "payload_too_large", "request_entity_too_large", "body_too_large"])
        .unless(&[&["per min"], &["tpm"]])
        .next(Next::Stop),
    Row::new("code: model missing", ModelMissing).codes(&[
        "model_not_found",
        "deployment_not_found",
        "model_not_available",
        "model_unavailable",
        "model_not_supported",
        "model_decommissioned",
        "model_deprecated",
        "model_terms_required",
        "model_permission_blocked*",
        "unknown_model",
        "unsupported_model",
        "invalid_model*",
        "invalid_endpoint_or_model*",
        "model_not_open",
        "model_closed",
        "model.access_denied",
        "operation_not_supported",
        "permission",
        "resource_not_found",
        "no_such_model",
    ]),
    Row::new("code: model missing, by Zhipu", ModelMissing).status(CLIENT).codes(&["1211", "1220"]),
];
