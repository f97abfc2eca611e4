//! The member `video` of a channel: whether it answers with a video, or takes a job and is asked for it.

use super::reader::{Item, Object};
use std::time::Duration;

/// How video is got from an upstream that takes jobs. Paths are below the base URL; `{id}` is the job's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polling {
    /// Where a job is left.
    pub submit: String,
    /// Where its state is, and where it is cancelled.
    pub status: String,
    /// Where the file of the video is, if the state has no address of it.
    pub content: String,
    /// How long its state is left alone at first.
    pub interval: Duration,
    /// How long it is left alone at most, when it takes its time.
    pub interval_max: Duration,
}

impl Default for Polling {
    /// As OpenAI has it.
    fn default() -> Self {
        Self {
            submit: "/videos".into(),
            status: "/videos/{id}".into(),
            content: "/videos/{id}/content".into(),
            interval: Duration::from_secs(2),
            interval_max: Duration::from_secs(10),
        }
    }
}

/// A channel's way to video: a word, or the particulars of polling; `None` for one that answers.
pub(super) fn kind(item: &Item<'_>) -> Option<Polling> {
    if !matches!(item.node.value, super::tree::Value::Map(_)) {
        return item.one_of(&[("polling", true), ("direct", false)])?.then(Polling::default);
    }
    let (section, usual) = (item.object()?, Polling::default());
    let polling = Polling {
        submit: path(&section, "submit", usual.submit, false),
        status: path(&section, "status", usual.status, true),
        content: path(&section, "content", usual.content, true),
        interval: time(&section, "interval", usual.interval),
        interval_max: time(&section, "interval_max", usual.interval_max),
    };
    section.finish();
    Some(polling)
}

fn time(section: &Object<'_>, name: &'static str, usual: Duration) -> Duration {
    section.get(name).and_then(|item| item.time_limit()).unwrap_or(usual)
}

fn path(section: &Object<'_>, name: &'static str, usual: String, of_job: bool) -> String {
    let Some(item) = section.get(name) else { return usual };
    let Some(path) = item.text() else { return usual };
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if !path.starts_with('/') || !plain {
        item.refuse_with("is no path", "such as /videos, below the base URL");
    } else if of_job != path.contains("{id}") {
        let message = if of_job { "has no {id}" } else { "must not have an {id}" };
        item.refuse_with(message, "the job's name stands where {id} is, once the job is left");
    }
    path.to_owned()
}
