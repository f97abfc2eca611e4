//! Video at an upstream that takes jobs (spec 11.5, 10.8): the job is left once, its state is asked for until it is done,
//! and the client reads the answer of an upstream that would have answered at once.
//!
//! Everything happens at one channel under one credential. What goes wrong after the job was left goes to no other
//! channel, since this one may be making the video; asking for its state again harms nobody, so that may fail a few times.
//! Whoever drops a job that is still under way (the client left, or its time is over) cancels it at the upstream, as far
//! as that can be done; nothing was delivered, so nothing is charged (spec 8.3).

use super::attempt::{Answer, Beside, Failed, Plan};
use super::exchange::{self, Deadlines, Exchange, Sending, Trouble};
use super::pool::ConnectionPool;
use super::replay::Payload;
use super::upstream::Channel;
use crate::config::Polling;
use crate::core::failure::{Accepted, Class, Verdict};
use crate::wire::video::{self, Film, Job, State};
use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

/// How long an upstream may take to tell a job's state.
const STATE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to cancel a job.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer about a job, in bytes; it may have the video in it.
pub(crate) const STATE_MAX: usize = 16 * 1024 * 1024;
/// Questions in a row that may go wrong.
const MISSES_MAX: u32 = 4;

/// A question about a job has no body.
static NOTHING: Payload<'static> = Payload::empty();

type Ran<T> = Result<T, Failed>;

/// Leaves a job and waits for its video. Beside the answer comes how long the credential is used up.
///
/// # Errors
///
/// [`Failed`] with the verdict; only one on the job's being left may let another channel be tried.
///
/// # Cancel safety
///
/// May be dropped; the job is cancelled then.
pub(super) async fn run(plan: &Plan<'_>, settings: &Polling) -> Ran<(Answer, Beside)> {
    match timeout_at(plan.deadlines.total, make(plan, settings)).await {
        Ok(made) => made,
        Err(_) => Err(Trouble::TotalTimeout.into()),
    }
}

async fn make(plan: &Plan<'_>, settings: &Polling) -> Ran<(Answer, Beside)> {
    let mut exchange = plan.send(&head(plan, Method::POST, &settings.submit)?).await?;
    let status = exchange.header()?.status.as_u16();
    if !(200..300).contains(&status) {
        return Err(plan.refused(exchange, status, BytesMut::new()).await);
    }
    let beside = plan.beside(&exchange);
    // From here on the upstream may be at work.
    let made = async {
        let body = read(&mut exchange).await?;
        exchange.close().await;
        follow(plan, settings, &body).await
    };
    let made = made.await.map_err(|failed| Failed {
        verdict: Verdict { accepted: Accepted::Perhaps, ..failed.verdict },
        status: failed.status.or(Some(status)),
        ..failed
    });
    made.map(|answer| (answer, beside))
}

/// Follows a job from the answer to its being left to its video.
async fn follow(plan: &Plan<'_>, settings: &Polling, submitted: &[u8]) -> Ran<Answer> {
    let unclear = || Failed::from(Verdict::new(Class::NotUnderstood, "video: no job"));
    let first = Job::read(submitted).ok_or_else(unclear)?;
    let Some(id) = first.path_id().filter(|_| first.state == State::Waiting) else {
        return match first.state {
            State::Waiting => Err(unclear()),
            State::Failed => Err(failed(plan, submitted)),
            State::Done => collect(plan, settings, first).await,
        };
    };
    let state = settings.status.replace("{id}", &id);
    let mut guard = Abandoned {
        pool: Arc::clone(plan.pool),
        channel: Arc::clone(plan.channel),
        head: Some(head(plan, Method::DELETE, &state)?),
    };
    let mut patience = Patience::new(settings);
    let done = loop {
        patience.rest().await;
        match ask(plan, &state).await {
            Ok((job, _)) if job.state == State::Waiting => patience.misses = 0,
            Ok((job, body)) => {
                guard.head = None;
                if job.state == State::Failed {
                    return Err(failed(plan, &body));
                }
                break Job { id: first.id, ..job };
            }
            Err(_) if patience.forgives() => {}
            Err(missed) => return Err(missed),
        }
    };
    collect(plan, settings, done).await
}

/// The answer of a job that is done: with the addresses it has, or with its file.
async fn collect(plan: &Plan<'_>, settings: &Polling, job: Job) -> Ran<Answer> {
    if !job.films.is_empty() {
        return Ok(Answer::Whole { body: job.answer(plan.upstream_model, plan.now).into() });
    }
    let unclear = || Failed::from(Verdict::new(Class::NotUnderstood, "video: done, and none there"));
    let content = settings.content.replace("{id}", &job.path_id().ok_or_else(unclear)?);
    let mut patience = Patience::new(settings);
    loop {
        match fetch(plan, &content, &job).await {
            Ok(answer) => return Ok(answer),
            Err(_) if patience.forgives() => patience.rest().await,
            Err(missed) => return Err(missed),
        }
    }
}

/// Begins to read the file of a video, or is sent on to its address.
async fn fetch(plan: &Plan<'_>, path: &str, job: &Job) -> Ran<Answer> {
    let mut exchange = get(plan, path).await?;
    let header = exchange.header()?;
    let (status, headers) = (header.status.as_u16(), header.headers.clone());
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(url) = field("location").filter(|url| (300..400).contains(&status) && video::is_address(url))
    {
        let films = vec![url.to_owned()];
        exchange.close().await;
        let job = Job { films, ..job.clone() };
        return Ok(Answer::Whole { body: job.answer(plan.upstream_model, plan.now).into() });
    }
    if !(200..300).contains(&status) {
        return Err(plan.refused(exchange, status, BytesMut::new()).await);
    }
    let first = exchange.read().await?.unwrap_or_default();
    if first.is_empty() || matches!(first.trim_ascii_start(), [b'{' | b'[' | b'<', ..]) {
        return Err(plan.refused(exchange, status, BytesMut::from(&first[..])).await);
    }
    let mut film = Film::default();
    let mut beginning = Film::opening(job, plan.upstream_model, plan.now, field("content-type"));
    beginning.push_str(&film.push(&first));
    Ok(Answer::Begun { exchange, beginning: beginning.into(), film: Some(film) })
}

/// Asks for the state of a job.
async fn ask(plan: &Plan<'_>, path: &str) -> Ran<(Job, Bytes)> {
    let mut exchange = get(plan, path).await?;
    let status = exchange.header()?.status.as_u16();
    if !(200..300).contains(&status) {
        return Err(plan.refused(exchange, status, BytesMut::new()).await);
    }
    let body = read(&mut exchange).await?;
    exchange.close().await;
    let job = Job::read(&body);
    let job = job.ok_or_else(|| Verdict::new(Class::NotUnderstood, "video: no state of a job"))?;
    Ok((job, body))
}

async fn get(plan: &Plan<'_>, path: &str) -> Ran<Box<Exchange>> {
    let head = head(plan, Method::GET, path)?;
    let (sending, deadlines) = bare(&head, STATE_TIMEOUT, plan.deadlines.total);
    let idle = plan.channel.settings.timeouts.idle;
    Ok(exchange::begin(plan.pool, plan.channel, sending, Deadlines { idle, ..deadlines }).await?)
}

/// A request without a body, which may be repeated.
fn bare(head: &RequestHeader, time: Duration, total: Instant) -> (Sending<'_>, Deadlines) {
    let end = total.min(Instant::now() + time);
    let deadlines = Deadlines { first_byte: time, idle: time, commit: end, total: end };
    (Sending { head, body: &NOTHING, repeatable: true }, deadlines)
}

/// The head of the call, with another method and path; it fails for no path that the configuration lets through.
fn head(plan: &Plan<'_>, method: Method, path: &str) -> Result<RequestHeader, Trouble> {
    let mut head = plan.head.clone();
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{path}{query}", plan.channel.settings.base_url.path);
    head.set_raw_path(path.as_bytes()).map_err(|_| Trouble::BadHttp)?;
    if method != Method::POST {
        head.remove_header("content-type");
        head.remove_header("content-length");
        let _ = head.insert_header("accept", "*/*");
    }
    head.set_method(method);
    Ok(head)
}

async fn read(exchange: &mut Exchange) -> Ran<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = exchange.read().await? {
        body.extend_from_slice(&piece);
        if body.len() > STATE_MAX {
            return Err(Verdict::new(Class::NotUnderstood, "video: too much about a job").into());
        }
    }
    Ok(body.freeze())
}

/// The verdict on a job that failed: by its error, as if that were an answer of its own.
fn failed(plan: &Plan<'_>, job: &[u8]) -> Failed {
    plan.judge(200, &http::HeaderMap::new(), job)
}

/// How often and how soon an upstream is asked again.
struct Patience {
    pause: Duration,
    longest: Duration,
    misses: u32,
}

impl Patience {
    fn new(settings: &Polling) -> Self {
        Self { pause: settings.interval, longest: settings.interval_max.max(settings.interval), misses: 0 }
    }

    /// Waits, and the next time half as long again.
    async fn rest(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause + self.pause / 2).min(self.longest);
    }

    /// Whether a question that went wrong may pass; too many may not.
    fn forgives(&mut self) -> bool {
        self.misses += 1;
        self.misses <= MISSES_MAX
    }
}

/// A job that nobody may be waiting for any more; whoever is done with it takes the head out.
struct Abandoned {
    pool: Arc<ConnectionPool>,
    channel: Arc<Channel>,
    /// The head of the request that cancels it.
    head: Option<RequestHeader>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let (Some(head), Ok(runtime)) = (self.head.take(), Handle::try_current()) else { return };
        runtime.spawn(cancel(Arc::clone(&self.pool), Arc::clone(&self.channel), head));
    }
}

/// Tells an upstream that nobody waits for a job; what it says to that changes nothing.
async fn cancel(pool: Arc<ConnectionPool>, channel: Arc<Channel>, head: RequestHeader) {
    let (sending, deadlines) = bare(&head, CANCEL_TIMEOUT, Instant::now() + CANCEL_TIMEOUT);
    if let Ok(mut exchange) = exchange::begin(&pool, &channel, sending, deadlines).await {
        let _ = exchange.read_error_body(BytesMut::new()).await;
        exchange.close().await;
    }
}
