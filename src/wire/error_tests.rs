use super::*;
use crate::core::images::ImageFault;
use crate::core::limit::Bucket;

/// Goal: the seed example of spec 2.1, byte for byte.
#[test]
fn the_seed_example() {
    let error = PublicError::of(&Refusal::UnknownModel("openai/unknown-model".into()).into(), 503);
    assert_eq!(
        error.render(Dialect::OpenAi, "r"),
        r#"{"error":{"message":"No available channel for model openai/unknown-model","type":"api_error","param":null,"code":"model_not_found","status":503}}"#
    );
}

/// Goal: what a client sends is echoed short and harmless (spec 2.4).
#[test]
fn echoes_are_bounded_and_escaped() {
    let long = PublicError::no_channel(&"é\n".repeat(400));
    assert!(long.message.len() <= MESSAGE_MAX && !long.message.contains('\n'));
    assert!(long.message.ends_with("é\\n") || long.message.ends_with('é') || long.message.ends_with('\\'));
    assert!(PublicError::no_channel("a\u{7}b").message.contains("\\u{7}"));
}

/// Goal: waits are told as spec 2.7 says: rounded up, never 0, never above a minute.
#[test]
fn waits_are_told_exactly() {
    let headers = |retry| PublicError { retry, ..PublicError::unavailable() }.retry_headers(7);
    assert_eq!(
        headers(Retry::After(Duration::from_nanos(1))),
        [("retry-after", "1".to_owned()), ("retry-after-ms", "1".to_owned())]
    );
    assert_eq!(headers(Retry::After(Duration::from_millis(1_001)))[0].1, "2");
    assert_eq!(headers(Retry::After(RETRY_AFTER_MAX))[0].1, "60");
    assert_eq!(headers(Retry::After(RETRY_AFTER_MAX + Duration::from_nanos(1)))[0].0, "x-should-retry");
    assert_eq!(headers(Retry::Soon), [("retry-after", "3".to_owned())]);
    let mut rate = Bucket::per_minute(0);
    let denied = Some(rate.try_take(1, 0).unwrap_err());
    let never = limited(Exceeded { scope: Scope::Key, dimension: Dimension::Requests, limit: 0, denied });
    assert_eq!(never.retry_headers(0), [("x-should-retry", "false".to_owned())]);
}

/// Goal: every class of spec 3.2 has its public face, and all that are a 502 are the same bytes (spec 2.9).
#[test]
fn classes_have_one_face() {
    let render = |class| {
        let verdict = Verdict { param: Some("secret".into()), ..Verdict::new(class, "rule") };
        PublicError::of(&Failure::Upstream(verdict), 503)
    };
    for class in Class::ALL {
        let expected = match class {
            Class::CallerMistake | Class::ContentRefused | Class::CapabilityMissing => 400,
            Class::ContextTooLong | Class::BodyTooLarge => 413,
            Class::NotUnderstood => 500,
            _ => 502,
        };
        let error = render(class);
        assert_eq!(error.status(), expected, "{class:?}");
        if expected == 502 {
            assert_eq!(error, PublicError::unavailable());
        }
    }
}

/// Goal: what an image may be is told in at most 500 bytes, however long the list is; a size has its own code (spec 11.2).
#[test]
fn image_values_are_listed() {
    let image_rule = |fault| PublicError::of(&Failure::Refused(Refusal::ImageRule(fault)), 503);
    let fault = |member, values: &[&str]| {
        ImageFault::NotListed(member, values.iter().map(|value| (*value).into()).collect())
    };
    let size = image_rule(fault("size", &["1024x1024", "auto"]));
    assert_eq!(
        size.message,
        "The parameter size has a value that this model does not support. \
         Supported values are: '1024x1024', 'auto'."
    );
    assert_eq!((size.code, size.param.as_deref()), (Code::InvalidImageSize, Some("size")));
    let quality = image_rule(fault("quality", &["low"]));
    assert_eq!((quality.code, quality.param.as_deref()), (Code::InvalidValue, Some("quality")));
    let long = "x".repeat(32);
    let many = image_rule(fault("image_config.aspect_ratio", &vec![&*long; 100]));
    assert!(many.message.len() <= MESSAGE_MAX && many.message.ends_with("', and more."), "{}", many.message);
    assert_eq!(many.param.as_deref(), Some("image_config.aspect_ratio"));
}

/// Goal: an input that fits, with a bound on the output that does not, is told in the words by which agents lower the bound
/// (spec 2.11), and not as an input that is too long.
#[test]
fn an_output_bound_over_the_window_is_told_as_such() {
    let context = ContextFigures { max: Some(200_000), count: Some(174_415), output: Some(32_000) };
    let verdict = Verdict { context, ..Verdict::new(Class::CallerMistake, "rule") };
    let error = PublicError::of(&Failure::Upstream(verdict), 503);
    assert_eq!(
        error.message,
        "input length and `max_tokens` exceed context limit: 174415 + 32000 > 200000, decrease input length or `max_tokens` and try again"
    );
    assert_eq!((error.status(), error.param.as_deref()), (400, Some("max_tokens")));
}

/// Goal: a capability that no channel has is a 400 that names it.
#[test]
fn a_missing_capability_is_named() {
    for capability in Capability::ALL {
        let verdict =
            Verdict { capability: Some(capability), ..Verdict::new(Class::CapabilityMissing, "rule") };
        let error = PublicError::of(&Failure::Upstream(verdict), 503);
        assert_eq!((error.status(), error.code), (400, Code::UnsupportedParameter));
        assert_eq!(error.message, format!("This model does not support {}.", capability.noun()));
    }
}

/// Goal: the code says what the upstream says is wrong, among those of spec 2.2.
#[test]
fn faults_have_codes_of_their_own() {
    for (fault, code) in [
        (RequestFault::Unsaid, Code::InvalidRequest),
        (RequestFault::InvalidValue, Code::InvalidValue),
        (RequestFault::UnsupportedParameter, Code::UnsupportedParameter),
        (RequestFault::MissingParameter, Code::MissingRequiredParameter),
    ] {
        let verdict = Verdict { fault, ..Verdict::new(Class::CallerMistake, "rule") };
        assert_eq!(PublicError::of(&Failure::Upstream(verdict), 503).code, code);
    }
}
