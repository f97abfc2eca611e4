//! What of an upstream's words may pass (spec 3.6).
//!
//! To the caller: what tells them what to change, without a trace of who was asked. The words are cut into clauses, and
//! a clause with one word that would betray something is left out; what the caller wrote themselves betrays nothing. To
//! the operator: almost everything, short, and without anything that could be a secret or a prompt.

use super::caller::Caller;
use std::net::IpAddr;

/// The longest message that passes, in bytes (spec 2.4).
const MESSAGE_MAX: usize = 500;
/// The longest excerpt for the operator, in bytes.
const OPERATOR_MAX: usize = 300;
/// A run of characters this long with letters and digits mixed is an id or a key.
const OPAQUE_MIN: usize = 16;

/// Names of providers, relays, servers and their products, in lower case; a clause that has one does not pass.
const VENDORS: [&str; 62] = [
    "openai",
    "chatgpt",
    "anthropic",
    "claude",
    "azure",
    "microsoft",
    "google",
    "googleapis",
    "vertex",
    "vertexai",
    "gemini",
    "bedrock",
    "amazon",
    "aws",
    "mistral",
    "deepseek",
    "groq",
    "grok",
    "x.ai",
    "xai",
    "cohere",
    "together.ai",
    "together ai",
    "fireworks",
    "openrouter",
    "moonshot",
    "kimi",
    "zhipu",
    "bigmodel",
    "dashscope",
    "aliyun",
    "alibaba",
    "qwen",
    "minimax",
    "volcengine",
    "volces",
    "doubao",
    "siliconflow",
    "deepinfra",
    "perplexity",
    "nvidia",
    "hugging face",
    "huggingface",
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
    "cloudfront",
    "nginx",
    "openresty",
    "envoy",
    "istio",
    "kubernetes",
    "uvicorn",
    "traceback",
    "stack trace",
];

/// Beginnings of the names that providers give to their models.
const FAMILIES: [&str; 20] = [
    "gpt-",
    "chatgpt-",
    "claude-",
    "gemini-",
    "grok-",
    "llama-",
    "mistral-",
    "mixtral-",
    "codestral-",
    "qwen",
    "deepseek-",
    "kimi-",
    "glm-",
    "doubao-",
    "command-",
    "text-embedding-",
    "dall-e-",
    "sora-",
    "abab",
    "ernie-",
];

/// Words that begin with a capital without being a name.
const PLAIN: [&str; 40] = [
    "I",
    "JSON",
    "Schema",
    "API",
    "URL",
    "URI",
    "URLs",
    "HTTP",
    "HTTPS",
    "PDF",
    "PNG",
    "JPEG",
    "JPG",
    "GIF",
    "WEBP",
    "MIME",
    "UTF",
    "Unicode",
    "Base64",
    "ASCII",
    "ISO",
    "MB",
    "KB",
    "GB",
    "User",
    "Assistant",
    "Tool",
    "System",
    "True",
    "False",
    "None",
    "Null",
    "String",
    "Object",
    "Array",
    "Content-Type",
    "Draft",
    "Field",
    "Required",
    "RFC",
];

/// The words as the caller may read them, or `None` if nothing useful is left.
#[must_use]
pub fn sanitize(message: &str, caller: &Caller<'_>) -> Option<String> {
    let renamed = rename(message, caller);
    let kept: Vec<&str> = clauses(&renamed).filter(|clause| !betrays(clause, caller)).collect();
    let text = kept.join(" ");
    let trimmed = text.trim().trim_end_matches([';', ',', '-']).trim_end();
    let escaped: String = trimmed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    escaped.chars().any(char::is_alphanumeric).then(|| shortened(&escaped, MESSAGE_MAX).to_owned())
}

/// An excerpt for the operator: bounded, on one line, with everything opaque taken out.
#[must_use]
pub fn operator_words(message: &str) -> String {
    let words = message.split_whitespace().take(80).map(|word| if is_opaque(word) { "[…]" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    shortened(&text, OPERATOR_MAX).to_owned()
}

/// The model becomes the public one, by whatever name the upstream calls it.
fn rename(message: &str, caller: &Caller<'_>) -> String {
    let Caller { public_model, upstream_model, .. } = *caller;
    let known = upstream_model.len() > 1 && !public_model.contains(upstream_model);
    let text = if known { message.replace(upstream_model, public_model) } else { message.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut after_model = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let quoted = word.starts_with(['\'', '"', '`']);
        let named = after_model && quoted || is_family(bare);
        if named && !bare.is_empty() && bare != public_model && !caller.wrote(bare) {
            out.push_str(&word.replace(bare, public_model));
        } else {
            out.push_str(word);
        }
        after_model = bare.eq_ignore_ascii_case("model") || bare.eq_ignore_ascii_case("deployment");
    }
    out
}

fn is_family(word: &str) -> bool {
    let lower = word.rsplit('/').next().unwrap_or(word).to_lowercase();
    FAMILIES.iter().any(|family| lower.starts_with(family) && lower.len() > family.len())
        && word.bytes().any(|byte| byte.is_ascii_digit())
}

/// Clauses with their final stops; a stop counts before white space only, so that paths and numbers stay whole.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let stop =
            [". ", "; ", " - ", "! ", "? ", ".\n"].iter().filter_map(|stop| rest.find(stop).map(|at| at + 1));
        let line = rest.find('\n').map(|at| at + 1);
        let end = stop.chain(line).min().unwrap_or(rest.len());
        let (clause, tail) = rest.split_at_checked(end)?;
        rest = tail.trim_start();
        Some(clause.trim_end())
    })
    .filter(|clause| !clause.is_empty())
}

/// Whether a clause would tell something about the upstream.
fn betrays(clause: &str, caller: &Caller<'_>) -> bool {
    if names_a_vendor(clause, caller) {
        return true;
    }
    let mut begins = true;
    clause.split_whitespace().any(|word| {
        let begun = std::mem::replace(&mut begins, word.ends_with([':', '*', '-', '|']));
        word_betrays(word, begun, caller)
    })
}

/// Whether a clause names a vendor, outside of the public model's name and of what the caller wrote as an address or a
/// name: a vendor's bare name stands in many a request and excuses nothing.
fn names_a_vendor(clause: &str, caller: &Caller<'_>) -> bool {
    let own = |word: &&str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        bare == caller.public_model || bare.contains(['/', ':', '.', '_', '@']) && caller.wrote(bare)
    };
    let others: Vec<&str> = clause.split_whitespace().filter(|word| !own(word)).collect();
    let lower = others.join(" ").to_lowercase();
    VENDORS.iter().any(|vendor| is_word_in(&lower, vendor))
}

fn word_betrays(word: &str, begins: bool, caller: &Caller<'_>) -> bool {
    let marks = |c: char| !c.is_alphanumeric() && !matches!(c, '/' | '$' | '^' | '*');
    let bare = word.trim_matches(marks);
    if bare.is_empty() || caller.wrote(bare) || bare == caller.public_model {
        return false;
    }
    // A list without spaces (`['a','b']`) is looked at piece by piece, too.
    let pieces = bare.split([',', '=', '(', ')', '<', '>', '"', '\'', '`']).filter(|piece| !piece.is_empty());
    is_telling(bare, caller)
        || pieces.clone().count() > 1 && pieces.into_iter().any(|piece| is_telling(piece, caller))
        || !begins && is_name(word, bare)
}

fn is_telling(word: &str, caller: &Caller<'_>) -> bool {
    !caller.wrote(word)
        && word != caller.public_model
        && (word.contains("://")
            || word.contains('@') && word.contains('.')
            || word.contains("***")
            || word.starts_with("0x") && word.len() > 6
            || is_host(word)
            || is_path(word)
            || is_region(word)
            || is_serial(word)
            || is_opaque(word))
}

/// A word with a capital inside a clause that no sentence has: the name of somebody.
fn is_name(word: &str, bare: &str) -> bool {
    let quoted = word.starts_with(['\'', '"', '`', '[', '(', '<']);
    let mut chars = bare.chars();
    let capital = chars.next().is_some_and(char::is_uppercase) && chars.clone().any(char::is_lowercase);
    let plain = bare.chars().all(|c| c.is_alphabetic() || c == '-' || c == '\'');
    capital && plain && !quoted && !PLAIN.contains(&bare)
}

fn is_host(word: &str) -> bool {
    const TOPS: [&str; 20] = [
        "com", "org", "net", "io", "ai", "dev", "cn", "local", "internal", "cloud", "example", "test", "svc",
        "app", "gov", "edu", "co", "eu", "us", "lan",
    ];
    let host = word.split(['/', ':', '?']).next().unwrap_or_default();
    if host.parse::<IpAddr>().is_ok() || word.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let mut labels = host.rsplit('.');
    let top = labels.next().unwrap_or_default();
    labels.next().is_some() && TOPS.contains(&top) && !host.contains(['[', '_'])
}

/// A path of a file system or of a stack trace.
fn is_path(word: &str) -> bool {
    word.starts_with('/') && word.get(1..).is_some_and(|rest| rest.contains('/'))
        || word.contains(":\\")
        || [".py", ".rs", ".go", ".js", ".java", ".cc", ".cpp", ".so"].iter().any(|end| word.ends_with(end))
        || ["projects/", "accounts/", "organizations/", "publishers/", "locations/", "deployments/"]
            .iter()
            .any(|part| word.contains(part))
}

/// The name of a place of a cloud: `us-east-1`, `westeurope2`, `asia-southeast1`.
fn is_region(word: &str) -> bool {
    const PLACES: [&str; 12] = [
        "east", "west", "north", "south", "central", "eastus", "westus", "europe", "asia", "iad", "fra",
        "sin",
    ];
    let lower = word.to_lowercase();
    let named = PLACES.iter().any(|place| lower.contains(place));
    let numbered = lower.ends_with(|c: char| c.is_ascii_digit());
    named && numbered && lower.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A name with a number in it, as machines, tenants and deployments have: `gpu-box-1`, `prod-7`.
fn is_serial(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let letters = parts.iter().any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_alphabetic()));
    let mixed = parts.iter().any(|part| part.bytes().any(|byte| byte.is_ascii_digit()));
    let known = ["utf-8", "utf-16", "iso-8601", "sha-256", "base-64"].contains(&word.to_lowercase().as_str());
    parts.len() > 1
        && letters
        && mixed
        && !known
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// An id or a key: a known prefix, or a long run of letters and digits mixed.
fn is_opaque(word: &str) -> bool {
    const PREFIXES: [&str; 33] = [
        "sk-",
        "pk-",
        "rk-",
        "tg_",
        "org-",
        "org_",
        "proj_",
        "proj-",
        "req_",
        "req-",
        "resp_",
        "msg_",
        "chatcmpl-",
        "file-",
        "file_",
        "user-",
        "user_",
        "acct_",
        "acct-",
        "arn:",
        "AIza",
        "gsk_",
        "hf_",
        "xai-",
        "Bearer",
        "ak-",
        "eyJ",
        "AKIA",
        "fp_",
        "key-",
        "ghp_",
        "nvapi-",
        "rs_",
    ];
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    PREFIXES.iter().any(|prefix| inner.starts_with(prefix) && inner.len() > prefix.len() + 3)
        || has_opaque_run(inner)
}

fn has_opaque_run(word: &str) -> bool {
    word.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        let letters = run.bytes().filter(u8::is_ascii_alphabetic).count();
        run.len() >= OPAQUE_MIN && digits >= 3 && letters > 0 || digits >= 11
    })
}

/// Whether `name` stands in `text` as words of its own.
fn is_word_in(text: &str, name: &str) -> bool {
    memchr::memmem::find_iter(text.as_bytes(), name.as_bytes()).any(|at| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|t| t.chars().next());
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

fn shortened(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn caller() -> Caller<'static> {
        Caller::new(
            br#"{"model":"openai/gpt","messages":[{"image":"https://mine.example/cat.png"}],"my_field":1}"#,
            "openai/gpt",
            "gpt-4o-2024-11-20",
        )
    }

    /// Goal: what tells the caller what to change stays.
    #[test]
    fn keeps_what_helps() {
        for text in [
            "messages.0.content.1 must not be empty.",
            "Invalid schema for tools[0].function.parameters: '^[a-z]+$' is not allowed.",
            "Invalid value: '100x100'. Supported values are: '1024x1024', '1024x1536', and 'auto'.",
            "Error while downloading https://mine.example/cat.png.",
            "Expected a value <= 2, but got 200 instead.",
            "In context=('properties', 'tags'), array schema missing items.",
            "Unknown name \"foo\" at 'generation_config': Cannot find field.",
        ] {
            assert_eq!(sanitize(text, &caller()).as_deref(), Some(text));
        }
        for (text, told) in [
            ("gpt-4o-2024-11-20 has no tools", "openai/gpt has no tools"),
            ("Model 'relay/large-7' takes 1 image.", "Model 'openai/gpt' takes 1 image."),
            ("At most 8192 for claude-3-5-sonnet-20241022", "At most 8192 for openai/gpt"),
        ] {
            assert_eq!(sanitize(text, &caller()).as_deref(), Some(told));
        }
    }

    /// Goal: what tells who was asked does not pass, and takes no more than its clause with it.
    #[test]
    fn removes_what_betrays() {
        for secret in [
            "https://platform.openai.com/docs",
            "api.internal.example",
            "10.0.3.17:8443",
            "2001:db8::17",
            "ops@provider.com",
            "sk-proj-abcdefghij",
            "sk-proj-****wXyZ",
            "org-AbCdEf123",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "arn:aws:bedrock:us-east-1:1:x",
            "/opt/app/server.py",
            "OpenAI",
            "Crucible",
            "us-east-1",
            "gpu-box-1",
            "projects/720999000111",
            "0x7f3c2c0b5d90",
            "deployment=gpt4o-prod-2",
        ] {
            let text = format!("Field x is bad. See {secret} for more; use less.");
            let passed = sanitize(&text, &caller()).unwrap_or_default();
            assert_eq!(passed, "Field x is bad. use less.", "{secret}");
        }
        assert_eq!(sanitize("An openai error. n is bad", &caller()).as_deref(), Some("n is bad"));
        assert!(!operator_words("key sk-live-1234567890abcdefghij was refused").contains("1234567890"));
        assert_eq!(sanitize("See api.internal.example", &caller()), None);
    }

    proptest! {
        /// Goal: no text panics, and lengths hold.
        #[test]
        fn lengths_hold(text in ".{0,900}") {
            prop_assert!(sanitize(&text, &caller()).is_none_or(|out| out.len() <= MESSAGE_MAX));
            prop_assert!(operator_words(&text).len() <= OPERATOR_MAX);
        }
    }
}
