//! The language of chat and completions streams: chunks, then `[DONE]`.
//!
//! Usage comes once, at the end, and only to a client that asked (spec 1.6). A finish reason without `[DONE]` is
//! complete, `[DONE]` without a finish reason is completed with one (spec 2.6).

use super::chunk::Chunk;
use super::foreign::{self, Foreign};
use super::pattern::{Hole, Pattern};
use super::{Fault, Language, Shell, StreamOptions, repair, unreadable};
use crate::core::usage::{Usage, UsageSource};
use crate::wire::allowed::CHAT;
use crate::wire::endpoint::Call;
use crate::wire::error::{Dialect, PublicError};
use crate::wire::inside::Sieve;
use crate::wire::rewrite::{Action, Rewriter};
use crate::wire::usage::{Objects, render};
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem::Finder;
use std::sync::LazyLock;

/// A chat or completions stream.
pub(super) struct Chat {
    options: StreamOptions,
    /// Choices that were mentioned, one bit each.
    seen: u128,
    /// Choices that have finished, one bit each.
    finished: u128,
    /// Choices that called tools, one bit each.
    calls: u128,
    /// Choices that called a function in the older way, one bit each.
    calls_function: u128,
    /// A filter held an answer back.
    withheld: bool,
    /// An answer ended at its bound.
    bounded: bool,
    pattern: Pattern,
}

/// Where in a chunk there is usage.
#[derive(Clone, Copy, Default)]
struct InChunk {
    own: bool,
    in_choices: bool,
}

impl Chat {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            seen: 0,
            finished: 0,
            calls: 0,
            calls_function: 0,
            withheld: false,
            bounded: false,
            pattern: Pattern::default(),
        }
    }

    /// Writes a chunk; how many members were dropped because they are not known. Inside chunks only a null passes as usage,
    /// and only to a client that asked; inside choices nothing does.
    fn write_event(&self, data: &[u8], usage: InChunk, out: &mut BytesMut) -> u64 {
        let (identity, hide_usage) = (&self.options.identity, usage.own || !self.options.wants_usage);
        let rule = |name: &str| match name {
            // It says that there is none, and clients look whether it is there.
            "error" => Action::Drop,
            "usage" if hide_usage => Action::Drop,
            "choices" if usage.in_choices && identity.is_unchanged() => {
                Action::Look(Sieve::Without(&["usage"]))
            }
            _ => identity.action(&CHAT, name),
        };
        let rewriter = Rewriter::new(rule).requiring(identity.required(&CHAT));
        let mut rewriter = rewriter.passing(identity.extra().clone());
        out.reserve(data.len() + 64);
        out.extend_from_slice(b"data: ");
        rewriter.push(data, out);
        out.extend_from_slice(b"\n\n");
        rewriter.dropped()
    }

    /// Learns what events look like from one that delivers text and says nothing else.
    fn learn(&mut self, data: &[u8], chunk: &Chunk<'_>) {
        let Some(text) = chunk.plain else { return };
        let mut holes = vec![(Hole::Text, text)];
        holes.extend(chunk.padding.map(|padding| (Hole::Filler, padding)));
        let mut pattern = std::mem::take(&mut self.pattern);
        pattern.learn(data, holes, |data, out| self.write_event(data, InChunk::default(), out));
        self.pattern = pattern;
    }

    /// Writes the end of each of these choices, which is one bit.
    fn write_ends(&self, choices: u128, reason: &str, out: &mut Shell) {
        let nothing = if self.options.call == Call::Completions { r#""text":"""# } else { r#""delta":{}"# };
        for index in (0..u128::BITS).filter(|index| choices >> index & 1 == 1) {
            let choice = format!(r#"{{"index":{index},{nothing},"finish_reason":"{reason}"}}"#);
            self.write_own(&format!(r#""choices":[{choice}]"#), out);
        }
    }

    /// Writes a chunk of the gateway's own.
    fn write_own(&self, rest: &str, out: &mut Shell) {
        let StreamOptions { identity, created, call, .. } = &self.options;
        let object = if *call == Call::Completions { "text_completion" } else { "chat.completion.chunk" };
        out.out.extend_from_slice(b"data: {\"id\":");
        out.out.extend_from_slice(identity.id());
        out.out.put_slice(format!(r#","object":"{object}","created":{created},"model":"#).as_bytes());
        out.out.extend_from_slice(identity.model());
        out.out.put_u8(b',');
        out.out.extend_from_slice(rest.as_bytes());
        out.out.extend_from_slice(b"}\n\n");
    }
}

/// Whether a chunk may have findings of filters in it.
fn may_have_findings(chunk: &[u8]) -> bool {
    static FINDING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("_filter_"));
    FINDING.find(chunk).is_some()
}

impl Language for Chat {
    fn event(&mut self, data: &Bytes, out: &mut Shell) -> Result<(), Fault> {
        if let Some(held) = self.pattern.fit(data, &mut out.out) {
            out.dropped += held.dropped;
            out.deliver_text(held.text);
            return Ok(());
        }
        let finished = self.is_finished();
        let Ok(chunk) = Chunk::parse(data, |text| out.tally.deliver(text)) else {
            return unreadable(data, out, finished);
        };
        if chunk.odd {
            let repaired = repair::chunk(data).ok_or(Fault::NotAnEvent)?;
            return self.event(&repaired, out);
        }
        let silent = !chunk.content && !chunk.reasoned;
        match silent && !chunk.error {
            true if chunk.no_choices => match foreign::judge(data) {
                Foreign::Error => return out.error_event(data, finished),
                Foreign::Unknown if !finished => return Err(Fault::NotAnEvent),
                Foreign::Unknown | Foreign::Housekeeping => {}
            },
            true if foreign::is_marked(data) => return out.error_event(data, finished),
            _ => {}
        }
        if chunk.error || chunk.finished_badly && !(out.content && chunk.finished_short) {
            return out.error_event(data, finished);
        }
        out.tally.deliver_images(chunk.images);
        self.seen |= chunk.seen;
        self.finished |= chunk.finished;
        self.calls |= chunk.calls;
        self.calls_function |= chunk.calls_function;
        if let Some(usage) = chunk.usage {
            out.tally.report(usage, self.options.wants_usage);
        }
        self.withheld |= chunk.withheld != 0;
        self.bounded |= chunk.bounded;
        let trusted = self.options.identity.is_unchanged();
        if chunk.aside && chunk.finished == chunk.withheld && !trusted && may_have_findings(data) {
            // A note of what filters found in text that was sent before: only that they end a choice is the client's
            // business, and such a note is no proper chunk.
            out.note(false);
            self.write_ends(chunk.withheld, "content_filter", out);
        } else if !chunk.no_choices {
            out.note(chunk.content);
            let usage = InChunk { own: chunk.usage.is_some(), in_choices: chunk.usage_in_choices };
            out.dropped += self.write_event(data, usage, &mut out.out);
            self.learn(data, &chunk);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.finished != 0 && self.seen & !self.finished == 0
    }

    fn complete(&mut self, out: &mut Shell, (used, source): (&Usage, UsageSource)) -> Result<(), Fault> {
        if !out.content && !self.is_finished() && !out.tally.says_output() {
            return Err(Fault::Empty);
        }
        // An answer that has no choice at all is taken at the word of its usage.
        let without_choice = self.seen == 0 && out.tally.says_output();
        let explained = self.withheld
            || out.tally.says_reasoning()
            || without_choice
            || self.bounded && out.tally.says_output();
        if !out.content && !explained {
            return Err(Fault::NoContent);
        }
        // Success always has a finish reason, and a first choice to have it (spec 2.6).
        let open = if without_choice && !out.content { 1 } else { self.seen & !self.finished };
        let called = open & self.calls;
        let called_function = open & self.calls_function & !self.calls;
        self.write_ends(called, "tool_calls", out);
        self.write_ends(called_function, "function_call", out);
        self.write_ends(open & !called & !called_function, "stop", out);
        if self.options.wants_usage {
            let usage = match out.tally.object() {
                Some(usage) => Objects::complete(&self.options.identity.usage(usage), used, source),
                None => render(used).into(),
            };
            self.write_own(&format!(r#""choices":[],"usage":{}"#, String::from_utf8_lossy(&usage)), out);
        }
        out.out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }

    fn error(&self, error: &PublicError, request_id: &str) -> String {
        format!("data: {}\n\n", error.render(Dialect::OpenAi, request_id))
    }
}
