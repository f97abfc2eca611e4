//! The rules that judge an upstream's failure, as ordered data (spec 3.4): the first row that matches wins.
//!
//! Rows with codes come before rows with text, because messages echo what clients write. What text may do is bounded by
//! [`super::rule::Evidence`]. A new provider is one row and one test in `classify_tests.rs`.

use super::reading::Form;
use super::rule::{Row, Texts};
use crate::core::failure::{Class, Effect, Next};

use Class::{
    AccountEmpty, AddressRefused, BodyTooLarge, Broken, CallerMistake, ContentRefused, ContextTooLong,
    CredentialRefused, Misconfigured, ModelMissing, NotUnderstood, Overloaded, RateLimited, TooLargeForTier,
};

const CLIENT: &[(u16, u16)] = &[(400, 499)];
/// Statuses that blame the request.
pub const REQUEST: &[(u16, u16)] = &[(400, 400), (409, 409), (413, 413), (415, 415), (422, 422)];
/// Statuses under which a text may speak of the request; a 2xx that carries an error is one of them.
const ABOUT_REQUEST: &[(u16, u16)] = &[(200, 299), (400, 400), (413, 413), (422, 422), (500, 500)];
/// Statuses under which a text may speak of load.
const LOAD: &[(u16, u16)] = &[(200, 299), (408, 408), (429, 429), (498, 499), (500, 599)];
/// What a server on the way answers, instead of a provider.
const PAGES: &[Form] = &[Form::Html, Form::Text, Form::Binary, Form::Empty, Form::Blank];

/// What an input can be too long in.
const LENGTHS: Texts = &[
    &["context length"],
    &["context window"],
    &["context size"],
    &["context limit"],
    &["max_seq_len"],
    &["max_model_len"],
    &["n_ctx"],
    &["sequence length"],
    &["token limit"],
    &["prompt length"],
    &["input length"],
    &["input tokens"],
    &["input token count"],
    &["prompt tokens"],
    &["prompt token count"],
    &["message tokens"],
    &["prompt is too long"],
    &["prompt too long"],
    &["input is too long"],
    &["input too long"],
    &["prompt exceeds"],
    &["inputs", "tokens"],
    &["tokens", "must be <="],
    &["must have less than", "tokens"],
    &["maximum model length"],
    &["prompt", "longer than"],
    &["conversation", "tokens"],
    &["上下文"],
    &["最大长度"],
    &["输入长度"],
    &["超长"],
];
/// How a text says that it is.
const EXCESS: Texts = &[
    &["exceed"],
    &["too long"],
    &["too many"],
    &["longer than"],
    &["greater than"],
    &["larger than"],
    &["less than"],
    &["maximum"],
    &["must be <="],
    &["reduce the length"],
    &["should be ["],
    &["only"],
    &["over the"],
    &["超"],
    &["过长"],
    &["大于"],
];
/// What speaks of the length of the answer and not of the input.
const OUTPUT: Texts =
    &[&["maximum tokens you requested"], &["number of output tokens"], &["completion tokens, whereas"]];

/// The built-in rules, in order.
pub const ROWS: &[Row] = &[
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
    // Money, under any status.
    Row::new("code: account empty", AccountEmpty).codes(&[
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credit*",
        "insufficient_funds",
        "billing_hard_limit_reached",
        "billing_limit*",
        "billing_not_active",
        "billing",
        "exceeded_current_quota",
        "arrearage",
        "account_overdue",
        "account_on_hold",
        "organization_on_hold",
        "organization_restricted",
        "credits_required",
        "credit_limit*",
        "payment_required",
        "spend_limit*",
        "enforced_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "personal_team_blocked*",
        "allocation_quota.free_tier_only",
        "access_denied.unpurchased",
        "budget_exceeded",
        "pre_consume_token_quota_failed",
        "quota_not_enough",
        "base_resp.1008",
    ]),
    Row::new("code: account empty, by Zhipu", AccountEmpty).status(&[(429, 429)]).codes(&["1112", "1113"]),
    Row::new("text: too large per minute", TooLargeForTier)
        .status(&[(400, 400), (413, 413), (429, 429)])
        .texts(&[
            &["request too large", "per min"],
            &["request too large", "tpm"],
            &["too large", "tokens per minute"],
            &["usage is required for long context"],
        ]),
    // Limits over a time come back by themselves, whatever they say about plans.
    Row::new("text: a limit over a time", RateLimited)
        .status(&[(200, 299), (402, 403), (429, 429)])
        .texts(&[
            &["rate limit"],
            &["per day"],
            &["per-day"],
            &["per minute"],
            &["per hour"],
            &["daily", "allocation"],
            &["daily", "limit"],
            &["rolling", "window"],
            &["quota refresh"],
            &["hour usage limit"],
            &["hour limit"],
            &["weekly", "limit"],
            &["will reset at"],
            &["resets at"],
        ])
        .unless(&[
            &["overload"],
            &["free tier", "exhausted"],
            &["spend limit"],
            &["trial key"],
            &["limit: 0,"],
            &["limit: 0 "],
        ]),
    // Google: the status is the same for a limit of ours, a lack of capacity and an empty account.
    Row::new("Google: no quota for this model", ModelMissing)
        .codes(&["resource_exhausted"])
        .texts(&[&["limit: 0,"], &["limit: 0 "]]),
    Row::new("Google: prepaid credits are used up", AccountEmpty).codes(&["resource_exhausted"]).texts(&[
        &["prepay"],
        &["credits", "depleted"],
        &["spending cap"],
        &["billing account"],
    ]),
    Row::new("Google: capacity", Overloaded)
        .codes(&["resource_exhausted", "model_capacity_exhausted"])
        .texts(&[&["capacity"], &["resource exhausted", "try again later"], &["overload"]]),
    Row::new("Google: rate limited", RateLimited).codes(&["resource_exhausted"]),
    Row::new("text: account empty", AccountEmpty).status(&[(200, 299), (400, 499), (500, 500)]).texts(&[
        &["credit balance"],
        &["insufficient", "balance"],
        &["insufficient", "credit"],
        &["insufficient", "funds"],
        &["insufficient", "quota"],
        &["insufficient_quota"],
        &["not enough", "credit"],
        &["not enough", "balance"],
        &["out of credit"],
        &["out of funds"],
        &["credits", "expired"],
        &["credits", "exhausted"],
        &["credits", "depleted"],
        &["available credits"],
        &["any credits"],
        &["credit limit"],
        &["spend limit"],
        &["spending limit"],
        &["spend cap"],
        &["usage threshold"],
        &["monthly included credits"],
        &["exceeded your current quota"],
        &["key limit exceeded"],
        &["trial key"],
        &["free trial"],
        &["free tier"],
        &["overdue"],
        &["past invoices"],
        &["enable billing"],
        &["top up"],
        &["budget", "exceeded"],
        &["organization has been restricted"],
        &["organization has been disabled"],
        &["account", "suspended"],
        &["account is not active"],
        &["余额不足"],
        &["余额"],
        &["额度不足"],
        &["配额不足"],
        &["额度已用"],
        &["欠费"],
        &["充值"],
    ]),
    Row::new("text: usage limit of the account", AccountEmpty)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["usage limits"], &["regain access"]]),
    Row::new("status: payment required", AccountEmpty).status(&[(402, 402)]),
    // That an organisation is not verified is ours, whatever field it shows at.
    Row::new("text: our organisation is not verified", ModelMissing)
        .status(&[(400, 400), (403, 403)])
        .texts(&[&["organization must be verified"], &["verify organization"]])
        .firm(),
    // A capability that our account, our server or our address lacks, before the codes that name the key.
    Row::new("text: model not for us", ModelMissing)
        .status(&[(400, 400), (401, 401), (403, 403), (404, 404), (422, 422)])
        .texts(&[
            &["access to the model"],
            &["access to model"],
            &["not allowed to sample from this model"],
            &["model disabled"],
            &["model is disabled"],
            &["does not have access to model"],
            &["no permission to use the model"],
            &["无权使用模型"],
            &["无权访问"],
        ]),
    Row::new("code: address refused", AddressRefused)
        .codes(&[
            "unsupported_country_region_territory",
            "region_not_supported",
            "unsupported_region",
            "ip_not_allowed",
            "ip_not_authorized",
        ])
        .effect(Effect::ChannelOut),
    Row::new("text: address refused", AddressRefused)
        .status(&[(400, 400), (401, 401), (403, 403), (451, 451)])
        .texts(&[
            &["country, region, or territory"],
            &["location is not supported"],
            &["not available in your", "region"],
            &["not available in your country"],
            &["not supported in your", "region"],
            &["public access is disabled"],
            &["network settings"],
            &["firewall rules"],
            &["ip address", "not allowed"],
            &["ip address", "not authorized"],
            &["ip not in", "whitelist"],
            &["request not allowed"],
            &["your ip"],
        ])
        .effect(Effect::ChannelOut),
    // A refusal of content can be a 403, and has to be told from one of the key.
    Row::new("text: content refused with 403", ContentRefused).status(&[(403, 403)]).texts(POLICY_TEXTS),
    // Our credential.
    Row::new("code: credential refused", CredentialRefused).codes(&[
        "invalid_api_key",
        "api_key_invalid",
        "api_key_not_found",
        "api_key_expired",
        "api_key_disabled",
        "incorrect_api_key",
        "invalid_key",
        "invalid_token",
        "token_expired",
        "token_invalid",
        "authentication",
        "authentication_failed",
        "invalid_authentication",
        "invalid_auth*",
        "unauthenticated",
        "unauthorized",
        "unrecognized_client",
        "invalid_client_token_id",
        "expired_token",
        "access_denied",
        "permission_denied",
        "account_deactivated",
        "account_disabled",
        "user_deactivated",
        "organization_deactivated",
        "service_disabled",
        "consumer_suspended",
        "consumer_invalid",
        "api_key_service_blocked",
        "base_resp.1004",
        "base_resp.2049",
    ]),
    Row::new("text: credential refused", CredentialRefused)
        .status(&[(200, 299), (400, 400), (401, 401), (403, 403)])
        .texts(&[
            &["api key not valid"],
            &["api key not found"],
            &["api key expired"],
            &["incorrect api key"],
            &["invalid api key"],
            &["invalid api-key"],
            &["invalid token"],
            &["invalid api token"],
            &["api key is invalid"],
            &["api key provided is invalid"],
            &["无效的令牌"],
            &["令牌已过期"],
        ]),
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
    // Texts, of the first 600 characters.
    Row::new("text: context length", ContextTooLong)
        .status(ABOUT_REQUEST)
        .texts(LENGTHS)
        .also(EXCESS)
        .unless(OUTPUT),
    Row::new("text: body too large", BodyTooLarge)
        .status(&[(400, 400), (413, 413), (422, 422)])
        .texts(&[
            &["payload size exceeds"],
            &["payload too large"],
            &["request size", "exceed"],
            &["request body", "too large"],
            &["maximum", "number of bytes"],
            &["request entity too large"],
        ])
        .unless(&[&["context"]])
        .next(Next::Stop),
    Row::new("text: context length by size", ContextTooLong)
        .status(ABOUT_REQUEST)
        .texts(&[&["request size", "context"], &["exceed", "token", "prompt"], &["exceed", "token", "input"]])
        .unless(OUTPUT),
    Row::new("text: content refused", ContentRefused)
        .status(&[(200, 299), (400, 400), (422, 422), (451, 451)])
        .texts(POLICY_TEXTS),
    Row::new("text: wrong endpoint", CallerMistake).status(&[(400, 400), (404, 404), (422, 422)]).texts(&[
        &["only supported in", "/"],
        &["not a chat model"],
        &["use", "endpoint instead"],
        &["not supported in the", "endpoint"],
        &["did you mean to use", "/"],
    ]),
    Row::new("text: a thing of the caller's not found", CallerMistake)
        .status(&[(404, 404)])
        .texts(&[
            &["file not found"],
            &["no such file"],
            &["file", "not found"],
            &["previous response"],
            &["response with id"],
            &["item with id"],
            &["conversation with id"],
            &["container", "not found"],
            &["vector store"],
        ])
        .unless(&[&["model"]]),
    Row::new("text: api version", Misconfigured)
        .status(&[(400, 400), (404, 404)])
        .texts(&[
            &["api version", "enabled only"],
            &["only for api versions"],
            &["api-version"],
            &["api version not supported"],
            &["unsupported api version"],
        ])
        .unless(&[&["is not found for api version"]]),
    Row::new("text: model missing", ModelMissing)
        .status(&[(200, 299), (400, 400), (404, 404), (422, 422)])
        .texts(&[
            &["model", "does not exist"],
            &["model", "not found"],
            &["models/", "not found"],
            &["not found", "model"],
            &["model", "no longer available"],
            &["unknown model"],
            &["model identifier", "invalid"],
            &["does not work with the specified model"],
            &["model", "has been retired"],
            &["model", "is deprecated"],
            &["model", "not available"],
            &["invalid model"],
            &["unsupported model"],
            &["model is not supported"],
            &["model not supported"],
            &["is not a supported model"],
            &["supported models are"],
            &["not a valid model"],
            &["no endpoints found"],
            &["decommissioned"],
            &["does not support tools"],
            &["does not support tool use"],
            &["does not support embeddings"],
            &["tool choice requires"],
            &["template not found"],
            &["on-demand throughput"],
            &["not yet available for this subscription"],
            &["no available channel"],
            &["模型不存在"],
            &["不存在", "模型"],
            &["不支持的模型"],
        ]),
    Row::new("text: no channel at a relay", ModelMissing)
        .status(&[(400, 599)])
        .texts(&[&["无可用渠道"], &["no available channel"]]),
    Row::new("status: 404 about a model", ModelMissing)
        .status(&[(404, 404)])
        .forms(&[Form::Json])
        .texts(&[&["model"], &["deployment"], &["function"], &["endpoint"]])
        .unless(&[&["unknown request url"], &["invalid url"]]),
    Row::new("field: the model", ModelMissing)
        .status(&[(400, 400), (404, 404), (422, 422)])
        .params(&["model"]),
    Row::new("text: an unsupported parameter", CallerMistake).status(&[(500, 599)]).texts(UNSUPPORTED),
    // The account guard: what speaks of our money or plan, and names no field, is never the caller's.
    Row::new("guard: words of billing", AccountEmpty).status(CLIENT).words(&[
        "billing",
        "credit",
        "credits",
        "payment",
        "subscription",
        "your plan",
        "your balance",
        "quota",
        "recharge",
        "invoice",
        "purchase",
    ]),
];

const POLICY_TEXTS: Texts = &[
    &["content policy"],
    &["content policies"],
    &["content management policy"],
    &["content filter"],
    &["content_filter"],
    &["content moderation"],
    &["safety system"],
    &["safety_check"],
    &["safety filter"],
    &["safety reasons"],
    &["responsible ai"],
    &["usage polic", "violat"],
    &["usage guidelines"],
    &["terms of service", "violat"],
    &["violates", "polic"],
    &["inappropriate content"],
    &["content violates"],
    &["flagged"],
    &["high risk"],
    &["prohibited content"],
    &["sensitive information"],
    &["sensitive content"],
    &["new_sensitive"],
    &["blocked by", "guardrail"],
    &["blocked by", "polic"],
    &["不安全或敏感"],
    &["敏感"],
    &["违规"],
];
const UNSUPPORTED: Texts =
    &[&["unsupported parameter"], &["unsupported value"], &["unrecognized request argument"]];

/// What a status means when nothing else is known: the last rows of the table.
pub const DEFAULTS: &[Row] = &[
    Row::new("status: 401", CredentialRefused).status(&[(401, 401)]),
    Row::new("status: 403, without a word", CredentialRefused)
        .status(&[(403, 403)])
        .forms(&[Form::Empty, Form::Blank])
        .effect(Effect::CredentialRests),
    Row::new("status: 403", CredentialRefused).status(&[(403, 403)]),
    Row::new("status: 404", Misconfigured).status(&[(404, 405)]),
    Row::new("status: 408", Broken).status(&[(408, 408), (424, 425)]),
    Row::new("status: 499, cancelled", Broken)
        .status(&[(499, 499)])
        .forms(&[Form::Json])
        .effect(Effect::None),
    Row::new("status: 413", BodyTooLarge).status(&[(413, 413)]),
    Row::new("status: 429", RateLimited).status(&[(429, 429)]),
    Row::new("status: undecodable", NotUnderstood).status(REQUEST).forms(&[Form::Binary]),
    Row::new("status: request at fault, without a word", CallerMistake)
        .status(REQUEST)
        .forms(&[Form::Empty, Form::Blank])
        .next(Next::Any),
    Row::new("status: request at fault", CallerMistake).status(REQUEST),
    Row::new("status: 501", Misconfigured).status(&[(501, 501), (505, 505)]),
    Row::new("status: overloaded", Overloaded).status(&[(498, 498), (503, 503), (529, 529)]),
    // Any other 4xx says nothing about the request that a caller could act upon.
    Row::new("status: 4xx", Broken).status(CLIENT),
    Row::new("status: 5xx", Broken).status(&[(500, 599)]),
    Row::new("status: redirect", Misconfigured).status(&[(300, 399)]),
];

/// Codes that providers give to faults of the request alone (spec 3.6: a positive signal).
pub const REQUEST_SCOPED: Row = Row::new("code: request at fault", CallerMistake).codes(&[
    "invalid_value",
    "invalid_type",
    "missing_required_parameter",
    "unsupported_parameter",
    "unsupported_value",
    "unknown_parameter",
    "invalid_function_parameters",
    "invalid_json_schema",
    "invalid_image_url",
    "invalid_image_format",
    "invalid_base64",
    "unsupported_file",
    "unsupported_content_type",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "integer_above_max_value",
    "integer_below_min_value",
    "string_above_max_length",
    "string_below_min_length",
    "array_above_max_length",
    "array_below_min_length",
    "empty_array",
    "empty_string",
    "tool_use_failed",
    "json_validate_failed",
    "invalid_request_message_order",
    "invalid_parameter",
    "invalid_parameter_value",
    "invalid_image*",
    "image_too_large",
    "image_too_small",
    "image_parse*",
    "invalid_encrypted_content",
    "previous_response_not_found",
    "extra_forbidden",
    "missing",
    "base_resp.2013",
]);

/// The row for an error that a 2xx carries and no rule knows.
pub const ERROR_IN_SUCCESS: Row = Row::new("2xx: an error object", Broken);
/// A 2xx without a body.
pub const EMPTY: Row = Row::new("2xx: empty", NotUnderstood);
/// A 2xx of nothing but the blanks that keep a connection alive: it was queued, and given up.
pub const BLANK: Row = Row::new("2xx: blanks alone", Overloaded);
/// A 2xx that is a page: the base URL leads to a web site.
pub const PAGE: Row = Row::new("2xx: a page", NotUnderstood).effect(Effect::ChannelRests);
/// A 2xx that is not JSON where JSON is due.
pub const NOT_JSON: Row = Row::new("2xx: not JSON", NotUnderstood);
/// A 2xx without what was asked for.
pub const NO_CONTENT: Row = Row::new("2xx: no content", NotUnderstood);
/// A 2xx from which every image was taken out.
pub const WITHHELD: Row = Row::new("2xx: images withheld", ContentRefused);
/// The name for a stream that ends properly without any content.
pub const EMPTY_STREAM: &str = "stream: empty";
/// The generic last row.
pub const UNKNOWN: Row = Row::new("unknown", Broken);
