//! What of an upstream's words may pass (spec 3.6).
//!
//! To the caller: what tells them what to change, without a trace of who was asked. To the operator: almost everything,
//! short, and without anything that could be a secret or a prompt.

use std::net::IpAddr;

/// The longest message that passes, in bytes (spec 2.4).
const MESSAGE_MAX: usize = 500;
/// The longest excerpt for the operator, in bytes.
const OPERATOR_MAX: usize = 300;
/// A run of characters this long with letters and digits mixed is an id or a key.
const OPAQUE_MIN: usize = 20;

/// Names of providers, relays and servers, in lower case; a word that contains one does not pass.
const VENDORS: [&str; 41] = [
    "openai",
    "anthropic",
    "claude.ai",
    "azure",
    "microsoft",
    "google",
    "vertex",
    "gemini api",
    "bedrock",
    "amazon",
    "aws",
    "mistral ai",
    "deepseek",
    "groq",
    "x.ai",
    "xai",
    "cohere",
    "together.ai",
    "together ai",
    "fireworks",
    "openrouter",
    "moonshot",
    "zhipu",
    "bigmodel",
    "dashscope",
    "aliyun",
    "alibaba",
    "minimax",
    "volcengine",
    "volces",
    "siliconflow",
    "vllm",
    "sglang",
    "llama.cpp",
    "ollama",
    "new_api",
    "new-api",
    "one_api",
    "one-api",
    "litellm",
    "cloudflare",
];

/// What the caller sent, so that their own words can be told from the upstream's.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The request body as the caller sent it.
    pub body: &'a [u8],
    /// The model as the caller knows it.
    pub public_model: &'a str,
    /// The model as the upstream knows it.
    pub upstream_model: &'a str,
}

impl Caller<'_> {
    /// Whether the caller wrote these bytes.
    #[must_use]
    pub fn wrote(&self, text: &str) -> bool {
        !text.is_empty() && memchr::memmem::find(self.body, text.as_bytes()).is_some()
    }

    /// Whether `param` is the place of a field that the caller could have sent: its first name has a field's form.
    #[must_use]
    pub fn is_field(&self, param: &str) -> bool {
        let shaped = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '-' | '$');
        !param.is_empty() && param.len() <= 200 && param.chars().all(shaped)
    }

    /// Whether the words name, in quotes or as a path, a member that the caller sent.
    #[must_use]
    pub fn is_named_in(&self, message: &str) -> bool {
        message
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.len() >= 4 && (word.contains('_') || FIELDS.contains(word)))
            .any(|word| FIELDS.contains(&word) || self.wrote(&format!("\"{word}\"")))
    }
}

/// Request fields whose name in a message says that it speaks of the request.
const FIELDS: [&str; 24] = [
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "tools",
    "tool_choice",
    "tool_call_id",
    "tool_calls",
    "response_format",
    "image_url",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "stream_options",
    "reasoning_effort",
    "parameters",
    "input_schema",
    "dimensions",
    "input",
    "size",
    "role",
];

/// The words as the caller may read them, or `None` if nothing useful is left.
#[must_use]
pub fn sanitize(message: &str, caller: &Caller<'_>) -> Option<String> {
    let renamed = rename(message, caller);
    let kept: Vec<&str> = sentences(&renamed)
        .filter(|sentence| !sentence.split_whitespace().any(|word| betrays(word, caller)))
        .collect();
    let text = kept.join(" ");
    let escaped: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let lower = escaped.to_lowercase();
    let clean = !escaped.is_empty() && !VENDORS.iter().any(|vendor| is_word_in(&lower, vendor));
    clean.then(|| shortened(&escaped, MESSAGE_MAX).to_owned())
}

/// An excerpt for the operator: bounded, on one line, with everything opaque taken out.
#[must_use]
pub fn operator_words(message: &str) -> String {
    let words = message.split_whitespace().take(80).map(|word| if is_opaque(word) { "[…]" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    shortened(&text, OPERATOR_MAX).to_owned()
}

/// The upstream's name of the model becomes the public one.
fn rename(message: &str, caller: &Caller<'_>) -> String {
    let Caller { public_model, upstream_model, .. } = *caller;
    if upstream_model.is_empty() || upstream_model == public_model || public_model.contains(upstream_model) {
        return message.to_owned();
    }
    message.replace(upstream_model, public_model)
}

/// Sentences with their final stops; a stop counts before white space only, so that paths and numbers stay whole.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(". ").map(|at| at + 1).or_else(|| rest.find('\n')).unwrap_or(rest.len());
        let (sentence, tail) = rest.split_at_checked(end)?;
        rest = tail.trim_start();
        Some(sentence)
    })
    .filter(|sentence| !sentence.is_empty())
}

/// Whether a word would tell something about the upstream.
fn betrays(word: &str, caller: &Caller<'_>) -> bool {
    let bare = word.trim_matches(|c: char| {
        matches!(c, '(' | ')' | '[' | ']' | '<' | '>' | '"' | '\'' | '`' | ',' | ';' | '.' | ':' | '!')
    });
    if bare.is_empty() || caller.wrote(bare) || bare == caller.public_model {
        return false;
    }
    bare.contains("://")
        || bare.contains('@') && bare.contains('.')
        || is_host(bare)
        || is_path(bare)
        || is_opaque(bare)
        || bare.contains("***")
}

fn is_host(word: &str) -> bool {
    let host = word.split(['/', ':']).next().unwrap_or_default();
    if host.parse::<IpAddr>().is_ok() || word.parse::<IpAddr>().is_ok() {
        return true;
    }
    let top = host.rsplit('.').next().unwrap_or_default();
    host.contains('.')
        && matches!(
            top,
            "com" | "org" | "net" | "io" | "ai" | "dev" | "cn" | "local" | "internal" | "cloud" | "example"
        )
}

/// A path of a file system or of a stack trace.
fn is_path(word: &str) -> bool {
    word.starts_with('/') && word.get(1..).is_some_and(|rest| rest.contains('/'))
        || word.ends_with(".py")
        || word.ends_with(".rs")
        || word.ends_with(".go")
}

/// An id or a key: a known prefix, or a long run of letters and digits mixed.
fn is_opaque(word: &str) -> bool {
    const PREFIXES: [&str; 17] = [
        "sk-", "pk-", "tg_", "org-", "org_", "proj_", "proj-", "req_", "req-", "arn:", "AIza", "gsk_",
        "xai-", "Bearer", "ak-", "eyJ", "AKIA",
    ];
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    PREFIXES.iter().any(|prefix| inner.starts_with(prefix) && inner.len() > prefix.len() + 3)
        || has_opaque_run(inner)
}

fn has_opaque_run(word: &str) -> bool {
    word.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        run.len() >= OPAQUE_MIN && digits >= 3 && (digits < run.len() || run.len() > 24)
    })
}

/// Whether `name` stands in `text` as words of its own.
fn is_word_in(text: &str, name: &str) -> bool {
    memchr::memmem::find_iter(text.as_bytes(), name.as_bytes()).any(|at| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|t| t.chars().next());
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '/')
    })
}

fn shortened(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALLER: Caller<'_> = Caller {
        body: br#"{"model":"openai/gpt","messages":[{"image":"https://mine.example/cat.png"}],"my_field":1}"#,
        public_model: "openai/gpt",
        upstream_model: "gpt-4o-2024-11-20",
    };

    /// Goal: what tells the caller what to change stays.
    #[test]
    fn keeps_what_helps() {
        for text in [
            "messages.0.content.1 must not be empty.",
            "Invalid schema for tools[0].function.parameters: '^[a-z]+$' is not allowed.",
            "Invalid value: '100x100'. Supported values are: '1024x1024', '1024x1536', and 'auto'.",
            "Error while downloading https://mine.example/cat.png.",
        ] {
            assert_eq!(sanitize(text, &CALLER).as_deref(), Some(text));
        }
        assert_eq!(sanitize("gpt-4o-2024-11-20 has no tools", &CALLER).unwrap(), "openai/gpt has no tools");
    }

    /// Goal: what tells who was asked does not pass.
    #[test]
    fn removes_what_betrays() {
        for secret in [
            "https://platform.openai.com/docs",
            "api.internal.example",
            "10.0.3.17:8443",
            "ops@provider.com",
            "sk-proj-abcdefghij",
            "sk-proj-****wXyZ",
            "org-AbCdEf123",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "arn:aws:bedrock:us-east-1:1:x",
            "/opt/app/server.py",
            "OpenAI",
        ] {
            let text = format!("Field x is bad. See {secret} for more.");
            let passed = sanitize(&text, &CALLER).unwrap_or_default();
            assert!(!passed.contains(secret), "{secret}: {passed}");
            assert!(passed.is_empty() || passed == "Field x is bad.", "{passed}");
        }
        assert!(!operator_words("key sk-live-1234567890abcdefghij was refused").contains("1234567890"));
    }

    /// Goal: a message counts as about the request only when it names a field.
    #[test]
    fn knows_when_a_field_is_named() {
        assert!(CALLER.is_named_in("`temperature` is too high") && CALLER.is_named_in("bad my_field"));
        assert!(!CALLER.is_named_in("please pay") && !CALLER.is_named_in("no_such thing"));
    }

    proptest! {
        /// Goal: no text panics, and lengths hold.
        #[test]
        fn lengths_hold(text in ".{0,900}") {
            prop_assert!(sanitize(&text, &CALLER).is_none_or(|out| out.len() <= MESSAGE_MAX));
            prop_assert!(operator_words(&text).len() <= OPERATOR_MAX);
        }
    }
}
