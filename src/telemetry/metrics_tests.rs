use super::*;
use crate::core::usage::{Usage, UsageSource};
use crate::telemetry::record::End;
use crate::telemetry::record::{Attempt, Outcome};
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

/// Goal: whatever is asked for, the number of series stays below the stated bound (spec 13.2).
/// Method: every route, status, class and channel with configured models and with unknown ones.
#[test]
fn series_are_bounded() {
    let metrics = Metrics::new().unwrap();
    let (models, channels) = (3, 4);
    let labels = metrics.labels(&names("m", models), &names("c", channels));
    for index in 0..10_000 {
        let mut record = record((index % 5 < models).then(|| ModelId::new(index % 5)));
        record.attempts[0].channel = ChannelId::new(index % channels);
        let entry = crate::wire::error::CATALOGUE[index % crate::wire::error::CATALOGUE.len()];
        (record.status, record.code) = (entry.status, Some(entry.name));
        metrics.observe(&record, &labels);
    }
    let text = String::from_utf8(metrics.render()).unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= series_max(models, channels), "{series} > {}", series_max(models, channels));
}

/// Goal: statuses are labels as they are written.
#[test]
fn statuses_are_written() {
    assert_eq!(StatusText::of(502).as_str(), "502");
    assert_eq!(StatusText::of(0).as_str(), "0");
}
