//! Usage as upstreams report it (spec 7.1), in every dialect.
//!
//! Chat, completions and embeddings say `prompt_tokens` and `completion_tokens`; Responses and images say
//! `input_tokens` and `output_tokens`, with the parts of each in a member `…_details`. Messages says `input_tokens` too,
//! but leaves out what its cache read and wrote, and has no details of its input. DeepSeek and Moonshot put cached
//! tokens beside the others; xAI leaves reasoning out of `completion_tokens`, and Google does not even name it: it is
//! what the total has more. A relay may say the same in several ways, some of them zero: the largest figure counts.
//!
//! What is no count (negative, fractional, text, absurd) was not reported, and parts never exceed their whole. So
//! nonsense harms neither side; but it is told, as a flaw.

use super::envelope::Members;
use crate::core::usage::Usage;
use serde_json::value::RawValue;

/// The largest count that is believed; more than any model can read or write in one call.
const TOKENS_MAX: u64 = 1 << 40;

/// Names of tokens read from a cache, beside the input and in its details.
const CACHED: [&str; 3] = ["cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens"];
/// Names of tokens written to a cache, beside the input and in its details.
const WRITTEN: [&str; 3] = ["cache_creation_input_tokens", "cache_write_tokens", "cache_creation_tokens"];

/// Figures as they were reported; some may be missing. Several reports of one answer merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// Input with what a cache read and wrote.
    whole_input: Option<u64>,
    /// Input without that.
    fresh_input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    image_input: Option<u64>,
    image_output: Option<u64>,
    reasoning: Option<u64>,
    flawed: bool,
}

/// What reports come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The usage, unless neither input nor output was reported; what is no token is not in it.
    pub usage: Option<Usage>,
    /// Something was no count, or a part was larger than its whole.
    pub flawed: bool,
}

/// Reads the `usage` object of a whole answer.
#[must_use]
pub fn read(usage: &[u8]) -> Reading {
    Reported::read(usage).finish()
}

/// A `usage` object of chat and completions, for upstreams that report none (spec 1.6).
#[must_use]
pub fn render(usage: &Usage) -> String {
    let (input, output) = (usage.input, usage.output);
    let total = input.saturating_add(output);
    format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}"#)
}

impl Reported {
    /// Reads a `usage` object.
    #[must_use]
    pub fn read(usage: &[u8]) -> Self {
        let mut reader = Reader { flawed: false };
        let top = match serde_json::from_slice::<Option<Members<'_>>>(usage) {
            Ok(members) => members.unwrap_or(NOTHING),
            Err(_) => return Self { flawed: true, ..Self::default() },
        };
        let of_input = reader.object(&top, &["prompt_tokens_details", "input_tokens_details"]);
        let of_output = reader.object(&top, &["completion_tokens_details", "output_tokens_details"]);
        let prompt = reader.count(&top, &["prompt_tokens"]);
        let input = reader.count(&top, &["input_tokens"]);
        let is_whole = prompt.is_some() || of_input.is_some();
        let image_input = of_input.as_ref().and_then(|of_input| reader.count(of_input, &["image_tokens"]));
        let of_input = of_input.unwrap_or(NOTHING);
        let output = reader.count(&top, &["completion_tokens", "output_tokens"]);
        let image_output = match &of_output {
            Some(of_output) => reader.count(of_output, &["image_tokens"]),
            // The answer of an image endpoint, which is all image where nothing else is said.
            None => output.filter(|_| input.is_some() && image_input.is_some()),
        };
        let of_output = of_output.unwrap_or(NOTHING);
        let lifetimes = reader
            .object(&top, &["cache_creation"])
            .or_else(|| reader.object(&of_input, &["cache_creation"]));
        let lifetimes = lifetimes.unwrap_or(NOTHING);
        Self {
            whole_input: prompt.max(input).filter(|_| is_whole),
            fresh_input: input.filter(|_| !is_whole),
            output,
            total: reader.count(&top, &["total_tokens"]),
            cached: reader.count(&top, &CACHED).max(reader.count(&of_input, &CACHED)),
            cache_write: reader.count(&top, &WRITTEN).max(reader.count(&of_input, &WRITTEN)),
            cache_write_5m: reader.count(&lifetimes, &["ephemeral_5m_input_tokens"]),
            cache_write_1h: reader.count(&lifetimes, &["ephemeral_1h_input_tokens"]),
            image_input,
            image_output,
            reasoning: reader.count(&of_output, &["reasoning_tokens", "thinking_tokens"]),
            flawed: reader.flawed,
        }
    }

    /// These figures with later ones of the same answer: each as it was reported last.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            whole_input: later.whole_input.or(self.whole_input),
            fresh_input: later.fresh_input.or(self.fresh_input),
            output: later.output.or(self.output),
            total: later.total.or(self.total),
            cached: later.cached.or(self.cached),
            cache_write: later.cache_write.or(self.cache_write),
            cache_write_5m: later.cache_write_5m.or(self.cache_write_5m),
            cache_write_1h: later.cache_write_1h.or(self.cache_write_1h),
            image_input: later.image_input.or(self.image_input),
            image_output: later.image_output.or(self.image_output),
            reasoning: later.reasoning.or(self.reasoning),
            flawed: self.flawed || later.flawed,
        }
    }

    /// The usage that the figures come to, in the gateway's terms.
    #[must_use]
    pub fn finish(&self) -> Reading {
        if self.whole_input.or(self.fresh_input).or(self.output).is_none() {
            return Reading { usage: None, flawed: self.flawed };
        }
        let mut flawed = self.flawed;
        let mut within = |part: u64, whole: u64| {
            flawed |= part > whole;
            part.min(whole)
        };
        let (cached, cache_write) = (self.cached.unwrap_or(0), self.cache_write());
        let apart = || self.fresh_input.unwrap_or(0).saturating_add(cached).saturating_add(cache_write);
        let input = self.whole_input.unwrap_or_else(apart);
        let unnamed = self.unnamed(input, cached.saturating_add(cache_write));
        let output = self.output.unwrap_or(0).saturating_add(unnamed);
        let cached = within(cached, input);
        let cache_write = within(cache_write, input - cached);
        let usage = Usage {
            input,
            output,
            cached,
            cache_write,
            cache_write_1h: within(self.cache_write_1h.unwrap_or(0), cache_write),
            image_input: within(self.image_input.unwrap_or(0), input),
            image_output: within(self.image_output.unwrap_or(0), output),
            reasoning: within(self.reasoning.unwrap_or(0).max(unnamed), output),
            ..Usage::default()
        };
        Reading { usage: Some(usage), flawed }
    }

    /// Tokens written to a cache; a report may give only the lifetimes.
    fn cache_write(&self) -> u64 {
        let lifetimes = || self.cache_write_5m.unwrap_or(0).saturating_add(self.cache_write_1h.unwrap_or(0));
        self.cache_write.unwrap_or_else(lifetimes)
    }

    /// Reasoning that is in the total and not in the output: exactly what is said to be reasoning, or else whatever the
    /// total has more, unless that is just what the cache has (a relay that leaves it out of the input).
    fn unnamed(&self, input: u64, of_cache: u64) -> u64 {
        let (Some(total), Some(output)) = (self.total, self.output) else { return 0 };
        let more = total.saturating_sub(input.saturating_add(output));
        let is_reasoning = match self.reasoning {
            None | Some(0) => more != of_cache,
            Some(reasoning) => reasoning == more,
        };
        if is_reasoning { more } else { 0 }
    }
}

const NOTHING: Members<'static> = Members(Vec::new());

/// Reads members, and remembers whether one of them was nonsense.
struct Reader {
    flawed: bool,
}

impl Reader {
    /// The largest count under one of these names.
    fn count(&mut self, members: &Members<'_>, names: &[&str]) -> Option<u64> {
        let counts = names.iter().filter_map(|name| {
            let value = find(members, name)?;
            let count = value.parse().ok().filter(|count| *count <= TOKENS_MAX);
            self.flawed |= count.is_none();
            count
        });
        counts.max()
    }

    /// The first object under one of these names.
    fn object<'a>(&mut self, members: &Members<'a>, names: &[&str]) -> Option<Members<'a>> {
        names.iter().find_map(|name| {
            let object = serde_json::from_str(find(members, name)?).ok();
            self.flawed |= object.is_none();
            object
        })
    }
}

/// The last value of this name that is not null.
fn find<'a>(members: &Members<'a>, name: &str) -> Option<&'a str> {
    let named = members.0.iter().rev().find(|(member, _)| member == name);
    named.map(|(_, value)| *value).map(RawValue::get).filter(|value| *value != "null")
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
