//! A stream on its way through: commit gate, rewriting, completion (spec 1.5, 1.6, 2.6, 10.1), in four languages.
//!
//! [`EventStream`] takes an upstream's bytes and gives the client's. It holds everything back until there is content,
//! tells an answer that ended from one that was cut, and says how it ended. What the events of an API mean is known by
//! its [`Language`]: chat and completions ([`chat`]), Messages ([`messages`]), Responses ([`responses`]), images. There is no I/O
//! here and no clock; the relay asks and decides.

pub mod chat;
pub mod chunk;
mod foreign;
mod images;
pub mod messages;
mod pattern;
mod repair;
pub mod responses;
mod tally;

use super::allowed::Form;
use super::answer::Identity;
use super::endpoint::Call;
use super::envelope::{Text, is_present};
use super::error::PublicError;
use super::provenance;
use super::rewrite::{Action, Rewriter};
use super::sse::{Frame, Framer, taken};
use crate::core::estimate::Family;
use crate::core::usage::{Usage, UsageSource};
use bytes::{Bytes, BytesMut};
use foreign::Foreign;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tally::Tally;

/// Events that may be held back before the commit point.
pub const HELD_EVENTS_MAX: usize = 64;
/// Bytes that may be held back before the commit point.
pub const HELD_BYTES_MAX: usize = 256 * 1024;

/// A comment that keeps a connection alive.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

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
    /// An event that is none of its language.
    NotAnEvent,
    /// A line beyond the bound.
    LineTooLong,
    /// More preamble than the gate holds.
    GateFull,
    /// It ended before it was complete.
    Cut,
    /// It ended without any content, and without having finished.
    Empty,
    /// It is complete, and has no content.
    NoContent,
}

/// What is particular to one stream.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The API whose language it speaks.
    pub call: Call,
    /// The names of the answer.
    pub identity: Identity,
    /// Whether the client asked for usage (chat and completions; the others always have it).
    pub wants_usage: bool,
    /// Unix seconds, for events that the gateway makes itself.
    pub created: u64,
    /// What is known of its tokens before anything is reported.
    pub expected: Expected,
}

/// What is known of a stream's tokens before anything is reported.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Its input, as estimated.
    pub input: u64,
    /// The tokenizer by which its text is counted.
    pub tokenizer: Family,
    /// How many images are asked for.
    pub images: u64,
    /// Output tokens that an image is taken for.
    pub image_tokens: u64,
}

/// What the events of one API mean.
trait Language {
    /// Takes one event's data in, and writes what the client may read of it.
    fn event(&mut self, data: &Bytes, out: &mut Shell) -> Result<(), Fault>;

    /// Whether the answer is complete, though the stream may still have to say so.
    fn is_finished(&self) -> bool;

    /// Writes what a complete answer still lacks, up to its success marker; `used` is what it used.
    ///
    /// An answer without any content is none, unless the upstream says why ([`Fault::NoContent`]).
    fn complete(&mut self, out: &mut Shell, used: (&Usage, UsageSource)) -> Result<(), Fault>;

    /// The events that end the stream with an error (spec 2.6).
    fn error(&self, error: &PublicError, request_id: &str) -> String;
}

/// What all languages share of a stream under way.
#[derive(Debug, Default)]
struct Shell {
    out: BytesMut,
    /// Something that a client could show has come.
    content: bool,
    /// It goes out as it comes, with content or without.
    open: bool,
    /// The success marker has come.
    done: bool,
    /// Events held back, as long as there is no content.
    held: usize,
    /// An error event that came after everything was finished (spec 2.6).
    late_error: bool,
    /// What it has used.
    tally: Tally,
    /// Members that were dropped because they are not known.
    dropped: u64,
}

impl Shell {
    /// Counts the text of an event that fitted a pattern.
    fn deliver_text(&mut self, text: &str) {
        self.tally.deliver_text(text);
        self.note(true);
    }
}

/// What an event of a language with types is by its head.
enum Head<'a> {
    /// An error, in this language or in another: upstreams that relay do not translate theirs.
    Error,
    /// An event of this type, which can be its name: one line, and no other field behind it.
    Of(&'a str),
    /// Housekeeping, which changes nothing.
    Nothing,
}

impl<'a> Head<'a> {
    /// Reads the members `type` and `error` of an event; `is_own` tells the types of the language, any other is judged by
    /// what else it has.
    fn read(
        kind: Option<&'a Text<'_>>,
        error: Option<&RawValue>,
        data: &[u8],
        is_own: impl Fn(&str) -> bool,
    ) -> Result<Self, Fault> {
        if error.is_some_and(is_present) {
            return Ok(Self::Error);
        }
        let kind = kind.map(|kind| &*kind.0).filter(|kind| !kind.is_empty());
        match (kind, foreign_unless(kind.is_some_and(is_own), data)) {
            (Some("error"), _) | (_, Foreign::Error) => Ok(Self::Error),
            (Some(kind), _) if !kind.contains(char::is_control) => Ok(Self::Of(kind)),
            (None, Foreign::Housekeeping) => Ok(Self::Nothing),
            _ => Err(Fault::NotAnEvent),
        }
    }
}

fn foreign_unless(own: bool, data: &[u8]) -> Foreign {
    if own { Foreign::Housekeeping } else { foreign::judge(data) }
}

/// The fault of data that cannot be read as an event.
fn unreadable(data: &Bytes, out: &mut Shell, finished: bool) -> Result<(), Fault> {
    match foreign::judge(data) {
        Foreign::Error => out.error_event(data, finished),
        _ => Err(Fault::NotAnEvent),
    }
}

/// Whether a type is one of Responses, which is no type of another language.
fn is_of_responses(kind: &str) -> bool {
    kind.starts_with("response.")
}

/// How the events of a language pass.
struct EventForm {
    /// The members of an event.
    event: &'static Form,
    /// The member that holds the whole answer, which gets the gateway's names, and its form.
    whole: (&'static str, &'static Form),
}

impl EventForm {
    /// Writes an event with its name; how many members were dropped because they are not known.
    fn write(
        &self,
        out: &mut BytesMut,
        identity: &Identity,
        (kind, data): (&str, &[u8]),
        whole: Option<&RawValue>,
    ) -> u64 {
        let mut dropped = 0;
        let renamed = whole.map(|whole| {
            let mut renamed = BytesMut::with_capacity(whole.get().len() + 32);
            let mut rewriter = identity.clone().rewriter_of(self.whole.1);
            rewriter.push(&provenance::marked(whole.get().as_bytes(), identity.mark()), &mut renamed);
            dropped = rewriter.dropped();
            renamed.freeze()
        });
        out.reserve(data.len() + kind.len() + 64);
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let rule = |name: &str| match &renamed {
            Some(renamed) if name == self.whole.0 => Action::Replace(renamed.clone()),
            _ => identity.action(self.event, name),
        };
        let mut rewriter = Rewriter::new(rule).passing(identity.extra().clone());
        rewriter.push(&provenance::marked(data, identity.mark()), out);
        out.extend_from_slice(b"\n\n");
        dropped + rewriter.dropped()
    }
}

/// One stream under way.
pub struct EventStream {
    language: Box<dyn Language + Send>,
    framer: Framer,
    shell: Shell,
    expected: Expected,
}

impl EventStream {
    /// A stream of which nothing has arrived yet.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        let expected = options.expected;
        let language: Box<dyn Language + Send> = match options.call {
            Call::Messages => Box::new(messages::Messages::new(options)),
            Call::Responses => Box::new(responses::Responses::new(options)),
            Call::ImageGenerations | Call::ImageEdits => Box::new(images::Images::new(options)),
            _ => Box::new(chat::Chat::new(options)),
        };
        Self { language, framer: Framer::default(), shell: Shell::default(), expected }
    }

    /// Takes bytes of the upstream in; what the client may read of them waits in [`EventStream::take`].
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        if self.shell.done {
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
                    if self.shell.done {
                        return self.complete();
                    }
                }
            }
        }
    }

    /// The upstream has nothing more to say: [`Step::Done`] if the answer is complete, else why not.
    pub fn finish(&mut self) -> Step {
        if self.shell.done {
            return Step::Done;
        }
        if let Some(frame) = self.framer.finish() {
            // What is left of a cut connection is half an event; only a whole one counts.
            match self.frame(frame) {
                Err(Fault::NotAnEvent) => return Step::Failed(Fault::Cut),
                Err(fault) => return Step::Failed(fault),
                Ok(()) => {}
            }
        }
        if self.shell.done || self.language.is_finished() {
            self.complete()
        } else {
            Step::Failed(if self.shell.content { Fault::Cut } else { Fault::Empty })
        }
    }

    /// The bytes that the client may read now; before there is content, or after the end, this commits them.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        taken(&mut self.shell.out)
    }

    /// How many bytes [`EventStream::take`] would give.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shell.out.len()
    }

    /// Commits the stream as it is: what was held back may go out, and so may pings and whatever follows (spec 10.1).
    pub fn open(&mut self) {
        self.shell.open = true;
        if self.shell.out.is_empty() {
            self.shell.out.extend_from_slice(KEEP_ALIVE);
        }
    }

    /// Whether there is, or was, content, so that what was held back may go out.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.shell.content
    }

    /// What has been used so far, by the rules of [`super::usage`].
    #[must_use]
    pub fn usage(&self) -> (Usage, UsageSource) {
        self.shell.tally.usage(&self.expected)
    }

    /// What has been used so far by count alone, whatever was reported.
    #[must_use]
    pub fn counted(&self) -> Usage {
        self.shell.tally.counted_usage(&self.expected)
    }

    /// Bytes of text that were delivered: no fewer than the tokens of it.
    #[must_use]
    pub fn delivered_bytes(&self) -> u64 {
        self.shell.tally.bytes()
    }

    /// Whether something in the reports was no count of tokens.
    #[must_use]
    pub fn is_flawed(&self) -> bool {
        self.shell.tally.reading().flawed
    }

    /// Whether everything had finished when an error event came, which was dropped.
    #[must_use]
    pub fn had_late_error(&self) -> bool {
        self.shell.late_error
    }

    /// Members that were dropped because they are not known, so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shell.dropped
    }

    /// Whether the success marker has been written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shell.done
    }

    /// The events that end the stream with an error (spec 2.6).
    #[must_use]
    pub fn error(&self, error: &PublicError, request_id: &str) -> String {
        self.language.error(error, request_id)
    }

    fn standing(&self) -> Step {
        if self.shell.is_open() {
            Step::Content
        } else if self.shell.held > HELD_EVENTS_MAX || self.shell.out.len() > HELD_BYTES_MAX {
            Step::Failed(Fault::GateFull)
        } else {
            Step::Preamble
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<(), Fault> {
        let shell = &mut self.shell;
        match frame {
            Frame::Comment => {
                if shell.is_open() {
                    shell.out.extend_from_slice(KEEP_ALIVE);
                }
                Ok(())
            }
            Frame::Error(data) => shell.error_event(&data, self.language.is_finished()),
            Frame::Bare(data) if foreign::judge(&data) == Foreign::Error => {
                shell.error_event(&data, self.language.is_finished())
            }
            Frame::Bare(_) => Ok(()),
            Frame::Lines(data) => self.frame(Frame::Data(on_one_line(data))),
            Frame::Data(data) if data.trim_ascii().is_empty() => Ok(()),
            Frame::Data(data) if data.trim_ascii() == b"[DONE]" => {
                shell.done = true;
                Ok(())
            }
            Frame::Data(data) if simdutf8::basic::from_utf8(&data).is_ok() => {
                self.language.event(&data, shell)
            }
            // Some servers cut a character in two where they cut the text; half a character is no reason to fail.
            Frame::Data(data) => {
                let data = Bytes::from(String::from_utf8_lossy(&data).into_owned());
                self.language.event(&data, shell)
            }
        }
    }

    fn complete(&mut self) -> Step {
        let (usage, source) = self.usage();
        match self.language.complete(&mut self.shell, (&usage, source)) {
            Ok(()) => {
                self.shell.done = true;
                Step::Done
            }
            Err(fault) => Step::Failed(fault),
        }
    }
}

/// The data of an event of several lines on one (spec 2.6). Newlines of JSON stand between its tokens; what is none stays.
fn on_one_line(data: Bytes) -> Bytes {
    if serde_json::from_slice::<IgnoredAny>(&data).is_err() {
        return data;
    }
    let mut line = BytesMut::from(data);
    line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    line.freeze()
}

impl Shell {
    /// An error after everything has finished changes nothing for the client; it is dropped (spec 2.6).
    fn error_event(&mut self, data: &Bytes, finished: bool) -> Result<(), Fault> {
        if finished {
            self.late_error = true;
            return Ok(());
        }
        Err(Fault::ErrorEvent(data.clone()))
    }

    /// Whether what comes goes out at once.
    fn is_open(&self) -> bool {
        self.content || self.open
    }

    /// Notes an event that passes.
    fn note(&mut self, content: bool) {
        self.content |= content;
        self.held += usize::from(!self.is_open());
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
