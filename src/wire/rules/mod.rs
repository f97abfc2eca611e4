//! The rules that judge an upstream's failure, as ordered data (spec 3.4): the first row that matches wins.
//!
//! Rows with codes come before rows with text, because messages echo what clients write. What text may do is bounded by
//! [`super::rule::Evidence`]. A new provider is one row in the section where it belongs, and one test in
//! `classify_tests.rs`.

mod access;
mod account;
mod capability;
mod load;
mod request;
mod texts;
pub(crate) mod words;

use super::reading::Form;
use super::rule::Row;
use crate::core::failure::{Class, Effect, Next};
use Class::{
    BodyTooLarge, Broken, CallerMistake, ContentRefused, CredentialRefused, Misconfigured, NotUnderstood,
    Overloaded, RateLimited,
};
use words::{CLIENT, REQUEST};

/// The built-in rules, in order.
pub fn rows() -> impl Iterator<Item = &'static Row> + Clone {
    [request::ROWS, capability::ROWS, account::ROWS, access::ROWS, load::ROWS, texts::ROWS]
        .into_iter()
        .flatten()
}

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
    "missing_parameter",
    "missing_required_field",
    "unsupported_params*",
    "unknown_field",
    "unrecognized_keys",
    "invalid_tool*",
    "invalid_function*",
    "invalid_messages",
    "invalid_message_*",
    "invalid_schema",
    "invalid_prompt_format",
    "invalid_file*",
    "invalid_pdf*",
    "invalid_audio*",
    "invalid_video*",
    "invalid_media*",
    "invalid_content_type",
    "invalid_previous_response*",
    "image_download*",
    "wrong_api_format",
    "literal",
    "string_type",
    "1210",
    "1213",
    "1214",
    "1215",
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
/// A 2xx that is complete and has nothing in it. The channel works, and some requests end so at any of them.
pub const NOTHING_IN_IT: Row = Row::new("2xx: complete without content", NotUnderstood).effect(Effect::None);
/// A 2xx from which every image was taken out.
pub const WITHHELD: Row = Row::new("2xx: images withheld", ContentRefused);
/// The name for a stream that ends without any content.
pub const EMPTY_STREAM: &str = "stream: empty";
/// The name for a stream that is complete and has no content.
pub const NOTHING_IN_STREAM: &str = "stream: complete without content";
/// The generic last row.
pub const UNKNOWN: Row = Row::new("unknown", Broken);
