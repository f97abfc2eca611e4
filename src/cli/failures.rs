//! `tidegate failures`: the last failures behind a running gateway, a line each (spec 2.12).

use super::why::{Attempt, Excluded, Failed};
use super::{EXIT_RUNTIME, Ended, Format, admin, complain, read, say};
use clap::Args;
use std::process::ExitCode;

/// Which failures are shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many, the newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Only those in which this channel was tried, or could not be.
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// Only those of this model.
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// Only those with an attempt that failed so, such as rate_limited.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    #[command(flatten)]
    admin: admin::Listener,
}

/// More than any gateway remembers: what is wanted of them is chosen here.
const ALL: usize = crate::telemetry::failures::CAPACITY;

/// Lists them; as JSON the lines are those of the access log.
pub(super) fn run(arguments: &Arguments, format: Format) -> Ended {
    let found = match arguments.admin.get(&format!("/failures?limit={ALL}")) {
        Ok(found) => found,
        Err(why) => return complain(EXIT_RUNTIME, why),
    };
    let mut shown = 0;
    for line in found.lines() {
        let Ok(failure) = read::<Failed>(line) else {
            return complain(EXIT_RUNTIME, "the gateway's answer is odd: it is not made of lines of JSON");
        };
        if shown < arguments.limit && arguments.wants(&failure) {
            shown += 1;
            match format {
                Format::Json => say(line),
                Format::Text => say(described(&failure)),
            }
        }
    }
    if shown == 0 && format == Format::Text {
        say("none among the last failures; the access log has every request");
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn wants(&self, failure: &Failed) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let at = |channel: &String| {
            let tried = failure.attempts.iter().any(|attempt| attempt.channel == *channel);
            tried || failure.excluded.iter().any(|excluded| excluded.channel == *channel)
        };
        let failed_so = |class: &String| failure.attempts.iter().any(|attempt| attempt.outcome == *class);
        is(&self.model, failure.model.as_deref().unwrap_or_default())
            && self.channel.as_ref().is_none_or(at)
            && self.class.as_ref().is_none_or(failed_so)
    }
}

fn described(failure: &Failed) -> String {
    let Failed { time, request_id, model, status, code, attempts, excluded, refusal, .. } = failure;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let attempt = |attempt: &Attempt| {
        let status = attempt.upstream_status.map_or("no answer".to_owned(), |status| status.to_string());
        let rule = attempt.rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
        format!("{}: {status} {}{rule}", attempt.channel, attempt.outcome)
    };
    let not_asked = |Excluded { channel, reason }: &Excluded| format!("{channel}: not asked, {reason}");
    let own = refusal.iter().map(|refused| format!("the gateway itself: {}", refused.reason));
    let causes: Vec<_> =
        attempts.iter().map(attempt).chain(excluded.iter().map(not_asked)).chain(own).collect();
    let (model, code) = (or_none(model), or_none(code));
    format!("{time}  {request_id}  {model}  {status} {code}  {}", causes.join("; "))
}
