//! What is asked, and the honest answers to it.

use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The endpoints that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completions,
    Embeddings,
    Images,
}

impl Kind {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/chat/completions" => Some(Self::Chat),
            "/completions" => Some(Self::Completions),
            "/embeddings" => Some(Self::Embeddings),
            "/images/generations" => Some(Self::Images),
            _ => None,
        }
    }

    pub(super) fn can_stream(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }
}

/// The parts of a request that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) stream: bool,
    stream_options: Option<StreamOptions>,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    n: Option<usize>,
    input: Value,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    role: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool {
    function: Function,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: String,
}

/// What a model name asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knobs<'a> {
    pub(super) fault: Option<&'a str>,
    pub(super) chunks: usize,
    pub(super) size: Option<usize>,
    pub(super) delay: Duration,
    pub(super) gap: Duration,
    tokens: Option<u64>,
    prompt: u64,
}

impl Ask {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }

    pub(super) fn choices(&self) -> usize {
        self.n.unwrap_or(1).clamp(1, 8)
    }

    /// The tool to call: the first one offered, unless the last message is already a tool's answer.
    pub(super) fn tool(&self) -> Option<&str> {
        let answered = self.messages.last().is_some_and(|message| message.role == "tool");
        self.tools.first().filter(|_| !answered).map(|tool| tool.function.name.as_str())
    }

    pub(super) fn knobs(&self) -> Knobs<'_> {
        let mut parts = self.model.split('+');
        let base = parts.next().unwrap_or_default();
        let fault = base.strip_prefix("fault/").or_else(|| base.strip_prefix("fault-"));
        let mut knobs = Knobs {
            fault,
            chunks: 8,
            size: None,
            delay: Duration::ZERO,
            gap: Duration::ZERO,
            tokens: None,
            prompt: 9,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let number = value.parse().unwrap_or(0);
            let bounded = usize::try_from(number).unwrap_or(0).min(64 * 1024 * 1024);
            match name {
                "fault" => knobs.fault = Some(value),
                "chunks" => knobs.chunks = bounded.min(100_000),
                "size" => knobs.size = Some(bounded),
                "delay" => knobs.delay = Duration::from_millis(number),
                "gap" => knobs.gap = Duration::from_millis(number),
                "tokens" => knobs.tokens = Some(number),
                "prompt" => knobs.prompt = number,
                _ => {}
            }
        }
        knobs
    }
}

impl Knobs<'_> {
    fn tokens(&self) -> u64 {
        self.tokens.unwrap_or(u64::try_from(self.chunks).unwrap_or(0))
    }

    /// The words of an answer.
    pub(super) fn text(&self) -> String {
        match self.size {
            Some(size) => "x".repeat(size),
            None => (0..self.chunks).map(|index| format!("word{index} ")).collect(),
        }
    }

    pub(super) fn usage(&self) -> Value {
        let (prompt, tokens) = (self.prompt, self.tokens());
        json!({
            "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt.saturating_add(tokens),
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}
        })
    }
}

/// A whole answer.
pub(super) fn whole(kind: Kind, ask: &Ask, knobs: &Knobs<'_>) -> String {
    match kind {
        Kind::Chat => chat(ask, knobs),
        Kind::Completions => completions(ask, knobs),
        Kind::Embeddings => embeddings(ask, knobs),
        Kind::Images => images(knobs),
    }
}

fn chat(ask: &Ask, knobs: &Knobs<'_>) -> String {
    let (message, reason) = match ask.tool() {
        Some(name) => {
            let call = json!({"id": "call_1", "type": "function",
                "function": {"name": name, "arguments": "{\"city\":\"Paris\"}"}});
            (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
        }
        None => (json!({"role": "assistant", "content": knobs.text(), "refusal": null}), "stop"),
    };
    let choices: Vec<_> = (0..ask.choices())
        .map(|index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": reason}))
        .collect();
    json!({
        "id": "chatcmpl-sandbox", "object": "chat.completion", "created": 1_700_000_000, "model": ask.model,
        "choices": choices, "usage": knobs.usage(), "service_tier": "default", "system_fingerprint": "fp_sandbox"
    })
    .to_string()
}

fn completions(ask: &Ask, knobs: &Knobs<'_>) -> String {
    let choices: Vec<_> = (0..ask.choices())
        .map(|index| json!({"index": index, "text": knobs.text(), "logprobs": null, "finish_reason": "stop"}))
        .collect();
    json!({
        "id": "cmpl-sandbox", "object": "text_completion", "created": 1_700_000_000, "model": ask.model,
        "choices": choices, "usage": knobs.usage()
    })
    .to_string()
}

fn embeddings(ask: &Ask, knobs: &Knobs<'_>) -> String {
    let texts = ask.input.as_array().filter(|items| items.iter().all(Value::is_string)).map_or(1, Vec::len);
    let data: Vec<_> = (0..texts)
        .map(|index| {
            let vector = vector(index, ask.dimensions.unwrap_or(16).clamp(1, 4096));
            let embedding = match ask.encoding_format.as_deref() {
                Some("base64") => {
                    json!(base64(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
                }
                _ => json!(vector),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    json!({
        "object": "list", "data": data, "model": ask.model,
        "usage": {"prompt_tokens": knobs.prompt, "total_tokens": knobs.prompt}
    })
    .to_string()
}

/// A vector that depends on its position alone.
fn vector(index: usize, dimensions: usize) -> Vec<f32> {
    let step = |n: usize| u16::try_from((index * 31 + n * 7) % 100).unwrap_or(0);
    (0..dimensions).map(|n| f32::from(step(n)) / 100.0).collect()
}

fn images(knobs: &Knobs<'_>) -> String {
    const PIXEL: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let image = knobs.size.map_or_else(|| PIXEL.to_owned(), |size| "A".repeat(size));
    json!({
        "created": 1_700_000_000, "data": [{"b64_json": image}],
        "usage": {"input_tokens": knobs.prompt, "output_tokens": knobs.tokens(),
            "total_tokens": knobs.prompt.saturating_add(knobs.tokens())}
    })
    .to_string()
}

/// The models on offer: any name works, these are examples.
pub(super) fn models() -> String {
    let model = |id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "sandbox"});
    json!({"object": "list", "data": [model("gpt-5.5"), model("text-embedding-3-small")]}).to_string()
}

/// An error as OpenAI words it.
pub(super) fn error(message: &str, kind: &str, code: Option<&str>) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4usize {
            let digit = usize::try_from(bits >> (18 - 6 * index) & 63).unwrap_or(0);
            let shown = index <= three.len();
            out.push(if shown { DIGITS.get(digit).map_or('=', |digit| char::from(*digit)) } else { '=' });
        }
    }
    out
}
