//! Honest JSON answers, in the shapes that OpenAI documents.
//!
//! The words are fixed and the vectors follow from the input, so that equal requests get equal content; only the number
//! and the time of an answer differ. A stream is made of the same pieces ([`Answer::piece`]) as the JSON answer, so that
//! both add up to the same text.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ask::{Ask, Scene};
use super::video;

/// The content of an answer, word by word and over again.
const WORDS: [&str; 16] = [
    "The ", "tide ", "comes ", "in ", "through ", "the ", "narrow ", "gate, ", "and ", "the ", "harbour ",
    "fills ", "without ", "a ", "sound. ", "Then ",
];

/// The arguments of a tool call, in the pieces a stream sends.
pub(super) const ARGUMENTS: [&str; 5] = [r#"{\""#, "city", r#"\":\""#, "Paris", r#"\"}"#];

/// A grey pixel.
const PNG: [u8; 67] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00,
    0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81,
    0xda, 0x45, 0x08, 0x3b, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// The models that the list of models names.
const MODELS: [&str; 4] = ["sandbox-large", "sandbox-small", "sandbox-embedding", "sandbox-image"];

/// What is served, apart from the query and an optional `/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Completions,
    Messages,
    Responses,
    Compact,
    CountTokens,
    Embeddings,
    Images,
    /// Video that is answered at once.
    Video,
    /// Video as a job that is left.
    Jobs,
    /// A job that was left.
    Job(Step),
    Models,
}

/// What is asked of a job that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    State,
    Content,
    Cancel,
}

impl Route {
    pub(super) fn of(method: &str, target: &str) -> Option<Route> {
        let path = target.split('?').next().unwrap_or_default();
        match (method, path.strip_prefix("/v1").unwrap_or(path)) {
            ("POST", "/chat/completions") => Some(Route::Chat),
            ("POST", "/completions") => Some(Route::Completions),
            ("POST", "/messages") => Some(Route::Messages),
            ("POST", "/responses") => Some(Route::Responses),
            ("POST", "/responses/compact") => Some(Route::Compact),
            ("POST", "/messages/count_tokens") => Some(Route::CountTokens),
            ("POST", "/embeddings") => Some(Route::Embeddings),
            ("POST", "/images/generations") => Some(Route::Images),
            ("POST", "/video/generations") => Some(Route::Video),
            ("POST", "/videos") => Some(Route::Jobs),
            ("GET", "/models") => Some(Route::Models),
            (method, path) if path.starts_with("/videos/") => match method {
                "GET" if path.ends_with("/content") => Some(Route::Job(Step::Content)),
                "GET" => Some(Route::Job(Step::State)),
                "DELETE" => Some(Route::Job(Step::Cancel)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether `"stream":true` means anything on this route.
    pub(super) fn can_stream(self) -> bool {
        matches!(self, Route::Chat | Route::Completions | Route::Messages | Route::Responses)
    }
}

/// Everything an answer is made from.
pub(super) struct Answer<'a> {
    pub(super) route: Route,
    pub(super) ask: &'a Ask<'a>,
    pub(super) scene: &'a Scene,
    /// The number of the request, which makes ids differ.
    pub(super) serial: u64,
}

impl Answer<'_> {
    /// The body of the JSON answer.
    pub(super) fn body(&self) -> String {
        match self.route {
            Route::Chat => self.choices("chat.completion", |i| self.chat_choice(i)),
            Route::Completions => self.choices("text_completion", |i| self.text_choice(i)),
            Route::Messages => self.message(),
            Route::Responses => self.response(),
            Route::Compact => self.compaction(),
            Route::CountTokens => format!(r#"{{"input_tokens":{}}}"#, self.prompt_tokens()),
            Route::Embeddings => self.embeddings(),
            Route::Images => self.images(),
            Route::Video => video::answer(self),
            Route::Jobs => video::submitted(self),
            Route::Models | Route::Job(_) => models(),
        }
    }

    /// The start of a chat or completion object, up to the opening of `choices`.
    pub(super) fn opening(&self, object: &str) -> String {
        let prefix = if self.route == Route::Chat { "chatcmpl" } else { "cmpl" };
        let (serial, model, created) = (self.serial, quoted(&self.ask.model), now());
        format!(
            r#"{{"id":"{prefix}-sandbox-{serial}","object":"{object}","created":{created},"model":{model},"system_fingerprint":"fp_sandbox","service_tier":"default","choices":["#
        )
    }

    fn choices(&self, object: &str, choice: impl Fn(usize) -> String) -> String {
        let mut body = self.opening(object);
        for index in 0..self.ask.choices() {
            if index > 0 {
                body.push(',');
            }
            body.push_str(&choice(index));
        }
        body.push_str("],\"usage\":");
        body.push_str(&self.usage(self.completion_tokens()));
        body.push('}');
        body
    }

    fn chat_choice(&self, index: usize) -> String {
        let (message, finish) = match self.tool() {
            Some(name) => {
                let (id, name, arguments) = (self.call_id(index), quoted(name), ARGUMENTS.concat());
                let call = format!(
                    r#"{{"id":"{id}","type":"function","function":{{"name":{name},"arguments":"{arguments}"}}}}"#
                );
                (format!(r#""content":null,"tool_calls":[{call}]"#), "tool_calls")
            }
            None => (format!(r#""content":"{}""#, self.text()), "stop"),
        };
        format!(
            r#"{{"index":{index},"message":{{"role":"assistant",{message},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish}"}}"#
        )
    }

    fn text_choice(&self, index: usize) -> String {
        format!(r#"{{"index":{index},"text":"{}","logprobs":null,"finish_reason":"stop"}}"#, self.text())
    }

    /// The whole content of one choice.
    pub(super) fn text(&self) -> String {
        match self.scene.size {
            Some(size) => filler(size),
            None => (0..self.scene.chunks).map(word).collect(),
        }
    }

    /// The content of one stream chunk; free of characters that JSON escapes.
    pub(super) fn piece(&self, number: usize) -> Cow<'static, str> {
        match self.scene.size {
            Some(size) => Cow::Owned(filler(size)),
            None => Cow::Borrowed(word(number)),
        }
    }

    /// The tool to call, if this answer is a tool call.
    pub(super) fn tool(&self) -> Option<&str> {
        if self.route == Route::Chat { self.ask.tool() } else { None }
    }

    /// The id of the tool call of one choice.
    pub(super) fn call_id(&self, index: usize) -> String {
        format!("call_sandbox_{}_{index}", self.serial)
    }

    /// Completion tokens to report for the whole answer: a word counts as one, unless a knob says otherwise.
    pub(super) fn completion_tokens(&self) -> u64 {
        let words = if self.tool().is_some() { ARGUMENTS.len() } else { self.scene.chunks };
        self.scene.tokens.unwrap_or((words * self.ask.choices()) as u64)
    }

    pub(super) fn prompt_tokens(&self) -> u64 {
        self.scene.prompt.unwrap_or_else(|| self.ask.prompt_tokens())
    }

    /// The `usage` object with this many completion tokens.
    pub(super) fn usage(&self, completion: u64) -> String {
        let prompt = self.prompt_tokens();
        let total = prompt + completion;
        format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}"#
        )
    }

    fn embeddings(&self) -> String {
        let mut body = String::from(r#"{"object":"list","data":["#);
        for (index, text) in self.ask.inputs().into_iter().enumerate() {
            let vector = vector(text, self.ask.dimensions());
            let embedding = match self.ask.encoding_format.as_ref() {
                "base64" => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
                    format!("\"{}\"", base64(&bytes))
                }
                _ => format!("[{}]", vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",")),
            };
            if index > 0 {
                body.push(',');
            }
            body.push_str(&format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#));
        }
        let (model, prompt) = (quoted(&self.ask.model), self.prompt_tokens());
        body + &format!(r#"],"model":{model},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}}}"#)
    }

    fn images(&self) -> String {
        let mut picture = PNG.to_vec();
        // Bytes after the end of a PNG are no part of the picture, and bytes enough for any size.
        picture.resize(self.scene.size.unwrap_or(PNG.len()), 0);
        let item = format!(r#"{{"b64_json":"{}"}}"#, base64(&picture));
        let count = self.ask.choices();
        let (input, output) = (self.prompt_tokens(), self.scene.tokens.unwrap_or(272 * count as u64));
        format!(
            r#"{{"created":{},"data":[{}],"usage":{{"input_tokens":{input},"output_tokens":{output},"total_tokens":{},"input_tokens_details":{{"text_tokens":{input},"image_tokens":0}}}}}}"#,
            now(),
            vec![item; count].join(","),
            input + output,
        )
    }
}

fn models() -> String {
    let entry =
        |id: &&str| format!(r#"{{"id":"{id}","object":"model","created":1735689600,"owned_by":"sandbox"}}"#);
    format!(r#"{{"object":"list","data":[{}]}}"#, MODELS.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// An error in OpenAI's shape.
pub(super) fn error(message: &str, kind: &str, code: Option<&str>) -> String {
    let code = code.map_or_else(|| "null".to_owned(), quoted);
    format!(r#"{{"error":{{"message":{},"type":"{kind}","param":null,"code":{code}}}}}"#, quoted(message))
}

/// The text as a JSON string, quotes included.
pub(super) fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

fn word(number: usize) -> &'static str {
    WORDS.get(number % WORDS.len()).copied().unwrap_or_default()
}

/// So many bytes of text.
pub(super) fn filler(size: usize) -> String {
    let mut text = "tide ".repeat(size.div_ceil(5));
    text.truncate(size);
    text
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A unit vector that follows from the text alone.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let seed =
        text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut vector: Vec<f32> = (0..dimensions).map(|_| random.f32() * 2.0 - 1.0).collect();
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|v| *v /= length);
    vector
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) as usize & 63;
            let letter = if place <= group.len() { ALPHABET.get(sextet).copied() } else { Some(b'=') };
            text.push(char::from(letter.unwrap_or(b'=')));
        }
    }
    text
}
