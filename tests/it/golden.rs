//! Every entry of the error catalogue, as clients read it (spec 2). `UPDATE_GOLDEN=1` writes the files anew.

use std::path::PathBuf;
use std::sync::Arc;
use tidegate::core::api::Api;
use tidegate::core::failure::{Class, ContextFigures, Verdict};
use tidegate::core::images::ImageFault;
use tidegate::core::limits::{Ask, Exceeded, Limited, Limits, Scope, try_admit};
use tidegate::core::refusal::{Failure, ParameterFault, Refusal};
use tidegate::wire::answer::Identity;
use tidegate::wire::endpoint::Call;
use tidegate::wire::error::{CATALOGUE, Code, Dialect, PublicError};
use tidegate::wire::stream::{EventStream, Expected, StreamOptions};

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
        Code::ContextLengthExceeded => Failure::Upstream(Verdict {
            context: ContextFigures { max: Some(128_000), count: Some(150_000), output: None },
            ..Verdict::new(Class::ContextTooLong, "rule")
        }),
        Code::RequestTooLarge => refused(Refusal::BodyTooLarge),
        Code::RequestsPerMinute => {
            refused(Refusal::Limited(used_up(Limited { rpm: Some(60), ..Limited::default() })))
        }
        Code::TokensPerMinute => {
            refused(Refusal::Limited(used_up(Limited { tpm: Some(60), ..Limited::default() })))
        }
        Code::Concurrency => {
            refused(Refusal::Limited(used_up(Limited { concurrency: Some(20), ..Limited::default() })))
        }
        Code::InsufficientQuota => refused(Refusal::InsufficientQuota),
        Code::IpNotAllowed => refused(Refusal::AddressDenied),
        Code::InternalError => Failure::Internal,
        Code::UnexpectedProviderResponse => judged(Class::NotUnderstood),
        Code::ServiceUnavailable => judged(Class::Overloaded),
        Code::UpgradeRequired => refused(Refusal::WebSocket),
        Code::NoChannel => refused(Refusal::UnknownModel("openai/unknown-model".into())),
        Code::InvalidImageSize => {
            let sizes = ["1024x1024", "1536x1024", "auto"].map(Into::into);
            refused(Refusal::ImageRule(ImageFault::NotListed("size", Arc::new(sizes))))
        }
        Code::UnsupportedParameter => {
            refused(Refusal::Parameter { param: "logprobs".into(), fault: ParameterFault::Unsupported })
        }
    };
    PublicError::of(&failure, 503)
}

/// How a key's limit refuses once it is used up, half a second later.
fn used_up(limited: Limited) -> Exceeded {
    let limits = Limits::new(Scope::Key, limited);
    let mut held = Vec::new();
    loop {
        match try_admit(&[&limits], Ask { input: 1, output: 0, now: 500_000_000 }) {
            Ok(mut admission) => {
                admission.correct(1, 500_000_000);
                held.push(admission);
            }
            Err(exceeded) => return exceeded,
        }
    }
}

fn shown(error: &PublicError) -> String {
    let headers: String =
        error.retry_headers(2).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!(
        "{}\n{headers}\n{}\n{}\n\n{}",
        error.status(),
        error.render(Dialect::OpenAi, "req-1"),
        error.render(Dialect::Anthropic, "req-1"),
        [Call::Chat, Call::Messages, Call::Responses].map(|call| in_stream(error, call)).concat().trim_end(),
    )
}

/// The end of a stream of this API that fails.
fn in_stream(error: &PublicError, call: Call) -> String {
    let identity = Identity::of(call, 1_700_000_000, "a", "openai/gpt-5.5");
    let options = StreamOptions {
        call,
        identity,
        wants_usage: false,
        created: 1_700_000_000,
        expected: Expected::default(),
    };
    EventStream::new(options).error(error, "req-1")
}

/// Goal: where figures are unknown, what an agent recognises stays, in both dialects (spec 2.11).
#[test]
fn lengths_are_told_as_far_as_they_are_known() {
    let told = |max, count, dialect| {
        let verdict = Verdict {
            context: ContextFigures { max, count, output: None },
            ..Verdict::new(Class::ContextTooLong, "rule")
        };
        PublicError::of(&Failure::Upstream(verdict), 503).render(dialect, "req-1")
    };
    for (max, count, chat, messages) in [
        (None, None, "of this model. Please reduce", "\"prompt is too long\""),
        (Some(9), None, "length is 9 tokens. Please reduce", "maximum of 9 tokens"),
        (Some(9), Some(10), "resulted in 10 tokens. Please", "prompt is too long: 10 tokens > 9 maximum"),
    ] {
        assert!(told(max, count, Dialect::OpenAi).contains(chat), "{chat}");
        assert!(told(max, count, Dialect::Anthropic).contains(messages), "{messages}");
    }
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
