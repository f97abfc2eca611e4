//! What an upstream says is wrong about a request, out of its code or its words (spec 2.2).

use super::report::Report;
use super::rule::Texts;
use super::rule::{found, has_code};
use crate::core::failure::RequestFault;

/// Codes of members that are not supported.
const UNSUPPORTED_CODES: [&str; 9] = [
    "unsupported_parameter",
    "unknown_parameter",
    "extra_forbidden",
    "unsupported_params*",
    "unrecognized_parameter",
    "unexpected_parameter",
    "unknown_field",
    "unrecognized_keys",
    "parameter_not_supported",
];
/// Codes of members that are missing.
const MISSING_CODES: [&str; 7] = [
    "missing_required_parameter",
    "missing_parameter",
    "missing",
    "missing_field",
    "missing_required_field",
    "parameter_missing",
    "required",
];
/// Codes of values that are not allowed; the last ones are types of schema validators.
const INVALID_CODES: [&str; 36] = [
    "invalid_value",
    "invalid_type",
    "invalid_parameter_value",
    "unsupported_value",
    "unsupported_file",
    "unsupported_content_type",
    "invalid_function_parameters",
    "invalid_json_schema",
    "invalid_base64",
    "invalid_image*",
    "image_too*",
    "image_parse*",
    "decimal_*",
    "integer_*",
    "string_*",
    "array_*",
    "number_*",
    "object_*",
    "empty_*",
    "literal",
    "enum",
    "greater_than*",
    "less_than*",
    "too_long",
    "too_short",
    "too_big",
    "too_small",
    "int_*",
    "float_*",
    "bool_*",
    "list_*",
    "dict_*",
    "model_type",
    "value",
    "previous_response_not_found",
    "invalid_encrypted_content",
];
/// Words about members that are not supported.
const UNSUPPORTED_TEXTS: Texts = &[
    &["unsupported param"],
    &["unsupported argument"],
    &["unsupported field"],
    &["unknown param"],
    &["unknown field"],
    &["unknown name"],
    &["unknown argument"],
    &["unrecognized"],
    &["unexpected keyword"],
    &["unexpected field"],
    &["unexpected param"],
    &["extra inputs are not permitted"],
    &["extra fields not permitted"],
    &["argument not supported"],
    &["does not support", "param"],
    &["doesn't support", "param"],
    &["parameter is not supported"],
    &["parameters are not supported"],
    &["is not supported with this model"],
    &["is not supported by this model"],
    &["is not supported for this model"],
    &["not supported with this model"],
    &["extraneous"],
    &["is unsupported"],
    &["are unsupported"],
    &["additional properties are not allowed"],
];
/// Words about members that are missing.
const MISSING_TEXTS: Texts = &[
    &["field required"],
    &["missing required"],
    &["missing field"],
    &["required field"],
    &["is a required property"],
    &["is required"],
    &["is missing"],
    &["must be provided"],
    &["is not specified"],
    &["missing `"],
    &["required parameter"],
];
/// Words about values that are not allowed.
const INVALID_TEXTS: Texts = &[
    &["invalid value"],
    &["invalid type"],
    &["unsupported value"],
    &["must be"],
    &["should be"],
    &["must have"],
    &["expected"],
    &["out of range"],
    &["range of"],
    &["valid range"],
    &["is not one of"],
    &["unknown variant"],
    &["too long"],
    &["too large"],
    &["greater than"],
    &["less than"],
    &["at most"],
    &["at least"],
    &["maximum"],
    &["exceed"],
    &["illegal"],
];

/// What a report blames the request for; codes come before words.
pub(super) fn of(report: &Report) -> RequestFault {
    let coded = |codes: &[&str]| codes.iter().any(|code| has_code(report, code));
    let worded = |texts: Texts| found(texts, &report.text).is_some();
    if coded(&UNSUPPORTED_CODES) {
        RequestFault::UnsupportedParameter
    } else if coded(&MISSING_CODES) {
        RequestFault::MissingParameter
    } else if coded(&INVALID_CODES) {
        RequestFault::InvalidValue
    } else if worded(UNSUPPORTED_TEXTS) {
        RequestFault::UnsupportedParameter
    } else if worded(MISSING_TEXTS) {
        RequestFault::MissingParameter
    } else if worded(INVALID_TEXTS) {
        RequestFault::InvalidValue
    } else {
        RequestFault::Unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the fault follows the code where there is one, and the words where there is none.
    #[test]
    fn codes_come_before_words() {
        let report = |json: &str| {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            of(&Report::of(value.as_object().unwrap()))
        };
        for (json, fault) in [
            (
                r#"{"code":"unsupported_parameter","message":"x is required"}"#,
                RequestFault::UnsupportedParameter,
            ),
            (
                r#"{"type":"missing","msg":"Field required","loc":["body","messages"]}"#,
                RequestFault::MissingParameter,
            ),
            (r#"{"type":"literal_error","msg":"Input should be 'text'"}"#, RequestFault::InvalidValue),
            (
                r#"{"type":"extra_forbidden","msg":"Extra inputs are not permitted"}"#,
                RequestFault::UnsupportedParameter,
            ),
            (r#"{"code":"string_above_max_length","message":"string too long"}"#, RequestFault::InvalidValue),
            (r#"{"message":"json: unknown field \"inputs\""}"#, RequestFault::UnsupportedParameter),
            (r#"{"message":"max_tokens: Field required"}"#, RequestFault::MissingParameter),
            (r#"{"message":"`temperature` must be strictly positive"}"#, RequestFault::InvalidValue),
            (r#"{"message":"no"}"#, RequestFault::Unsaid),
        ] {
            assert_eq!(report(json), fault, "{json}");
        }
    }
}
