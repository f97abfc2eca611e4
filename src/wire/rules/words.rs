//! Ranges of statuses and lists of words that several rows share.

use crate::wire::reading::Form;
use crate::wire::rule::Texts;

/// Statuses of client errors.
pub(crate) const CLIENT: &[(u16, u16)] = &[(400, 499)];
/// Statuses that blame the request.
pub(crate) const REQUEST: &[(u16, u16)] = &[(400, 400), (409, 409), (413, 413), (415, 415), (422, 422)];
/// Statuses under which a text may speak of the request; a 2xx that carries an error is one of them.
pub(crate) const ABOUT_REQUEST: &[(u16, u16)] = &[(200, 299), (400, 400), (413, 413), (422, 422), (500, 500)];
/// Statuses under which a text may speak of load.
pub(crate) const LOAD: &[(u16, u16)] = &[(200, 299), (408, 408), (429, 429), (498, 499), (500, 599)];
/// What a server on the way answers, instead of a provider.
pub(crate) const PAGES: &[Form] = &[Form::Html, Form::Text, Form::Binary, Form::Empty, Form::Blank];
/// What an input can be too long in.
pub(crate) const LENGTHS: Texts = &[
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
pub(crate) const EXCESS: Texts = &[
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
pub(crate) const OUTPUT: Texts =
    &[&["maximum tokens you requested"], &["number of output tokens"], &["completion tokens, whereas"]];
/// How a refusal of content is worded.
pub(crate) const POLICY_TEXTS: Texts = &[
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
/// How a parameter is refused that the model does not take.
pub(crate) const UNSUPPORTED: Texts =
    &[&["unsupported parameter"], &["unsupported value"], &["unrecognized request argument"]];
