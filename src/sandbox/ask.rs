//! What a request asks for: the members of its body that the sandbox acts on, and the knobs in its model name.
//!
//! A model name is read as `base+knob=value+knob=value`; a part without `=` belongs to nobody and is ignored, an unknown
//! knob or fault is an error, so that a typo in a test shows. All numbers are bounded here, so that no later step has to
//! think about size.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::{self, Case};
use super::video::{Course, Ends};

/// Bytes of content an answer may carry over all its choices.
const CONTENT_MAX: usize = 64 * 1024 * 1024;
/// Content chunks of one stream.
const CHUNKS_MAX: u64 = 1_000_000;
/// Texts to embed at once.
const INPUTS_MAX: usize = 2048;
/// Longest wait a knob may ask for, milliseconds.
const DELAY_MAX: u64 = 3_600_000;
/// Content chunks, which are words, unless a knob says otherwise.
const CHUNKS: usize = 16;

/// The members of a request body that shape the answer; all others are ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask<'a> {
    #[serde(borrow, default)]
    pub(super) model: Cow<'a, str>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<Vec<Tool<'a>>>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) encoding_format: Cow<'a, str>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(borrow, default)]
    seconds: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Tool<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

impl<'a> Ask<'a> {
    /// Reads a request body.
    ///
    /// # Errors
    /// What is wrong with it, in words for the caller.
    pub(super) fn parse(body: &'a [u8]) -> Result<Ask<'a>, String> {
        let ask: Ask<'a> = serde_json::from_slice(body)
            .map_err(|e| format!("We could not parse the JSON body of your request: {e}"))?;
        if ask.model.is_empty() {
            return Err("you must provide a model parameter".to_owned());
        }
        if !(1..=8).contains(&ask.n.unwrap_or(1)) {
            return Err("n must be between 1 and 8".to_owned());
        }
        if !(1..=4096).contains(&ask.dimensions()) {
            return Err("dimensions must be between 1 and 4096".to_owned());
        }
        Ok(ask)
    }

    pub(super) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|o| o.include_usage == Some(true))
    }

    /// How many choices or images are asked for.
    pub(super) fn choices(&self) -> usize {
        self.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions.unwrap_or(16)
    }

    /// The seconds of a video; four, as OpenAI has it, where none are asked for.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds.and_then(|raw| raw.get().trim_matches('"').parse().ok()).unwrap_or(4)
    }

    /// The name of the tool to call, when this request is one that gets a tool call.
    pub(super) fn tool(&self) -> Option<&str> {
        let name = self.tools.as_ref()?.first()?.function.as_ref()?.name.as_ref();
        let choice = self.tool_choice.map_or("", RawValue::get);
        let forced = choice.starts_with('{') || choice == "\"required\"";
        let last = self.messages.iter().rev().find(|m| m.role == "user").and_then(|m| m.content);
        let mentioned = last.is_some_and(|c| c.get().contains("tool")) && choice != "\"none\"";
        (forced || mentioned).then_some(name)
    }

    /// The texts to embed, as raw JSON: one for a string or a list of token numbers, else one for each list member.
    pub(super) fn inputs(&self) -> Vec<&'a str> {
        let Some(input) = self.input else { return Vec::new() };
        let whole = input.get();
        let members: Vec<&'a RawValue> = serde_json::from_str(whole).unwrap_or_default();
        match members.first() {
            Some(first) if first.get().starts_with(['"', '[']) => members.iter().map(|m| m.get()).collect(),
            _ => vec![whole],
        }
    }

    /// Whether there is something to embed, and not more than OpenAI takes at once.
    pub(super) fn inputs_fit(&self) -> bool {
        (1..=INPUTS_MAX).contains(&self.inputs().len())
    }

    /// Prompt tokens by a rule of thumb: four bytes of text each, and three for each message.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let text =
            |raw: Option<&RawValue>| raw.map_or(0, |r| r.get().len().saturating_sub(2).div_ceil(4) as u64);
        let messages: u64 = self.messages.iter().map(|m| 3 + text(m.content)).sum();
        messages + text(self.prompt) + text(self.input)
    }
}

/// How this one request is to be answered.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) fault: Option<Case>,
    /// Content chunks of a stream, and words of a JSON answer.
    pub(super) chunks: usize,
    /// Wait before the first byte.
    pub(super) delay: Duration,
    /// Wait between the chunks of a stream.
    pub(super) chunk_delay: Duration,
    /// Completion tokens to report.
    pub(super) tokens: Option<u64>,
    /// Prompt tokens to report.
    pub(super) prompt: Option<u64>,
    /// Bytes of content of the answer, of each stream chunk, or of each image.
    pub(super) size: Option<usize>,
    /// How a job for a video goes.
    pub(super) job: Course,
}

impl Scene {
    /// Reads the knobs in `model`; a fault in the header wins over one in the model name.
    ///
    /// # Errors
    /// The unknown or unreadable knob or fault, in words that name it.
    pub(super) fn read(model: &str, header: Option<&str>, chunk_delay: Duration) -> Result<Scene, String> {
        let mut scene = Scene {
            fault: None,
            chunks: CHUNKS,
            delay: Duration::ZERO,
            chunk_delay,
            tokens: None,
            prompt: None,
            size: None,
            job: Course::default(),
        };
        let mut parts = model.split('+');
        let base = parts.next().unwrap_or_default();
        let mut fault = base.strip_prefix("fault/").or_else(|| base.strip_prefix("fault-"));
        for (knob, value) in parts.filter_map(|p| p.split_once('=')) {
            match knob {
                "fault" => fault = Some(value),
                _ => scene.turn(knob, value)?,
            }
        }
        if let Some(name) = header.or(fault) {
            scene.fault =
                Some(fault::find(name).ok_or_else(|| format!("The sandbox has no fault named '{name}'"))?);
        }
        Ok(scene)
    }

    fn turn(&mut self, knob: &str, value: &str) -> Result<(), String> {
        let within = |max: u64| match value.parse::<u64>() {
            Ok(number) if number <= max => Ok(number),
            _ => Err(format!("The sandbox knob '{knob}' takes a number from 0 to {max}, not '{value}'")),
        };
        match knob {
            "chunks" => self.chunks = bounded(within(CHUNKS_MAX)?),
            "delay" => self.delay = Duration::from_millis(within(DELAY_MAX)?),
            "chunk-delay" => self.chunk_delay = Duration::from_millis(within(DELAY_MAX)?),
            "tokens" => self.tokens = Some(within(u64::from(u32::MAX))?),
            "prompt" => self.prompt = Some(within(u64::from(u32::MAX))?),
            "size" => self.size = Some(bounded(within(CONTENT_MAX as u64)?)),
            "job" => self.job.takes = Duration::from_millis(within(DELAY_MAX)?),
            "ends" => self.job.ends = Ends::named(value)?,
            "url" => self.job.has_url = within(1)? == 1,
            _ => return Err(format!("The sandbox has no knob named '{knob}'")),
        }
        Ok(())
    }

    /// Whether an answer of `parts` choices, images or vectors stays within the bound on content.
    pub(super) fn fits(&self, parts: usize) -> bool {
        self.size.unwrap_or(0).saturating_mul(parts) <= CONTENT_MAX
    }
}

fn bounded(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
