use super::*;
use crate::core::unit::Standing;
use crate::core::usage::{Usage, UsageSource};
use crate::telemetry::record::End;
use crate::telemetry::record::{Attempt, Outcome};
use crate::telemetry::series::series_max;
use crate::wire::endpoint::{Endpoint, TABLE};
use crate::wire::error::CATALOGUE;
use std::collections::BTreeSet;
use std::time::Duration;

fn names(prefix: &str, count: usize) -> Vec<Arc<str>> {
    (0..count).map(|i| Arc::from(format!("{prefix}{i}"))).collect()
}

fn record(model: Option<ModelId>) -> Record {
    let mut record = Record::begun(0, "r".into(), 1);
    record.model = model;
    record.route = "chat";
    record.status = 200;
    record.stream = true;
    record.usage = Some((
        Usage { input: 5, output: 3, cached: 1, reasoning: 1, ..Usage::default() },
        UsageSource::Reported,
    ));
    record.time_to_first_token = Some(Duration::from_millis(100));
    record.duration = Duration::from_millis(300);
    record.end = End::Complete;
    record.attempts = vec![Attempt {
        channel: ChannelId::new(0),
        upstream_status: Some(200),
        outcome: Outcome::Success,
        elapsed: Duration::ZERO,
        words: String::new(),
    }];
    record
}

/// Goal: a finished request is found under its labels, and a gauge is back at zero when its guard is gone.
#[test]
fn counts_what_happened() {
    let metrics = Metrics::new().unwrap();
    let labels = metrics.labels(&names("m", 1), &names("c", 1));
    {
        let _guard = labels.begin(ModelId::new(0));
        metrics.observe(&record(Some(ModelId::new(0))), &labels);
        let text = String::from_utf8(metrics.render()).unwrap();
        for line in [
            r#"tidegate_requests_total{code="ok",model="m0",route="chat",status="200"} 1"#,
            r#"tidegate_attempts_total{channel="c0",outcome="success"} 1"#,
            r#"tidegate_tokens_total{channel="c0",model="m0",type="input"} 5"#,
            r#"tidegate_in_flight{model="m0"} 1"#,
            r#"tidegate_stream_end_total{reason="complete"} 1"#,
            r#"gen_ai_server_time_per_output_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_request_model="m0"} 0.1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
    assert!(String::from_utf8(metrics.render()).unwrap().contains(r#"tidegate_in_flight{model="m0"} 0"#));
}

/// Goal: whatever happens, the number of series stays below the stated bound (spec 13.2).
/// Method: every route with every answer, every outcome and reason, for configured models, unknown and removed ones.
#[test]
fn series_are_bounded() {
    use crate::core::failure::Class;
    let metrics = Metrics::new().unwrap();
    let (models, channels) = (3, 4);
    let labels = metrics.labels(&names("m", models), &names("c", channels));
    let (mut calls, mut others) = (BTreeSet::new(), BTreeSet::from(["health", "preflight", "other"]));
    for line in TABLE {
        let routes = if let Endpoint::Call(_) = line.endpoint { &mut calls } else { &mut others };
        routes.insert(line.endpoint.label());
    }
    let asked = |index: usize| (index < models).then(|| ModelId::new(index));
    let calls = calls.into_iter().flat_map(|route| (0..=models).map(move |index| (route, asked(index))));
    for (route, model) in calls.chain(others.into_iter().map(|route| (route, None))) {
        for entry in CATALOGUE {
            for (status, code) in [
                (entry.status, Some(entry.name)),
                (200, Some(entry.name)),
                (0, Some(entry.name)),
                (0, None),
                (200, None),
                (204, None),
            ] {
                let mut record = record(model);
                (record.route, record.status, record.code) = (route, status, code);
                metrics.observe(&record, &labels);
            }
        }
    }
    for class in Class::ALL {
        for channel in 0..channels {
            let mut record = record(Some(ModelId::new(0)));
            record.attempts[0].channel = ChannelId::new(channel);
            metrics.observe(&record, &labels);
            record.attempts[0].outcome = Outcome::Failed(class, "rule".into());
            record.rewritten = Some(class);
            metrics.observe(&record, &labels);
            record.attempts[0].outcome = Outcome::Abandoned;
            metrics.observe(&record, &labels);
        }
    }
    for channel in names("c", channels) {
        metrics.health().set_state(&channel, "up");
        for position in [1, 2] {
            metrics.health().set_credential_state(&channel, position, Standing::Up);
        }
    }
    let count = || {
        let text = String::from_utf8(metrics.render()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let (series, max) = (count(), series_max(models, channels, 2 * channels));
    assert!(series <= max && series > max * 8 / 10, "{series} of {max}");
    let fewer = metrics.labels(&names("m", 1), &names("c", 1));
    metrics.forget_all_but(&fewer);
    assert!(count() <= series_max(1, 1, 2), "{} of {}", count(), series_max(1, 1, 2));
    let of_credentials = || {
        let text = String::from_utf8(metrics.render()).unwrap();
        text.matches("tidegate_credential_state{").count()
    };
    assert_eq!(of_credentials(), 2 * Standing::WORDS.len());
    metrics.health().forget_credentials_beyond(|_| 1);
    assert_eq!(of_credentials(), Standing::WORDS.len(), "a credential was taken out of the configuration");
}

/// Goal: what a removed model counted stays in the sum, and where no rate takes it for what has just happened.
#[test]
fn removed_models_stay_in_the_sum() {
    let metrics = Metrics::new().unwrap();
    let before = metrics.labels(&names("m", 2), &[]);
    for index in [0, 1, 1] {
        metrics.observe(&record(Some(ModelId::new(index))), &before);
    }
    let after = metrics.labels(&names("m", 1), &[]);
    let of = |model: &str| {
        let text = String::from_utf8(metrics.render()).unwrap();
        let line =
            format!(r#"tidegate_requests_total{{code="ok",model="{model}",route="chat",status="200"}} "#);
        text.lines().find_map(|found| found.strip_prefix(&line).map(str::to_owned))
    };
    let two = Some("2".to_owned());
    for _ in 0..2 {
        metrics.forget_all_but(&after);
        assert_eq!(
            (of("m0"), of("m1"), of("removed"), of("other")),
            (Some("1".into()), None, two.clone(), None)
        );
    }
    // A request of the generation before ends late.
    metrics.observe(&record(Some(ModelId::new(1))), &before);
    metrics.forget_all_but(&after);
    assert_eq!((of("m1"), of("removed")), (None, Some("3".into())));
}

/// Goal: statuses are labels as they are written.
#[test]
fn statuses_are_written() {
    assert_eq!(StatusText::of(502).as_str(), "502");
    assert_eq!(StatusText::of(0).as_str(), "0");
}
