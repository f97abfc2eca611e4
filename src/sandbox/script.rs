//! Streams as scripts: a list of steps that is played to the client.

use super::answer::{Ask, Kind, Knobs};
use super::connection::{Connection, head};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

/// Longer than any gateway waits.
const FOREVER: Duration = Duration::from_secs(600);
const LINE_SIZE: usize = 1024 * 1024;

/// One step of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// The chunk that says only who speaks.
    Role,
    /// So many content chunks; `None` for as many as the model name asks for.
    Content(Option<usize>),
    /// The tool call or the words, whichever is asked for, in full.
    Body,
    /// The finish reason of every choice; `None` for the right one.
    Finish(Option<&'static str>),
    /// The usage chunk, if it was asked for.
    Usage,
    /// Cumulative usage inside a content chunk.
    ContentWithUsage,
    /// `data: [DONE]`
    Done,
    /// An event with this data.
    Data(&'static str),
    /// These bytes, framed as one chunk.
    Raw(&'static str),
    /// Comments every 100 ms, for ever.
    Pings,
    /// Silence.
    Stall,
    /// A content event of one MiB.
    BigLine,
    /// A line that does not end.
    EndlessLine,
    /// The proper end of the body.
    End,
    /// A closed connection without it.
    Cut,
    /// A reset.
    Reset,
    /// From here on every byte is written on its own, for the next events.
    Dribble,
    /// From here on everything is written at once at the end.
    Burst,
    /// From here on lines end with CR LF.
    Crlf,
    /// The body has no framing: it ends with the connection. First step only.
    CloseDelimited,
}

/// What an honest upstream does.
pub(super) const HONEST: &[Step] =
    &[Step::Role, Step::Body, Step::Finish(None), Step::Usage, Step::Done, Step::End];

struct Player<'a> {
    connection: &'a mut Connection,
    kind: Kind,
    ask: &'a Ask,
    knobs: &'a Knobs<'a>,
    chunked: bool,
    dribble: bool,
    burst: Option<Vec<u8>>,
    crlf: bool,
}

/// Plays a script; whether the connection can be used again.
pub(super) async fn play(
    connection: &mut Connection,
    script: &[Step],
    kind: Kind,
    ask: &Ask,
    knobs: &Knobs<'_>,
) -> io::Result<bool> {
    let chunked = !matches!(script.first(), Some(Step::CloseDelimited));
    let framing = if chunked { ("transfer-encoding", "chunked") } else { ("connection", "close") };
    let fields =
        [("content-type", "text/event-stream; charset=utf-8"), ("openai-processing-ms", "7"), framing];
    connection.write(head(200, &fields, None).as_bytes()).await?;
    let mut player =
        Player { connection, kind, ask, knobs, chunked, dribble: false, burst: None, crlf: false };
    for step in script {
        if let Some(reusable) = player.step(*step).await? {
            return Ok(reusable);
        }
    }
    Ok(false)
}

impl Player<'_> {
    /// Plays one step; `Some` when the answer is over.
    async fn step(&mut self, step: Step) -> io::Result<Option<bool>> {
        match step {
            Step::Role => self.choices(&json!({"role": "assistant", "content": ""}), Value::Null).await?,
            Step::Content(count) => self.words(count.unwrap_or(self.knobs.chunks)).await?,
            Step::Body => self.body().await?,
            Step::Finish(reason) => {
                let right = if self.ask.tool().is_some() { "tool_calls" } else { "stop" };
                self.choices(&json!({}), json!(reason.unwrap_or(right))).await?;
            }
            Step::Usage if self.ask.wants_usage() => {
                self.event(&self.chunk(json!([]), self.knobs.usage())).await?
            }
            Step::Usage => {}
            Step::ContentWithUsage => {
                let choices = json!([{"index": 0, "delta": {"content": "a "}, "finish_reason": null}]);
                self.event(&self.chunk(choices, self.knobs.usage())).await?;
            }
            Step::Done => self.line("data: [DONE]").await?,
            Step::Data(data) => self.line(&format!("data: {data}")).await?,
            Step::Raw(text) => self.write(text.as_bytes()).await?,
            Step::BigLine => {
                let text = "y".repeat(LINE_SIZE);
                self.choices(&json!({"content": text}), Value::Null).await?;
            }
            Step::Dribble => self.dribble = true,
            Step::Burst => self.burst = Some(Vec::new()),
            Step::Crlf => self.crlf = true,
            Step::CloseDelimited => {}
            Step::Pings | Step::Stall | Step::EndlessLine | Step::End | Step::Cut | Step::Reset => {
                return self.last(step).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Steps after which nothing comes.
    async fn last(&mut self, step: Step) -> io::Result<bool> {
        match step {
            Step::Pings => loop {
                self.write(b": ping\n\n").await?;
                self.connection.pause(Duration::from_millis(100)).await?;
            },
            Step::EndlessLine => {
                self.write(b"data: {\"choices\":[{\"delta\":{\"content\":\"").await?;
                let piece = "z".repeat(64 * 1024);
                for _ in 0..1024 {
                    self.write(piece.as_bytes()).await?;
                }
            }
            Step::Stall => self.connection.pause(FOREVER).await?,
            Step::Reset => self.connection.reset()?,
            Step::End => {
                if let Some(all) = self.burst.take() {
                    self.write(&all).await?;
                }
                if self.chunked {
                    self.connection.write(b"0\r\n\r\n").await?;
                    return Ok(true);
                }
            }
            _ => {}
        }
        Ok(false)
    }

    async fn body(&mut self) -> io::Result<()> {
        let Some(name) = self.ask.tool() else { return self.words(self.knobs.chunks).await };
        let start = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": name, "arguments": ""}}]});
        self.choices(&start, Value::Null).await?;
        for piece in ["{\"city\":", "\"Paris\"}"] {
            self.choices(
                &json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
                Value::Null,
            )
            .await?;
        }
        Ok(())
    }

    async fn words(&mut self, count: usize) -> io::Result<()> {
        for index in 0..count {
            if index > 0 {
                self.connection.pause(self.knobs.gap).await?;
            }
            let word = self
                .knobs
                .size
                .map_or_else(|| format!("word{index} "), |size| "x".repeat(size / count.max(1)));
            self.choices(&json!({"content": word}), Value::Null).await?;
        }
        Ok(())
    }

    /// One chunk for each choice.
    async fn choices(&mut self, delta: &Value, reason: Value) -> io::Result<()> {
        for index in 0..self.ask.choices() {
            let choice = match self.kind {
                Kind::Completions => {
                    json!({"index": index, "text": delta["content"].as_str().unwrap_or_default(),
                    "logprobs": null, "finish_reason": reason})
                }
                _ => json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": reason}),
            };
            self.event(&self.chunk(json!([choice]), Value::Null)).await?;
        }
        Ok(())
    }

    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let object = if self.kind == Kind::Completions { "text_completion" } else { "chat.completion.chunk" };
        let mut chunk = json!({"id": "chatcmpl-sandbox", "object": object, "created": 1_700_000_000,
            "model": self.ask.model, "system_fingerprint": "fp_sandbox", "choices": choices});
        if self.ask.wants_usage() || !usage.is_null() {
            chunk["usage"] = usage;
        }
        chunk
    }

    async fn event(&mut self, data: &Value) -> io::Result<()> {
        self.line(&format!("data: {data}")).await
    }

    async fn line(&mut self, line: &str) -> io::Result<()> {
        let end = if self.crlf { "\r\n\r\n" } else { "\n\n" };
        self.write(format!("{line}{end}").as_bytes()).await
    }

    /// Writes bytes of the body in the framing of the answer.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(all) = &mut self.burst {
            all.extend_from_slice(bytes);
            return Ok(());
        }
        if !self.dribble {
            return self.frame(bytes).await;
        }
        for byte in bytes {
            self.frame(&[*byte]).await?;
        }
        Ok(())
    }

    async fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.chunked {
            return self.connection.write(bytes).await;
        }
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.connection.write(&framed).await
    }
}
