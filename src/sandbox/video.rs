//! Video, answered at once or as a job.
//!
//! A job is kept nowhere: its id says when it was left and for what, so its state follows from the clock. It is queued for
//! the first third of the time that the knob `job` gives it, then under way, and then ends as the knob `ends` says.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::answer::{self, Answer, Step, base64, filler, now, quoted};
use super::ask::Scene;
use super::http::{Conn, Reply, Request};
use super::{Outcome, refuse};

/// Bytes of a video, unless the knob `size` says otherwise.
const SIZE: usize = 1000;

/// How a job goes.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// From its being left to its end.
    pub(super) takes: Duration,
    pub(super) ends: Ends,
    /// Whether its state has an address of the video; else there is the file alone.
    pub(super) has_url: bool,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ends {
    #[default]
    Completed,
    /// By a fault of the server.
    Failed,
    /// Because of what it asks for.
    Refused,
    Expired,
    /// It is under way for good.
    Stuck,
    /// Its state is told no more: 404.
    Lost,
    /// Its state is told no more: 500.
    Broken,
    /// It is completed, but its file is not there: 500.
    NoContent,
}

impl Ends {
    /// The end of this name.
    ///
    /// # Errors
    /// There is none, in words that name it.
    pub(super) fn named(name: &str) -> Result<Ends, String> {
        let ends = match name {
            "completed" => Ends::Completed,
            "failed" => Ends::Failed,
            "refused" => Ends::Refused,
            "expired" => Ends::Expired,
            "stuck" => Ends::Stuck,
            "lost" => Ends::Lost,
            "broken" => Ends::Broken,
            "no-content" => Ends::NoContent,
            _ => return Err(format!("A job of the sandbox does not end as '{name}'")),
        };
        Ok(ends)
    }
}

/// The answer of an upstream that makes the video while its client waits.
pub(super) fn answer(answer: &Answer<'_>) -> String {
    let (seconds, serial, model) = (answer.ask.seconds(), answer.serial, quoted(&answer.ask.model));
    let url = match answer.scene.size {
        Some(size) => data_uri(size),
        None => address(&serial.to_string()),
    };
    let film = format!(r#"{{"url":"{url}","duration":{seconds}}}"#);
    let films = vec![film; answer.ask.choices()].join(",");
    format!(
        r#"{{"id":"vid-sandbox-{serial}","object":"video.generation","created":{},"model":{model},"provider":"sandbox","videos":[{films}]}}"#,
        now()
    )
}

/// The answer to a job that is left.
pub(super) fn submitted(answer: &Answer<'_>) -> String {
    let named = format!("{}|{}|{}|{}", millis(), answer.serial, answer.ask.seconds(), answer.ask.model);
    let id: String = named.bytes().map(|byte| format!("{byte:02x}")).collect();
    let job = Job { id, left: millis(), seconds: answer.ask.seconds(), model: answer.ask.model.to_string() };
    job.state("queued", "")
}

/// A job, as its id tells it.
struct Job {
    id: String,
    /// When it was left, in milliseconds since the Unix epoch.
    left: u64,
    seconds: u64,
    model: String,
}

impl Job {
    fn of(target: &str) -> Option<Job> {
        let path = target.split('?').next()?;
        let id = path.split_once("/videos/")?.1.trim_end_matches("/content");
        let digits: Vec<u8> = id.bytes().collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.splitn(4, '|');
        let (left, _serial) = (parts.next()?.parse().ok()?, parts.next()?);
        let (seconds, model) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some(Job { id: id.to_owned(), left, seconds, model })
    }

    fn age(&self) -> Duration {
        Duration::from_millis(millis().saturating_sub(self.left))
    }

    /// What is told of it in this state, with further members.
    fn state(&self, status: &str, more: &str) -> String {
        let Job { id, seconds, model, left } = self;
        format!(
            r#"{{"id":"video_{id}","object":"video","created_at":{},"status":"{status}","model":{},"seconds":"{seconds}","size":"1280x720"{more}}}"#,
            left / 1000,
            quoted(model)
        )
    }
}

/// Answers what is asked of a job.
pub(super) async fn follow(conn: &mut Conn, request: &Request, step: Step) -> io::Result<Outcome> {
    let keep = request.keep_alive;
    let job = Job::of(&request.target.replacen("/videos/video_", "/videos/", 1));
    let scene = job.as_ref().and_then(|job| Scene::read(&job.model, None, Duration::ZERO).ok());
    let (Some(job), Some(scene)) = (job, scene) else {
        return refuse(conn, 404, "No such video", "not_found", keep).await;
    };
    let over = job.age() >= scene.job.takes;
    match (step, scene.job.ends) {
        (Step::Cancel, _) => say(conn, &job.state("cancelled", ""), keep).await,
        (Step::Content, Ends::Completed) if over => film(conn, &scene, keep).await,
        (Step::Content, Ends::NoContent) if over => fail(conn, keep).await,
        (Step::Content, _) => refuse(conn, 404, "Video is not ready yet", "not_found", keep).await,
        (Step::State, Ends::Lost) if over => refuse(conn, 404, "No such video", "not_found", keep).await,
        (Step::State, Ends::Broken) if over => fail(conn, keep).await,
        (Step::State, ends) => {
            say(conn, &told(&job, &scene, if over { ends } else { Ends::Stuck }), keep).await
        }
    }
}

/// The state of a job that ends, or is under way.
fn told(job: &Job, scene: &Scene, ends: Ends) -> String {
    let error = |code: &str, message: &str| format!(r#","error":{{"code":"{code}","message":"{message}"}}"#);
    match ends {
        Ends::Failed => job.state("failed", &error("server_error", "The video could not be made")),
        Ends::Refused => job.state(
            "failed",
            &error("moderation_blocked", "Your request was blocked by our moderation system."),
        ),
        Ends::Expired => job.state("expired", ""),
        Ends::Completed if scene.job.has_url => {
            job.state("completed", &format!(r#","url":"{}""#, address(&job.id)))
        }
        Ends::Completed | Ends::NoContent => job.state("completed", r#","error":null"#),
        Ends::Stuck | Ends::Lost | Ends::Broken if job.age() < scene.job.takes / 3 => job.state("queued", ""),
        Ends::Stuck | Ends::Lost | Ends::Broken => job.state("in_progress", r#","progress":50"#),
    }
}

/// The file of a video; the first bytes are those of an MP4.
async fn film(conn: &mut Conn, scene: &Scene, keep_alive: bool) -> io::Result<Outcome> {
    let body = file(scene.size.unwrap_or(SIZE));
    let reply = Reply { status: 200, content_type: "video/mp4", headers: &[], body: &body, keep_alive };
    conn.write(&reply.bytes()).await?;
    Ok(Outcome::Keep)
}

async fn say(conn: &mut Conn, body: &str, keep_alive: bool) -> io::Result<Outcome> {
    let body = body.as_bytes();
    let reply = Reply { status: 200, content_type: "application/json", headers: &[], body, keep_alive };
    conn.write(&reply.bytes()).await?;
    Ok(Outcome::Keep)
}

async fn fail(conn: &mut Conn, keep_alive: bool) -> io::Result<Outcome> {
    let body = answer::error("The server had an error", "server_error", None);
    let body = body.as_bytes();
    let reply = Reply { status: 500, content_type: "application/json", headers: &[], body, keep_alive };
    conn.write(&reply.bytes()).await?;
    Ok(Outcome::Keep)
}

fn file(size: usize) -> Vec<u8> {
    let mut file = b"\0\0\0\x20ftypisom".to_vec();
    file.extend_from_slice(filler(size.saturating_sub(file.len())).as_bytes());
    file.truncate(size.max(1));
    file
}

fn data_uri(size: usize) -> String {
    format!("data:video/mp4;base64,{}", base64(&file(size)))
}

fn address(name: &str) -> String {
    format!("https://videos.sandbox.example/{name}.mp4")
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
