//! Streamed answers: server-sent events in chunked framing, one write for each event.
//!
//! A stream is a fixed walk (role, content, finish, usage, `[DONE]`); a fault either breaks off the walk at one point or
//! gives the whole of it an odd form. Each event is framed and written by itself, because when bytes arrive is what a
//! gateway's stream handling is tested on.

use std::io::{self, Write};
use std::time::Duration;

use super::answer::{ARGUMENTS, Answer, Route, error, filler, quoted};
use super::fault::{At, Shape, Then};
use super::http::{self, Conn};
use super::speech::Event;
use super::{LONG, Outcome};

/// Content chunks before a fault in the middle.
const MID: usize = 3;
/// Bytes of the body that are written one by one.
const SPLIT: usize = 400;
/// Content of the one large event, bytes.
const BIG: usize = 1024 * 1024;
/// Pieces of the endless line, and the size of each.
const ENDLESS: (usize, usize) = (1024, 64 * 1024);

/// What is wrong or odd with a stream; nothing, by default.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Script {
    pub(super) breaks: Option<(At, Then)>,
    pub(super) shape: Option<Shape>,
}

/// Sends a whole stream.
pub(super) async fn play(
    conn: &mut Conn,
    answer: &Answer<'_>,
    script: Script,
    keep_alive: bool,
    chunked_ok: bool,
) -> io::Result<Outcome> {
    let chunked = chunked_ok && script.shape != Some(Shape::CloseDelimited);
    let mut player = Player {
        conn,
        answer,
        script,
        chunked,
        out: Vec::with_capacity(1024),
        single: if script.shape == Some(Shape::Split) { SPLIT } else { 0 },
        opening: answer.opening(if answer.route == Route::Chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        }),
    };
    player.head(keep_alive && chunked).await?;
    match player.walk().await? {
        Outcome::Keep if !chunked => Ok(Outcome::Close),
        outcome => Ok(outcome),
    }
}

struct Player<'a> {
    conn: &'a mut Conn,
    answer: &'a Answer<'a>,
    script: Script,
    chunked: bool,
    /// Bytes framed and not yet written.
    out: Vec<u8>,
    /// How many more bytes are to be written one by one.
    single: usize,
    opening: String,
}

impl Player<'_> {
    /// Frames the head, to leave with the first event.
    async fn head(&mut self, keep_alive: bool) -> io::Result<()> {
        let id = format!("req_sandbox_{}", self.answer.serial);
        let headers = [("cache-control", "no-cache"), ("x-request-id", id.as_str())];
        self.out = http::head(200, "text/event-stream; charset=utf-8", &headers, keep_alive, 512);
        if self.chunked {
            self.out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        if self.single > 0 {
            self.conn.write(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    async fn walk(&mut self) -> io::Result<Outcome> {
        if let Some(then) = self.breaks_at(At::Start) {
            return self.go_wrong(then).await;
        }
        if self.has_names() {
            return self.walk_named().await;
        }
        let choices = self.answer.ask.choices();
        if self.answer.route == Route::Chat {
            for index in 0..choices {
                self.chunk(index, &self.opener(index), None, 0).await?;
            }
        }
        if let Some(then) = self.breaks_at(At::AfterRole) {
            return self.go_wrong(then).await;
        }
        if let Some(then) = self.content(choices).await? {
            return self.go_wrong(then).await;
        }
        if self.script.shape != Some(Shape::NoFinish) {
            for index in 0..choices {
                self.chunk(index, "", Some(self.finish()), self.answer.completion_tokens()).await?;
            }
        }
        if let Some(then) = self.breaks_at(At::AfterFinish) {
            return self.go_wrong(then).await;
        }
        self.usage().await?;
        if self.script.shape != Some(Shape::NoDone) {
            self.event("[DONE]").await?;
        }
        self.end().await
    }

    /// Whether the events of this language have names.
    fn has_names(&self) -> bool {
        matches!(self.answer.route, Route::Messages | Route::Responses) || self.answer.makes_images()
    }

    /// The same walk in the languages whose events have names.
    async fn walk_named(&mut self) -> io::Result<Outcome> {
        for event in self.answer.opening_events() {
            self.named(event).await?;
        }
        if let Some(then) = self.breaks_at(At::AfterRole) {
            return self.go_wrong(then).await;
        }
        let breaks = self.breaks_at(At::Mid);
        let all = if self.answer.makes_images() {
            self.answer.ask.partial_images()
        } else {
            self.answer.scene.chunks
        };
        for number in 0..if breaks.is_some() { all.min(MID) } else { all } {
            self.pause(self.answer.scene.chunk_delay).await?;
            self.named(self.answer.text_event(number)).await?;
        }
        if let Some(then) = breaks {
            return self.go_wrong(then).await;
        }
        if self.script.shape != Some(Shape::NoFinish) {
            for event in self.answer.finish_events(self.script.shape != Some(Shape::FinishError)) {
                self.named(event).await?;
            }
        }
        if let Some(then) = self.breaks_at(At::AfterFinish) {
            return self.go_wrong(then).await;
        }
        if let Some(event) = self.answer.closing_event().filter(|_| self.script.shape != Some(Shape::NoDone))
        {
            self.named(event).await?;
        }
        self.end().await
    }

    async fn named(&mut self, (name, data): Event) -> io::Result<()> {
        let lines =
            if self.script.shape == Some(Shape::Crlf) { ("\r\n", "\r\n\r\n") } else { ("\n", "\n\n") };
        self.send(&["event: ", name, lines.0, "data: ", &data, lines.1]).await
    }

    /// Sends the content, or as much of it as comes before a fault in the middle.
    async fn content(&mut self, choices: usize) -> io::Result<Option<Then>> {
        let breaks = self.breaks_at(At::Mid);
        let all = match self.answer.tool() {
            Some(_) => ARGUMENTS.len(),
            None if self.answer.is_pictured() => 1,
            None => self.answer.scene.chunks,
        };
        let count = if breaks.is_some() { all.min(MID) } else { all };
        for number in 0..count {
            self.pause(self.answer.scene.chunk_delay).await?;
            let delta = self.delta(number);
            let so_far = ((number + 1) * choices) as u64;
            for index in 0..choices {
                self.chunk(index, &delta, None, so_far).await?;
            }
        }
        Ok(breaks)
    }

    fn breaks_at(&self, point: At) -> Option<Then> {
        self.script.breaks.filter(|(at, _)| *at == point).map(|(_, then)| then)
    }

    /// The members of the first delta of a choice.
    fn opener(&self, index: usize) -> String {
        match self.answer.tool() {
            Some(name) => format!(
                r#""role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{}","type":"function","function":{{"name":{},"arguments":""}}}}]"#,
                self.answer.call_id(index),
                quoted(name),
            ),
            None => r#""role":"assistant","content":"","refusal":null"#.to_owned(),
        }
    }

    /// The members of a content delta.
    fn delta(&self, number: usize) -> String {
        if self.answer.tool().is_some() {
            let piece = ARGUMENTS.get(number).copied().unwrap_or_default();
            return format!(r#""tool_calls":[{{"index":0,"function":{{"arguments":"{piece}"}}}}]"#);
        }
        if self.answer.is_pictured() {
            return self.answer.pictured_members();
        }
        let big = self.script.shape == Some(Shape::BigLine) && number == 0;
        let piece = if big { filler(BIG).into() } else { self.answer.piece(number) };
        match self.answer.route {
            Route::Chat => format!(r#""content":"{piece}""#),
            _ => piece.into_owned(),
        }
    }

    fn finish(&self) -> &'static str {
        match self.answer.tool() {
            _ if self.script.shape == Some(Shape::FinishError) => "error",
            Some(_) => "tool_calls",
            None => "stop",
        }
    }

    /// Sends one chunk of one choice; `so_far` is the count of completion tokens up to it.
    async fn chunk(
        &mut self,
        index: usize,
        delta: &str,
        finish: Option<&str>,
        so_far: u64,
    ) -> io::Result<()> {
        let finish = finish.map_or_else(|| "null".to_owned(), |f| format!("\"{f}\""));
        let choice = match self.answer.route {
            Route::Chat => format!(
                r#"{{"index":{index},"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish}}}]"#
            ),
            _ => format!(r#"{{"index":{index},"text":"{delta}","logprobs":null,"finish_reason":{finish}}}]"#),
        };
        let usage = match self.script.shape {
            Some(Shape::UsageEveryChunk) => format!(r#","usage":{}}}"#, self.answer.usage(so_far)),
            Some(Shape::NoUsage) => "}".to_owned(),
            _ if self.answer.ask.wants_usage() => r#","usage":null}"#.to_owned(),
            _ => "}".to_owned(),
        };
        let data = [self.opening.as_str(), &choice, &usage].concat();
        self.event(&data).await
    }

    async fn usage(&mut self) -> io::Result<()> {
        if !self.answer.ask.wants_usage() || self.script.shape == Some(Shape::NoUsage) {
            return Ok(());
        }
        let usage = self.answer.usage(self.answer.completion_tokens());
        let data = format!(r#"{}],"usage":{usage}}}"#, self.opening);
        self.event(&data).await
    }

    async fn event(&mut self, data: &str) -> io::Result<()> {
        let end = if self.script.shape == Some(Shape::Crlf) { "\r\n\r\n" } else { "\n\n" };
        self.send(&["data: ", data, end]).await
    }

    /// Frames the parts as one piece of the body and writes it.
    async fn send(&mut self, parts: &[&str]) -> io::Result<()> {
        if self.chunked {
            let length: usize = parts.iter().map(|p| p.len()).sum();
            // Writing to a Vec cannot fail.
            let _ = write!(self.out, "{length:x}\r\n");
        }
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        match self.script.shape {
            Some(Shape::Burst) => Ok(()),
            _ => self.flush().await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let singles = self.single.min(self.out.len());
        let (slow, fast) = self.out.split_at_checked(singles).unwrap_or((&self.out, &[]));
        for (sent, byte) in slow.chunks(1).enumerate() {
            self.conn.write(byte).await?;
            // A reader must get the chance to see the bytes apart.
            let rest = if sent % 16 == 0 { Duration::from_millis(1) } else { Duration::ZERO };
            self.conn.pause(rest).await?;
            tokio::task::yield_now().await;
        }
        if !fast.is_empty() {
            self.conn.write(fast).await?;
        }
        self.single -= singles;
        self.out.clear();
        Ok(())
    }

    async fn pause(&mut self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        if self.script.shape != Some(Shape::Burst) {
            self.flush().await?;
        }
        self.conn.pause(time).await
    }

    /// Ends the body as it should end.
    async fn end(&mut self) -> io::Result<Outcome> {
        if self.chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await?;
        Ok(Outcome::Keep)
    }

    async fn go_wrong(&mut self, then: Then) -> io::Result<Outcome> {
        match then {
            Then::Error if self.has_names() => self.named(self.answer.error_event()).await?,
            Then::Error => {
                self.event(&error(
                    "The server had an error while processing your request",
                    "server_error",
                    None,
                ))
                .await?;
            }
            Then::Garbage => self.event(r#"{"id":"chatcmpl-sandbox","choices":[{"ind"#).await?,
            Then::Done => self.event("[DONE]").await?,
            Then::Raw(text) => self.send(&[text]).await?,
            Then::End => {}
            Then::Close => {
                self.flush().await?;
                return Ok(Outcome::Close);
            }
            Then::Reset => {
                self.flush().await?;
                // A reset overtakes bytes that the client has not taken in yet.
                self.conn.pause(Duration::from_millis(20)).await?;
                return Ok(Outcome::Reset);
            }
            Then::Hang => {
                self.flush().await?;
                self.conn.pause(LONG).await?;
                return Ok(Outcome::Close);
            }
            Then::PingHang => return self.ping().await,
            Then::EndlessLine => return self.endless_line().await,
        }
        self.end().await
    }

    async fn ping(&mut self) -> io::Result<Outcome> {
        let interval = Duration::from_millis(100);
        for _ in 0..LONG.as_millis() / interval.as_millis() {
            self.send(&[": ping\n\n"]).await?;
            self.conn.pause(interval).await?;
        }
        Ok(Outcome::Close)
    }

    async fn endless_line(&mut self) -> io::Result<Outcome> {
        let start = format!(r#"data: {}{{"index":0,"delta":{{"content":""#, self.opening);
        self.send(&[&start]).await?;
        let piece = filler(ENDLESS.1);
        for _ in 0..ENDLESS.0 {
            self.send(&[&piece]).await?;
        }
        Ok(Outcome::Close)
    }
}
