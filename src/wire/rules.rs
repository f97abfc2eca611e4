//! The rules that judge an upstream's failure, as ordered data (spec 3.4): the first row that matches wins.
//!
//! A row looks at status, codes and text of one report. Rows with codes come before rows with text, because messages
//! echo what the client wrote: a text may refine what the client sees, but only codes and statuses can take a
//! credential or a channel out (spec 3.5, [`Row::effect`]). A new provider is one row and one test.

use super::reading::{Form, Report};
use crate::core::failure::{Class, Effect};

/// One rule: every part that is given has to match.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, for the operator.
    pub name: &'static str,
    /// What it says.
    pub class: Class,
    statuses: &'static [(u16, u16)],
    codes: &'static [&'static str],
    /// Alternatives, each a list of words that all occur.
    texts: &'static [&'static [&'static str]],
    forms: &'static [Form],
}

impl Row {
    const fn new(name: &'static str, class: Class) -> Self {
        Self { name, class, statuses: &[], codes: &[], texts: &[], forms: &[] }
    }

    /// With a status inside one of these ranges, ends included.
    const fn status(mut self, statuses: &'static [(u16, u16)]) -> Self {
        self.statuses = statuses;
        self
    }

    /// With one of these codes, in lower case.
    const fn codes(mut self, codes: &'static [&'static str]) -> Self {
        self.codes = codes;
        self
    }

    /// With all words of one of these lists, in lower case.
    const fn texts(mut self, texts: &'static [&'static [&'static str]]) -> Self {
        self.texts = texts;
        self
    }

    /// In a body of one of these forms.
    const fn forms(mut self, forms: &'static [Form]) -> Self {
        self.forms = forms;
        self
    }

    /// Whether the row speaks of this report.
    #[must_use]
    pub fn matches(&self, status: u16, form: Form, report: &Report) -> bool {
        (self.statuses.is_empty() || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)))
            && (self.forms.is_empty() || self.forms.contains(&form))
            && (self.codes.is_empty() || report.codes.iter().any(|code| self.codes.contains(&code.as_str())))
            && (self.texts.is_empty()
                || self.texts.iter().any(|words| words.iter().all(|word| report.text.contains(word))))
    }

    /// A 2xx without a body.
    pub const EMPTY: Self = Self::new("2xx: empty", Class::NotUnderstood);
    /// A 2xx that is not JSON where JSON is due.
    pub const NOT_JSON: Self = Self::new("2xx: not JSON", Class::NotUnderstood);
    /// A 2xx without what was asked for.
    pub const NO_CONTENT: Self = Self::new("2xx: no content", Class::NotUnderstood);

    /// Whether the row believes text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        !self.texts.is_empty()
    }

    /// What the row does to channel or credential: text alone never takes a credential out (spec 3.5).
    #[must_use]
    pub fn effect(&self) -> Effect {
        let by_text_alone = !self.texts.is_empty() && self.codes.is_empty() && !self.names_401();
        match self.class.effect() {
            Effect::CredentialOut if by_text_alone => Effect::CredentialRests,
            effect => effect,
        }
    }

    /// A status that speaks of our credential or our account whatever the text says.
    fn names_401(&self) -> bool {
        !self.statuses.is_empty() && self.statuses.iter().all(|(from, to)| *from >= 401 && *to <= 402)
    }

    /// Whether the row was decided by a code that providers give to faults of the request.
    #[must_use]
    pub fn is_request_scoped(&self) -> bool {
        self.class == Class::CallerMistake && !self.codes.is_empty()
    }
}

use Class::{
    AccountEmpty, AddressRefused, BodyTooLarge, Broken, CallerMistake, ContentRefused, ContextTooLong,
    CredentialRefused, Misconfigured, ModelMissing, NotUnderstood, Overloaded, RateLimited, TooLargeForTier,
};

const CLIENT: &[(u16, u16)] = &[(400, 499)];
const REQUEST: &[(u16, u16)] = &[(400, 400), (409, 409), (413, 413), (415, 415), (422, 422)];
const PAGES: &[Form] = &[Form::Html, Form::Text, Form::Binary, Form::Empty];

/// The built-in rules, in order.
pub const ROWS: &[Row] = &[
    // Bodies that are no report of a provider: pages of the way there.
    Row::new("page: our address is blocked", AddressRefused).forms(PAGES).texts(&[
        &["error code: 1015"],
        &["error code: 1020"],
        &["error 1015"],
        &["attention required"],
        &["just a moment"],
        &["you have been blocked"],
        &["access denied", "reference #"],
        &["request blocked"],
    ]),
    Row::new("page: 403", AddressRefused).status(&[(403, 403)]).forms(&[Form::Html]),
    Row::new("page: body too large", BodyTooLarge).status(&[(413, 413)]).forms(PAGES),
    Row::new("page: not found", Misconfigured).status(&[(404, 405)]).forms(PAGES),
    // Codes for faults of the request, before any text: such messages echo the prompt.
    Row::new("code: context length", ContextTooLong).codes(&[
        "context_length_exceeded",
        "context_length_error",
        "string_above_max_length_tokens",
        "model_max_prompt_tokens_exceeded",
        "prompt_too_long",
        "exceed_context_size_error",
    ]),
    Row::new("code: content policy", ContentRefused).codes(&[
        "content_policy_violation",
        "content_filter",
        "content_filter_error",
        "content_filtered",
        "moderation_blocked",
        "data_inspection_failed",
        "datainspectionfailed",
        "responsibleaipolicyviolation",
        "sensitive_words_detected",
        "image_generation_user_error",
        "cyber_policy_violation",
        "safety",
        "input_text_sensitive_content_detected",
        "prompt_blocked",
        "1301",
        "1026",
        "1027",
    ]),
    Row::new("code: model missing", ModelMissing).codes(&[
        "model_not_found",
        "deploymentnotfound",
        "modelnotfound",
        "model_not_available",
        "unknown_model",
        "model_not_supported",
        "not_found_error",
        "invalid_model",
        "invalidendpointormodel.notfound",
    ]),
    // Money, under any status.
    Row::new("code: account empty", AccountEmpty).codes(&[
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",
        "arrearage",
        "accountoverdueerror",
        "credits_required",
        "payment_required",
        "1113",
        "1008",
        "personal-team-blocked:spending-limit",
    ]),
    Row::new("status: payment required", AccountEmpty).status(&[(402, 402)]),
    Row::new("text: account empty", AccountEmpty).status(CLIENT).texts(&[
        &["credit balance is too low"],
        &["insufficient balance"],
        &["insufficient credit"],
        &["insufficient funds"],
        &["insufficient_quota"],
        &["out of credits"],
        &["out of funds"],
        &["organization has been restricted"],
        &["organization has been disabled"],
        &["used all available credits"],
        &["余额不足"],
        &["额度不足"],
        &["欠费"],
    ]),
    // Our credential.
    Row::new("code: credential refused", CredentialRefused).codes(&[
        "invalid_api_key",
        "api_key_invalid",
        "incorrect_api_key",
        "authentication_error",
        "invalid_authentication_error",
        "authenticationerror",
        "unauthenticated",
        "unrecognizedclientexception",
        "accessdeniedexception",
        "account_deactivated",
        "organization_deactivated",
        "access_denied",
        "accessdenied",
        "permissiondenied",
        "service_disabled",
        "consumer_suspended",
        "2049",
        "1004",
    ]),
    Row::new("text: credential refused", CredentialRefused).status(&[(400, 400), (403, 403)]).texts(&[
        &["api key not valid"],
        &["incorrect api key"],
        &["invalid api key"],
        &["api key expired"],
    ]),
    // Region and address.
    Row::new("code: address refused", AddressRefused)
        .codes(&["unsupported_country_region_territory", "region_not_supported"]),
    Row::new("text: address refused", AddressRefused).status(CLIENT).texts(&[
        &["country, region, or territory not supported"],
        &["location is not supported"],
        &["not available in your region"],
        &["not available in your country"],
    ]),
    // Limits of ours with the provider.
    Row::new("text: too large per minute", TooLargeForTier).status(&[(413, 413), (429, 429)]).texts(&[
        &["request too large", "per min"],
        &["request too large", "tpm"],
        &["too large", "tokens per minute"],
        &["extra usage is required for long context"],
    ]),
    Row::new("code: rate limited", RateLimited).codes(&[
        "rate_limit_exceeded",
        "rate_limit_error",
        "rate_limit_reached_error",
        "ratelimitreached",
        "throttlingexception",
        "toomanyrequestsexception",
        "throttling",
        "throttling.ratequota",
        "limit_burst_rate",
        "too_many_requests",
        "1302",
        "1303",
        "1305",
        "1310",
        "1002",
        "1039",
    ]),
    Row::new("code: overloaded", Overloaded).codes(&[
        "overloaded_error",
        "engine_overloaded_error",
        "engine_overloaded",
        "server_overloaded",
        "overloaded",
        "capacity_exceeded",
        "nocapacity",
        "no_available_channel",
        "serviceunavailableexception",
        "modelnotreadyexception",
        "unavailable",
        "system_cpu_overloaded",
        "resource_unavailable",
    ]),
    Row::new("text: overloaded", Overloaded).status(&[(400, 599)]).texts(&[
        &["overloaded"],
        &["at capacity"],
        &["no capacity"],
        &["capacity exceeded"],
        &["负载已饱和"],
        &["server busy"],
        &["model is currently loading"],
        &["currently experiencing high demand"],
        &["try again later", "high traffic"],
        &["too many pending requests"],
    ]),
    Row::new("code: server error", Broken).codes(&[
        "server_error",
        "internal_server_error",
        "internalservererror",
        "internal_error",
        "internal",
        "internalserviceerror",
        "api_error",
        "modelerrorexception",
        "modeltimeoutexception",
        "timeout_error",
        "deadline_exceeded",
        "request_timeout",
        "requesttimeout",
    ]),
    // Texts, of the first 600 characters.
    Row::new("text: context length", ContextTooLong)
        .status(&[(400, 400), (413, 413), (422, 422), (500, 500)])
        .texts(&[
            &["maximum context length"],
            &["context window"],
            &["context length", "exceed"],
            &["context size", "exceed"],
            &["prompt is too long"],
            &["input is too long"],
            &["input token count", "exceeds"],
            &["too many input tokens"],
            &["inputs", "tokens", "must be <="],
            &["exceed context limit"],
            &["range of input length"],
            &["input length", "exceeds"],
            &["input too long"],
            &["max_model_len"],
            &["max message tokens"],
            &["token limit", "requested"],
            &["context length is only"],
            &["greater than the context length"],
            &["prompt exceeds max length"],
            &["上下文过长"],
            &["上下文长度"],
            &["最大长度"],
            &["超长"],
        ]),
    Row::new("text: content policy", ContentRefused).status(&[(400, 400), (403, 403), (422, 422)]).texts(&[
        &["content policy"],
        &["content management policy"],
        &["content filter"],
        &["safety system"],
        &["responsible ai"],
        &["usage policy", "violat"],
        &["inappropriate content"],
        &["content violates"],
    ]),
    Row::new("text: model missing", ModelMissing).status(&[(400, 400), (404, 404), (422, 422)]).texts(&[
        &["model", "does not exist"],
        &["model", "not found"],
        &["unknown model"],
        &["model_not_found"],
        &["no endpoints found"],
        &["not a valid model"],
        &["invalid model"],
        &["has been decommissioned"],
        &["does not support tools"],
        &["template not found"],
        &["supported models are"],
        &["on-demand throughput"],
    ]),
    // The account guard: what speaks of our money or plan is never the caller's.
    Row::new("guard: billing words", AccountEmpty).status(CLIENT).texts(&[
        &["billing"],
        &["your plan"],
        &["your credit"],
        &["your balance"],
        &["recharge"],
        &["subscription"],
    ]),
];

/// What a status means when nothing else is known: the last rows of the table.
pub const DEFAULTS: &[Row] = &[
    Row::new("status: 401", CredentialRefused).status(&[(401, 401)]),
    Row::new("status: 403", CredentialRefused).status(&[(403, 403)]),
    Row::new("status: 404", Misconfigured).status(&[(404, 405)]),
    Row::new("status: 408", Broken).status(&[(408, 408), (424, 425), (499, 499)]),
    Row::new("status: 413", BodyTooLarge).status(&[(413, 413)]),
    Row::new("status: 429", RateLimited).status(&[(429, 429)]),
    Row::new("status: undecodable", NotUnderstood).status(REQUEST).forms(&[Form::Binary]),
    Row::new("status: request at fault", CallerMistake).status(REQUEST),
    Row::new("status: overloaded", Overloaded).status(&[(498, 498), (503, 503), (529, 529)]),
    // Any other 4xx says nothing about the request that a caller could act upon.
    Row::new("status: 4xx", Broken).status(CLIENT),
    Row::new("status: 5xx", Broken).status(&[(500, 599)]),
    Row::new("status: redirect", Misconfigured).status(&[(300, 399)]),
];

/// The row for an error that a 2xx carries and no rule knows.
pub const ERROR_IN_SUCCESS: Row = Row::new("error in a 2xx", Broken);
/// The generic last row.
pub const UNKNOWN: Row = Row::new("unknown", Broken);
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
    "decimal_above_max_value",
    "decimal_below_min_value",
    "integer_above_max_value",
    "integer_below_min_value",
    "string_above_max_length",
    "array_above_max_length",
    "tool_use_failed",
    "json_validate_failed",
    "invalid_request_message_order",
    "invalid_parameter_error",
    "invalidparameter",
    "invalid_prompt",
    "invalid_image",
    "image_too_large",
    "empty_array",
    "2013",
]);
