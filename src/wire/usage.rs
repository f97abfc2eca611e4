//! Usage as upstreams report it (spec 7.1), in every dialect, and what a call is held to have used.
//!
//! **Dialects.** Chat, completions and embeddings say `prompt_tokens` and `completion_tokens`; Responses and images say
//! `input_tokens` and `output_tokens`, with the parts of each in a member `…_details`. Messages says `input_tokens` too,
//! but leaves out what its cache read and wrote, and has no details of its input. DeepSeek and Moonshot put cached
//! tokens beside the others; xAI leaves reasoning out of `completion_tokens`, and Google does not even name it: it is
//! what the total has more. A relay may say the same in several ways, some of them zero: the largest figure counts.
//! Groq reports in `x_groq.usage` as well, and image tools of Responses in `tool_usage.image_gen`, beside the usage.
//!
//! **One report.** What is no count (negative, fractional, text, absurd) was not reported, and is noted as a flaw. Parts
//! never exceed their whole. A side that is missing is what the total has beyond the other side, if it has more.
//!
//! **Several reports of one answer** ([`Reported::merged`]) merge per figure: the last one counts, but a zero never
//! replaces a larger figure. A total belongs to the sides that it was reported with. [`Objects::merge`] does the same with
//! the objects as they stand, for the client.
//!
//! **Settlement** ([`Reading::resolve`]). Each side is as reported, or counted (spec 7.2): the input as it was estimated
//! before the call, the output by what was delivered. A side is counted if no report has it. An input of zero, and an output of
//! zero where text was delivered, are what is written where nothing is known, and are counted. What was delivered after the last report of output is added to it. Each side that was counted in whole or
//! in part is marked as estimated ([`UsageSource`]). Where no output is made of tokens (embeddings), a total alone is the
//! input.
//!
//! Whether the outcome is possible at all is checked against bounds of the model and the request by
//! [`crate::core::usage::UsageBounds`].

use super::envelope::Members;
use crate::core::usage::{Usage, UsageSource};
use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The largest count that is believed; more than any model can read or write in one call.
const TOKENS_MAX: u64 = 1 << 40;

/// Names of tokens read from a cache, beside the input and in its details.
const CACHED: [&str; 3] = ["cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens"];
/// Names of tokens written to a cache, beside the input and in its details.
const WRITTEN: [&str; 4] =
    ["cache_creation_input_tokens", "cache_write_tokens", "cache_creation_tokens", "cached_creation_tokens"];

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
    /// What tools of the provider used besides.
    tools: Tools,
    flawed: bool,
}

/// Tokens that the image tool of Responses reads and makes, which are not in the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tools {
    input: u64,
    image_input: u64,
    output: u64,
    image_output: u64,
}

/// What reports come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The usage, unless neither input nor output was reported; what is no token is not in it.
    pub usage: Option<Usage>,
    /// The input was reported, or follows from what was.
    pub has_input: bool,
    /// The output was reported, or follows from what was.
    pub has_output: bool,
    /// A total that was reported without either side.
    pub total: Option<u64>,
    /// Something was no count, or a part was larger than its whole.
    pub flawed: bool,
}

/// The tokens of a call by the gateway's own count (spec 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Its input, as estimated before the call.
    pub input: u64,
    /// All that was delivered, images included.
    pub output: u64,
    /// Of that, what stands for images.
    pub image_output: u64,
    /// Of the output, what was delivered after the last report of output.
    pub since: u64,
    /// Of that, what stands for images.
    pub image_since: u64,
    /// The call makes vectors, or something else that is not made of tokens.
    pub no_output: bool,
}

impl Reading {
    /// The usage of a call, with what was not reported as it was counted.
    #[must_use]
    pub fn resolve(self, counted: &Counted) -> (Usage, UsageSource) {
        let mut usage = self.usage.unwrap_or_default();
        let is_blank = usage.output == 0 && counted.output > 0;
        let has_input = self.has_input && (usage.input > 0 || counted.input == 0);
        let whole = self.total.filter(|_| counted.no_output);
        if !has_input {
            usage.input = whole.unwrap_or(counted.input.max(usage.input));
        }
        let has_output = counted.no_output || self.has_output && !is_blank;
        if has_output {
            usage.output = usage.output.saturating_add(counted.since);
            usage.image_output = usage.image_output.saturating_add(counted.image_since);
        } else {
            usage.output = usage.output.max(counted.output);
            usage.image_output = usage.image_output.max(counted.image_output);
        }
        let source = UsageSource::of(has_input || whole.is_some(), has_output && counted.since == 0);
        (usage, source)
    }
}

/// Reads the `usage` object of a whole answer.
#[must_use]
pub fn read(usage: &[u8]) -> Reading {
    Reported::read(usage).finish()
}

/// Reads what the body of a whole answer says of its usage, given its member `usage`, if it has one.
#[must_use]
pub fn read_answer(usage: Option<&[u8]>, body: &[u8]) -> Reading {
    let mut reported = usage.map(Reported::read).unwrap_or_default();
    if BESIDE.iter().any(|name| name.find(body).is_some()) {
        let beside = serde_json::from_slice::<Beside<'_>>(body).ok();
        if let Some(other) = beside.as_ref().and_then(|beside| inner_usage(beside.x_groq?)) {
            reported = Reported::read(other.get().as_bytes()).merged(reported);
        }
        if let Some(tools) = beside.and_then(|beside| beside.tool_usage) {
            reported = reported.with_tools(tools);
        }
    }
    reported.finish()
}

/// The member `usage` of an object.
#[must_use]
pub fn inner_usage(object: &RawValue) -> Option<&RawValue> {
    let members = serde_json::from_str::<Members<'_>>(object.get()).ok()?;
    members.0.iter().rev().find(|(name, _)| name == "usage").map(|(_, usage)| *usage)
}

/// Members beside `usage` in which there can be usage.
#[derive(Deserialize)]
struct Beside<'a> {
    #[serde(borrow, default)]
    x_groq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_usage: Option<&'a RawValue>,
}

static BESIDE: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new("\"x_groq\""), Finder::new("\"tool_usage\"")]);

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
            tools: reader.object(&top, &["tool_usage"]).map(|tools| reader.tools(&tools)).unwrap_or_default(),
            flawed: reader.flawed,
        }
    }

    /// These figures with what a `tool_usage` object says.
    #[must_use]
    pub fn with_tools(mut self, tool_usage: &RawValue) -> Self {
        let mut reader = Reader { flawed: self.flawed };
        if let Ok(members) = serde_json::from_str::<Members<'_>>(tool_usage.get()) {
            self.tools = reader.tools(&members).max(self.tools);
        }
        self.flawed = reader.flawed;
        self
    }

    /// Whether this report, which comes after `earlier` ones, says how much output there is so far. A zero does only where
    /// nothing else was said, and an input stands beside it.
    #[must_use]
    pub fn covers_output(&self, earlier: &Self) -> bool {
        let reading = self.finish();
        let usage = reading.usage.unwrap_or_default();
        let said = |earlier: Reading| earlier.usage.is_some_and(|usage| usage.output > 0);
        reading.has_output && (usage.output > 0 || usage.input > 0 && !said(earlier.finish()))
    }

    /// These figures with later ones of the same answer: each as it was reported last, but no zero replaces more.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        let sides = |of: &Self| (of.whole_input, of.fresh_input, of.output);
        let mut merged = Self {
            whole_input: latest(self.whole_input, later.whole_input),
            fresh_input: latest(self.fresh_input, later.fresh_input),
            output: latest(self.output, later.output),
            total: latest(self.total, later.total),
            cached: latest(self.cached, later.cached),
            cache_write: latest(self.cache_write, later.cache_write),
            cache_write_5m: latest(self.cache_write_5m, later.cache_write_5m),
            cache_write_1h: latest(self.cache_write_1h, later.cache_write_1h),
            image_input: latest(self.image_input, later.image_input),
            image_output: latest(self.image_output, later.image_output),
            reasoning: latest(self.reasoning, later.reasoning),
            tools: self.tools.max(later.tools),
            flawed: self.flawed || later.flawed,
        };
        // A total says nothing of sides that were reported after it.
        if later.total.is_none_or(|total| total == 0) && sides(&merged) != sides(&self) {
            merged.total = None;
        }
        merged
    }

    /// The usage that the figures come to, in the gateway's terms.
    #[must_use]
    pub fn finish(&self) -> Reading {
        let (cached, cache_write) = (self.cached.unwrap_or(0), self.cache_write());
        let of_cache = cached.saturating_add(cache_write);
        let apart = self.fresh_input.map(|fresh| fresh.saturating_add(of_cache));
        let (mut input, mut output) = (self.whole_input.or(apart), self.output);
        match (input, output, self.total) {
            // An input of zero is none (embeddings): the total is all that was said.
            (Some(0), None, Some(total)) if total > 0 && self.tools == Tools::default() => {
                return Reading { total: Some(total), flawed: self.flawed, ..Reading::default() };
            }
            (Some(known), None, Some(total)) if total > known => output = Some(total - known),
            (None, Some(known), Some(total)) if total > known => input = Some(total - known),
            (None, None, total) if self.tools == Tools::default() => {
                let total = total.filter(|total| *total > 0);
                return Reading { total, flawed: self.flawed, ..Reading::default() };
            }
            _ => {}
        }
        let mut flawed = self.flawed;
        let mut within = |part: u64, whole: u64| {
            flawed |= part > whole;
            part.min(whole)
        };
        let (has_input, has_output) = (input.is_some(), output.is_some());
        // Without an input there is at least what has to do with a cache.
        let input = input.unwrap_or(of_cache);
        let unnamed = if self.output.is_some() { self.unnamed(input, of_cache) } else { 0 };
        let output = output.unwrap_or(0).saturating_add(unnamed);
        let cached = within(cached, input);
        let cache_write = within(cache_write, input - cached);
        let usage = Usage {
            input: input.saturating_add(self.tools.input),
            output: output.saturating_add(self.tools.output),
            cached,
            cache_write,
            cache_write_1h: within(self.cache_write_1h.unwrap_or(0), cache_write),
            image_input: within(self.image_input.unwrap_or(0), input).saturating_add(self.tools.image_input),
            image_output: within(self.image_output.unwrap_or(0), output)
                .saturating_add(self.tools.image_output),
            reasoning: within(self.reasoning.unwrap_or(0).max(unnamed), output),
            ..Usage::default()
        };
        Reading { usage: Some(usage), has_input, has_output, total: None, flawed }
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

/// The later of two figures; a zero is none where there was more.
fn latest(before: Option<u64>, later: Option<u64>) -> Option<u64> {
    later.filter(|later| *later > 0).or(before).or(later)
}

impl Tools {
    fn max(self, other: Self) -> Self {
        if self.output.max(self.input) >= other.output.max(other.input) { self } else { other }
    }
}

/// `usage` objects as clients read them.
pub struct Objects;

/// Bytes of merged objects; a larger report replaces the earlier ones.
const OBJECT_MAX: usize = 64 * 1024;
/// The deepest objects inside of an object that merge.
const OBJECT_DEPTH: usize = 3;

impl Objects {
    /// One object with a later one, per member, as [`Reported::merged`]; the second value says whether the later one has
    /// a figure that the earlier one overrules.
    #[must_use]
    pub fn merge(before: &[u8], later: &[u8]) -> (Bytes, bool) {
        let unmerged = || (Bytes::copy_from_slice(later), false);
        if before == later || before.len().saturating_add(later.len()) > OBJECT_MAX {
            return unmerged();
        }
        let parse = |object| serde_json::from_slice::<Members<'_>>(object).ok();
        let (Some(old), Some(new)) = (parse(before), parse(later)) else {
            let readable = parse(later).is_some() || parse(before).is_none();
            return if readable { unmerged() } else { (Bytes::copy_from_slice(before), true) };
        };
        let mut overruled = false;
        let merged = merge_members(&old, &new, OBJECT_DEPTH, &mut overruled);
        (merged.into(), overruled)
    }

    /// An object of chat and completions with the figures that every client reads: as they stand, or as in `usage` where one
    /// of them is missing, no count, or not all of it.
    #[must_use]
    pub fn complete(object: &[u8], usage: &Usage, source: UsageSource) -> Bytes {
        let Ok(members) = serde_json::from_slice::<Members<'_>>(object) else { return render(usage).into() };
        let is_count = |name: &str| find(&members, name).is_some_and(|value| value.parse::<u64>().is_ok());
        let input = source.input_is_estimated() || !is_count("prompt_tokens");
        let output = source.output_is_estimated() || !is_count("completion_tokens");
        if !input && !output {
            return Bytes::copy_from_slice(object);
        }
        let mut set = vec![("total_tokens", usage.input.saturating_add(usage.output))];
        set.extend(input.then_some(("prompt_tokens", usage.input)));
        set.extend(output.then_some(("completion_tokens", usage.output)));
        let set: Vec<_> = set.iter().map(|(name, count)| (*name, count.to_string())).collect();
        with_members(&members, &set)
    }

    /// An object with this value as this member, in its place or at its end.
    #[must_use]
    pub fn set(object: &[u8], name: &str, value: &str) -> Option<Bytes> {
        let members = serde_json::from_slice::<Members<'_>>(object).ok()?;
        Some(with_members(&members, &[(name, value.to_owned())]))
    }
}

fn with_members(members: &Members<'_>, set: &[(&str, String)]) -> Bytes {
    let mut out = Writer::default();
    for (name, value) in &members.0 {
        if set.iter().all(|(other, _)| name != *other) {
            out.member(name, value.get());
        }
    }
    for (name, value) in set {
        out.member(name, value);
    }
    out.finish().into()
}

fn merge_members(old: &Members<'_>, new: &Members<'_>, depth: usize, overruled: &mut bool) -> String {
    let mut out = Writer::default();
    for (name, value) in &old.0 {
        match find(new, name) {
            Some(later) => out.member(name, &merge_values(value.get(), later, depth, overruled)),
            None => out.member(name, value.get()),
        }
    }
    for (name, value) in new.0.iter().filter(|(name, _)| old.0.iter().all(|(other, _)| other != name)) {
        out.member(name, value.get());
    }
    out.finish()
}

fn merge_values<'a>(old: &'a str, new: &'a str, depth: usize, overruled: &mut bool) -> Cow<'a, str> {
    let parse = |object| serde_json::from_str::<Members<'_>>(object).ok().filter(|_| depth > 0);
    if let (Some(old), Some(new)) = (parse(old), parse(new)) {
        return Cow::Owned(merge_members(&old, &new, depth - 1, overruled));
    }
    let count = |text: &str| text.parse::<u64>().ok();
    match (count(old), count(new)) {
        (Some(more), None | Some(0)) if more > 0 => {
            *overruled = true;
            Cow::Borrowed(old)
        }
        _ => Cow::Borrowed(new),
    }
}

/// Writes an object.
#[derive(Default)]
struct Writer(String);

impl Writer {
    fn member(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&super::splice::json_string(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
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

    /// What a `tool_usage` object says of images.
    fn tools(&mut self, tool_usage: &Members<'_>) -> Tools {
        let Some(images) = self.object(tool_usage, &["image_gen"]) else { return Tools::default() };
        let of_input = self.object(&images, &["input_tokens_details"]).unwrap_or(NOTHING);
        let of_output = self.object(&images, &["output_tokens_details"]).unwrap_or(NOTHING);
        let input = self.count(&images, &["input_tokens"]).unwrap_or(0);
        let output = self.count(&images, &["output_tokens"]).unwrap_or(0);
        let image_input = self.count(&of_input, &["image_tokens"]).unwrap_or(0);
        let image_output = self.count(&of_output, &["image_tokens"]).unwrap_or(output);
        Tools { input, output, image_input: image_input.min(input), image_output: image_output.min(output) }
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
