//! Video: how long it is, and the jobs of upstreams that make it behind the client's back (spec 8.1, 11.5).
//!
//! A client asks once and reads `videos[].url`. Many upstreams take a job instead, are asked for its state until it is
//! done, and give the video as an address, as base64, or as the bytes of a file. Providers agree on the idea and on no
//! name, so a job is read by all of the usual ones. Nothing here waits or speaks to anyone.

use super::endpoint::path_segment;
use super::envelope::Members;
use super::splice::json_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Names of the length of a video, in requests and answers.
const SECONDS: [&str; 4] = ["seconds", "duration", "duration_seconds", "durationSeconds"];
/// A longer video is not believed, in seconds: it is milliseconds, or nonsense.
const SECONDS_MAX: f64 = 86_400.0;
/// The media type of files that have none.
const MEDIA_TYPE: &str = "video/mp4";
/// The longest name of a job that is sent back to its upstream, in bytes.
const ID_MAX: usize = 512;

/// Whether a member of a request says how long a video is to be, in a spelling that some parser takes for one.
#[must_use]
pub fn names_seconds(name: &str) -> bool {
    SECONDS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A number of seconds as JSON, as a number or a string of one; a part of a second counts as a whole one.
#[must_use]
pub fn seconds(value: &str) -> Option<u64> {
    let text = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value).trim();
    let number: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    let believed = number > 0.0 && number <= SECONDS_MAX;
    // Bounded just before, and without a fraction.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number of at most a day"
    )]
    believed.then(|| number.ceil() as u64)
}

/// How many seconds of video an answer says were made: by its usage, by each of its videos, or for each of them.
#[must_use]
pub fn seconds_made(usage: Option<&[u8]>, answer: Option<&[u8]>) -> Option<u64> {
    let members = |json| serde_json::from_slice::<Members<'_>>(json).ok();
    if let Some(said) = usage.and_then(members).as_ref().and_then(seconds_of) {
        return Some(said);
    }
    let answer = members(answer?)?;
    let list =
        |called: &str| answer.0.iter().find(|(name, value)| name == called && value.get().starts_with('['));
    let films = list("videos").or_else(|| list("data"));
    let films = films.and_then(|(_, films)| serde_json::from_str::<Vec<Members<'_>>>(films.get()).ok());
    let films = films.unwrap_or_default();
    let each: Vec<_> = films.iter().filter_map(seconds_of).collect();
    match each.iter().max() {
        // What one of them does not say, it is taken to have like the longest.
        Some(longest) => Some(each.iter().sum::<u64>() + longest * (films.len() - each.len()) as u64),
        None => Some(seconds_of(&answer)? * films.len().max(1) as u64),
    }
}

fn seconds_of(members: &Members<'_>) -> Option<u64> {
    let named = members.0.iter().filter(|(name, _)| SECONDS.contains(&&**name));
    named.filter_map(|(_, value)| seconds(value.get())).max()
}

/// Where a job has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is queued or under way, or says something that nobody knows.
    Waiting,
    /// There is a video.
    Done,
    /// There will be none.
    Failed,
}

/// Words for a job that is done, and for one that never will be.
const DONE: [&str; 8] =
    ["completed", "complete", "succeeded", "succeed", "success", "done", "finished", "ready"];
const FAILED: [&str; 9] =
    ["failed", "failure", "fail", "error", "cancelled", "canceled", "expired", "rejected", "incomplete"];

/// A job of an upstream, as far as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name there.
    pub id: Option<String>,
    /// Where it has got to.
    pub state: State,
    /// Addresses of its videos; data URIs where they are in the answer itself.
    pub films: Vec<String>,
    /// How long they are together, if that was told.
    pub seconds: Option<u64>,
}

impl Job {
    /// Reads what an upstream says of a job; `None` if that is no JSON object.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let Ok(Value::Object(job)) = serde_json::from_slice(body) else { return None };
        let word = text(&job, &["status", "state"]).map(str::to_ascii_lowercase);
        let films = films(&job);
        let known = |words: &[&str]| word.as_deref().is_some_and(|word| words.contains(&word));
        let state = if known(&FAILED) || job.get("error").is_some_and(is_error) {
            State::Failed
        } else if known(&DONE) || word.is_none() && !films.is_empty() {
            State::Done
        } else {
            State::Waiting
        };
        let usage = job.get("usage").map(Value::to_string);
        Some(Self {
            id: text(&job, &["id", "task_id", "job_id"]).map(str::to_owned),
            state,
            films,
            seconds: seconds_made(usage.as_deref().map(str::as_bytes), Some(body)),
        })
    }

    /// The name of the job as a part of a path; `None` if it has no usable one.
    #[must_use]
    pub fn path_id(&self) -> Option<String> {
        let id = self.id.as_deref().filter(|id| (1..=ID_MAX).contains(&id.len()))?;
        // A dot alone, or two, would be another path.
        let plain = id.chars().all(|c| c == '.');
        (!plain).then(|| path_segment(id))
    }

    /// The answer to the client, of videos at these addresses. Its names are the upstream's, as in every answer that has
    /// still to be rewritten.
    #[must_use]
    pub fn answer(&self, model: &str, created: u64) -> String {
        let mut answer = self.opening(model, created);
        for (index, film) in self.films.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(answer, r#"{comma}{{"url":{}}}"#, json_string(film));
        }
        answer.push_str("]}");
        answer
    }

    fn opening(&self, model: &str, created: u64) -> String {
        let id = json_string(self.id.as_deref().unwrap_or_default());
        let usage = self.seconds.map(|seconds| format!(r#""usage":{{"seconds":{seconds}}},"#));
        format!(
            r#"{{"id":{id},"object":"video.generation","created":{created},"model":{},{}"videos":["#,
            json_string(model),
            usage.unwrap_or_default()
        )
    }
}

/// The file of a video on its way into an answer, in pieces of any size and in constant memory.
#[derive(Debug, Default)]
pub struct Film {
    /// Bytes that do not make a whole group yet.
    rest: Vec<u8>,
}

impl Film {
    /// The answer up to the file's first byte.
    #[must_use]
    pub fn opening(job: &Job, model: &str, created: u64, media_type: Option<&str>) -> String {
        let plain = |media: &&str| {
            let rest = media.strip_prefix("video/");
            rest.is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
        };
        let media_type = media_type.map(str::trim).filter(plain).unwrap_or(MEDIA_TYPE);
        format!(r#"{}{{"url":"data:{media_type};base64,"#, job.opening(model, created))
    }

    /// A piece of the file, as far as it makes whole groups.
    pub fn push(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let left = self.rest.split_off(self.rest.len() - self.rest.len() % 3);
        STANDARD.encode(std::mem::replace(&mut self.rest, left))
    }

    /// What is left of the file, and the answer from there on.
    #[must_use]
    pub fn end(self) -> String {
        STANDARD.encode(self.rest) + r#""}]}"#
    }
}

/// The first text under one of these names.
fn text<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| object.get(*name)?.as_str()).filter(|text| !text.is_empty())
}

fn is_error(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => true,
    }
}

/// Addresses of videos, under any of their usual names.
fn films(job: &Map<String, Value>) -> Vec<String> {
    let lists = ["videos", "data", "output", "outputs", "video", "result"];
    let listed = lists.iter().filter_map(|name| job.get(*name)).map(films_in);
    let own = address(job).into_iter().collect();
    listed.chain([own]).find(|films: &Vec<String>| !films.is_empty()).unwrap_or_default()
}

fn films_in(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(films_in).collect(),
        Value::Object(item) => address(item).into_iter().collect(),
        Value::String(text) if is_address(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn address(item: &Map<String, Value>) -> Option<String> {
    let url = text(item, &["url", "video_url", "download_url"]).filter(|url| is_address(url));
    let data = || Some(format!("data:{MEDIA_TYPE};base64,{}", text(item, &["b64_json"])?));
    url.map(str::to_owned).or_else(data)
}

/// Whether a text is the address of a video that a client can use.
#[must_use]
pub fn is_address(text: &str) -> bool {
    ["https://", "http://", "data:"].iter().any(|scheme| text.starts_with(scheme))
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
