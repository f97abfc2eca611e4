//! A chat or completions stream on its way through: commit gate, rewriting, completion (spec 1.5, 1.6, 2.6, 10.1).
//!
//! [`ChatStream`] takes an upstream's bytes and gives the client's. It holds everything back until there is content,
//! tells an answer that ended from one that was cut, hides usage the client did not ask for, and says how it ended. It
//! does no I/O and knows no clock; the relay asks it and decides.

use super::answer::Identity;
use super::chunk::Chunk;
use super::rewrite::{Action, Rewriter};
use super::sse::{Frame, Framer};
use bytes::{BufMut, Bytes, BytesMut};

/// Events that may be held back before the commit point.
const HELD_EVENTS_MAX: usize = 64;
/// Bytes that may be held back before the commit point.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing that a client could show yet.
    Preamble,
    /// There is content; what was held back may go out.
    Content,
    /// The stream said that it is complete.
    Done,
    /// It failed; nothing after this counts.
    Failed(Fault),
}

/// Why a stream failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An event that reports an error: its data.
    ErrorEvent(Bytes),
    /// A choice finished with the reason `error`.
    FinishedWithError,
    /// An event that is not a chunk.
    NotAChunk,
    /// A line beyond the bound.
    LineTooLong,
    /// More preamble than the gate holds.
    GateFull,
    /// It ended before it was complete.
    Cut,
    /// It ended properly, without any content.
    Empty,
}

/// What is particular to one stream.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The names of the answer.
    pub identity: Identity,
    /// `chat.completion.chunk` or `text_completion`.
    pub object: &'static str,
    /// Whether the client asked for usage.
    pub wants_usage: bool,
    /// Unix seconds, for chunks that the gateway makes itself.
    pub created: u64,
}

/// One stream under way.
#[derive(Debug)]
pub struct ChatStream {
    options: StreamOptions,
    framer: Framer,
    out: BytesMut,
    held_events: usize,
    content: bool,
    seen: u128,
    finished: u128,
    done: bool,
    usage: Option<Bytes>,
    /// An error event that came after everything was finished, for the log (spec 2.6).
    late_error: bool,
    chunks: u64,
}

impl ChatStream {
    /// A stream of which nothing has arrived yet.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        Self {
            options,
            framer: Framer::default(),
            out: BytesMut::new(),
            held_events: 0,
            content: false,
            seen: 0,
            finished: 0,
            done: false,
            usage: None,
            late_error: false,
            chunks: 0,
        }
    }

    /// Takes bytes of the upstream in; what the client may read of them waits in [`ChatStream::take`].
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        if self.done {
            return Step::Done;
        }
        self.framer.push(bytes);
        loop {
            match self.framer.next_frame() {
                Err(_) => return Step::Failed(Fault::LineTooLong),
                Ok(None) => return self.standing(),
                Ok(Some(frame)) => {
                    if let Err(fault) = self.frame(frame) {
                        return Step::Failed(fault);
                    }
                    if self.done {
                        return self.complete();
                    }
                }
            }
        }
    }

    /// The upstream has nothing more to say: [`Step::Done`] if the answer is complete, else why not.
    pub fn finish(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        if let Some(frame) = self.framer.finish() {
            // What is left of a cut connection is half an event; only a whole one counts.
            match self.frame(frame) {
                Err(Fault::NotAChunk) => return Step::Failed(Fault::Cut),
                Err(fault) => return Step::Failed(fault),
                Ok(()) => {}
            }
        }
        if self.done || self.all_finished() { self.complete() } else { Step::Failed(self.fault_at_end()) }
    }

    /// The bytes that the client may read now; before there is content, or after the end, this commits them.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// The usage that the upstream reported last.
    #[must_use]
    pub fn usage(&self) -> Option<&Bytes> {
        self.usage.as_ref()
    }

    /// Whether every choice had finished when an error event came, which was dropped.
    #[must_use]
    pub fn had_late_error(&self) -> bool {
        self.late_error
    }

    /// Events with content or a finish reason so far.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    fn standing(&self) -> Step {
        if self.content {
            Step::Content
        } else if self.held_events > HELD_EVENTS_MAX || self.out.len() > HELD_BYTES_MAX {
            Step::Failed(Fault::GateFull)
        } else {
            Step::Preamble
        }
    }

    fn all_finished(&self) -> bool {
        self.finished != 0 && self.seen & !self.finished == 0
    }

    fn fault_at_end(&self) -> Fault {
        if self.content { Fault::Cut } else { Fault::Empty }
    }

    fn frame(&mut self, frame: Frame) -> Result<(), Fault> {
        match frame {
            Frame::Comment => {
                if self.content {
                    self.out.extend_from_slice(b": keep-alive\n\n");
                }
                Ok(())
            }
            Frame::Data(data) if data.trim_ascii().is_empty() => Ok(()),
            Frame::Data(data) if data.trim_ascii() == b"[DONE]" => {
                self.done = true;
                Ok(())
            }
            Frame::Data(data) if simdutf8::basic::from_utf8(&data).is_ok() => self.event(&data),
            // Some servers cut a character in two where they cut the text; half a character is no reason to fail.
            Frame::Data(data) => self.event(&Bytes::from(String::from_utf8_lossy(&data).into_owned())),
        }
    }

    fn event(&mut self, data: &Bytes) -> Result<(), Fault> {
        let chunk = Chunk::parse(data).map_err(|_| Fault::NotAChunk)?;
        if chunk.error || chunk.finished_with_error {
            return self.error_event(data, chunk.error);
        }
        self.seen |= chunk.seen;
        self.finished |= chunk.finished;
        self.content |= chunk.content;
        if let Some(usage) = chunk.usage {
            self.usage = Some(Bytes::copy_from_slice(usage.get().as_bytes()));
        }
        if !chunk.no_choices {
            self.chunks += u64::from(chunk.content || chunk.finished != 0);
            self.held_events += usize::from(!self.content);
            self.write_event(data, chunk.usage.is_some());
        }
        Ok(())
    }

    /// An error after every choice has finished changes nothing for the client; it is dropped (spec 2.6).
    fn error_event(&mut self, data: &Bytes, reported: bool) -> Result<(), Fault> {
        if self.all_finished() {
            self.late_error = true;
            return Ok(());
        }
        Err(if reported { Fault::ErrorEvent(data.clone()) } else { Fault::FinishedWithError })
    }

    /// Usage comes once, at the end: inside chunks only a null passes, and only to a client that asked (spec 1.6).
    fn write_event(&mut self, data: &[u8], has_usage: bool) {
        let (identity, hide_usage) = (&self.options.identity, has_usage || !self.options.wants_usage);
        let mut rewriter = Rewriter::new(|name: &str| match name {
            "usage" if hide_usage => Action::Drop,
            _ => identity.action(name),
        });
        self.out.extend_from_slice(b"data: ");
        rewriter.push(data, &mut self.out);
        self.out.extend_from_slice(b"\n\n");
    }

    /// Brings the stream to its proper end: a finish reason, usage if asked for, `[DONE]`.
    fn complete(&mut self) -> Step {
        // An answer without a word is one if the upstream says that it was made: it has finished, or it has cost.
        if !self.content && !self.all_finished() && self.usage.is_none() {
            return Step::Failed(Fault::Empty);
        }
        self.done = true;
        for index in 0..u128::BITS {
            if (self.seen & !self.finished) >> index & 1 == 1 {
                self.write_own(&format!(
                    r#""choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]"#
                ));
            }
        }
        if let Some(usage) = self.usage.clone().filter(|_| self.options.wants_usage) {
            self.write_own(&format!(r#""choices":[],"usage":{}"#, String::from_utf8_lossy(&usage)));
        }
        self.out.extend_from_slice(b"data: [DONE]\n\n");
        Step::Done
    }

    /// Writes a chunk of the gateway's own.
    fn write_own(&mut self, rest: &str) {
        let StreamOptions { identity, object, created, .. } = &self.options;
        self.out.extend_from_slice(b"data: {\"id\":");
        self.out.extend_from_slice(identity.id());
        self.out.put_slice(format!(r#","object":"{object}","created":{created},"model":"#).as_bytes());
        self.out.extend_from_slice(identity.model());
        self.out.put_u8(b',');
        self.out.extend_from_slice(rest.as_bytes());
        self.out.extend_from_slice(b"}\n\n");
    }
}

#[cfg(test)]
#[path = "chat_stream_tests.rs"]
mod tests;
