//! Every entry of the error catalogue, as clients read it (spec 2). `UPDATE_GOLDEN=1` writes the files anew.

use std::path::PathBuf;
use std::time::Duration;
use tidegate::core::api::Api;
use tidegate::core::failure::{Class, Verdict};
use tidegate::core::key::Exceeded;
use tidegate::core::limit::RateLimit;
use tidegate::core::refusal::{Failure, Refusal};
use tidegate::wire::error::{CATALOGUE, Code, Dialect, PublicError, Retry};

/// One failure for each code that something can cause, and the bare entry for those that nothing causes yet.
fn example(code: Code) -> PublicError {
    let refused = |refusal: Refusal| Failure::Refused(refusal);
    let judged = |class| Failure::Upstream(Verdict::new(class, "row"));
    let failure = match code {
        Code::InvalidJson => refused(Refusal::InvalidJson { line: 1, column: 2 }),
        Code::MissingRequiredParameter => refused(Refusal::MissingParameter("model")),
        Code::InvalidValue => {
            refused(Refusal::InvalidValue { param: "stream", why: "must be true or false" })
        }
        Code::WrongEndpoint => {
            refused(Refusal::WrongEndpoint { model: "openai/gpt-image-2".into(), home: Api::Images })
        }
        Code::ContentPolicyViolation => judged(Class::ContentRefused),
        Code::RequestTimeout => refused(Refusal::BodyTimeout),
        Code::HeadersTooLarge => refused(Refusal::HeadersTooLarge),
        Code::InvalidRequest => judged(Class::CallerMistake),
        Code::MissingApiKey => refused(Refusal::MissingKey),
        Code::InvalidApiKey => refused(Refusal::InvalidKey),
        Code::ModelAccessDenied => refused(Refusal::ModelDenied("openai/gpt-5.5".into())),
        Code::VerificationRequired => refused(Refusal::VerificationRequired("openai/gpt-5.5".into())),
        Code::NotFound => refused(Refusal::UnknownPath),
        Code::ModelNotFound => refused(Refusal::NoSuchModel("openai/none".into())),
        Code::ContextLengthExceeded => judged(Class::ContextTooLong),
        Code::RequestTooLarge => refused(Refusal::BodyTooLarge),
        Code::RequestsPerMinute => {
            let rate = RateLimit::per_minute(60);
            let _ = rate.try_take(60, 0);
            refused(Refusal::Limited(Exceeded::Requests(rate.try_take(1, 500_000_000).unwrap_err())))
        }
        Code::Concurrency => refused(Refusal::Limited(Exceeded::Concurrency { limit: 20 })),
        Code::InternalError => Failure::Internal,
        Code::UnexpectedProviderResponse => judged(Class::NotUnderstood),
        Code::ServiceUnavailable => judged(Class::Overloaded),
        Code::NoChannel => refused(Refusal::UnknownModel("openai/unknown-model".into())),
        Code::UnsupportedParameter
        | Code::InvalidImageSize
        | Code::InsufficientQuota
        | Code::IpNotAllowed
        | Code::TokensPerMinute => {
            let retry = if code == Code::TokensPerMinute {
                Retry::After(Duration::from_secs(3))
            } else {
                Retry::Never
            };
            return PublicError { code, message: "(nothing causes this yet)".into(), param: None, retry };
        }
    };
    PublicError::of(&failure, 503)
}

fn shown(error: &PublicError) -> String {
    let headers: String =
        error.retry_headers(2).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!(
        "{}\n{headers}\n{}\n{}\n{}",
        error.status(),
        error.render(Dialect::OpenAi, "req-1"),
        error.render(Dialect::Anthropic, "req-1"),
        error.event().trim_end(),
    )
}

/// Goal: no byte of an error changes unnoticed. Method: one golden file for each entry, in both dialects and in a stream.
#[test]
fn every_entry_has_its_file() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/errors"));
    for entry in CATALOGUE {
        let error = example(entry.code);
        assert_eq!(error.code, entry.code, "the example of {} is another code", entry.name);
        let path = folder.join(format!("{}-{}.txt", entry.status, entry.name));
        let shown = shown(&error) + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &shown).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(shown, golden, "{}", path.display());
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, CATALOGUE.len(), "a golden file that belongs to no entry");
}
