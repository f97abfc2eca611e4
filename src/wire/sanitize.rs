//! What of an upstream's words may pass (spec 3.6).
//!
//! To the caller: what tells them what to change, without a trace of who was asked. The words are cut into clauses, and
//! a clause with one word that would betray something is left out; what the caller wrote themselves betrays nothing. To
//! the operator: almost everything, short, and without anything that could be a secret or a prompt.

use super::caller::{Caller, beginning};
use super::echo::printable;
use super::names::{
    CALL_PREFIXES, COUNTED, EXTREMES, FAMILIES, NOUN_PREFIXES, PLAIN, ROUTES, SECRET_PREFIXES, TIERS, UNITS,
    VENDORS,
};
use std::net::IpAddr;

/// The longest message that passes, in bytes (spec 2.4).
const MESSAGE_MAX: usize = 500;
/// The longest excerpt for the operator, in bytes.
const OPERATOR_MAX: usize = 300;
/// A run of characters this long with letters and digits mixed is an id or a key.
const OPAQUE_MIN: usize = 16;

/// The longest name of a model that is none of a key, in bytes.
const NAME_MAX: usize = 100;
/// A part of a name as long as this is no word.
const NAME_PART_MAX: usize = 20;
/// A part of a name as long as this with letters and digits mixed is random.
const RANDOM_MIN: usize = 12;

/// The words as the caller may read them, or `None` if nothing useful is left. A clause is kept or dropped whole.
#[must_use]
pub fn sanitize(message: &str, caller: &Caller<'_>) -> Option<String> {
    let renamed = rename(beginning(message), caller);
    let mut text = String::new();
    for clause in clauses(&renamed) {
        let Some(kept) = harmless(clause, caller) else { continue };
        if !text.is_empty() && text.len() + 1 + kept.len() > MESSAGE_MAX {
            break;
        }
        if !text.is_empty() && !text.ends_with(['。', '；']) {
            text.push(' ');
        }
        text.push_str(kept);
    }
    let trimmed = text.trim().trim_end_matches([';', ',', '-']).trim_end();
    let escaped: String = trimmed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    escaped.chars().any(char::is_alphanumeric).then(|| shortened(&escaped, MESSAGE_MAX).to_owned())
}

/// The clause without what relays put around it, or `None` if it would still tell something about the upstream.
fn harmless<'c>(clause: &'c str, caller: &Caller<'_>) -> Option<&'c str> {
    let clause = without_exception(clause, caller);
    let whole = |part: &&str| !betrays(part, caller) && part.chars().any(char::is_alphanumeric);
    // What is left of a clause has to be one still.
    let rest = |part: &&str| part.contains(' ') && part.matches('`').count().is_multiple_of(2) && whole(part);
    let unframed = || without_head(clause, caller);
    Some(clause)
        .filter(whole)
        .or_else(|| without_tail(clause).filter(rest))
        .or_else(|| unframed().filter(rest))
        .or_else(|| without_tail(unframed()?).filter(rest))
}

/// The clause without the names of exceptions and the statuses before it: `ValidationException: `, `[400]: `, `<400> `.
fn without_exception<'c>(clause: &'c str, caller: &Caller<'_>) -> &'c str {
    let mut rest = clause;
    loop {
        let word = rest.split_whitespace().next().unwrap_or_default();
        let named = word.strip_suffix(':').is_some_and(is_exception);
        let of_model = || word.trim_matches(['[', ']', ':']) == caller.public_model;
        let marked = (word.starts_with('[') || word.starts_with('<')) && (is_status(word) || of_model());
        let tail = rest.get(word.len()..).unwrap_or_default().trim_start();
        if !(named || marked) || tail.is_empty() {
            return rest;
        }
        rest = tail;
    }
}

/// The name of an exception or of a class of errors, as languages write them.
fn is_exception(word: &str) -> bool {
    let last = word.rsplit(['.', ':']).next().unwrap_or(word);
    let shouted = word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let typed = |word: &str| word.ends_with("Error") || word.ends_with("Exception");
    word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':'))
        && (typed(last) || shouted || word.split('.').next().is_some_and(typed))
}

/// A number of three digits in brackets.
fn is_status(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    inner.len() == 3 && inner.bytes().all(|byte| byte.is_ascii_digit())
}

/// The clause without a remark in parentheses at its end, such as the id of a request.
fn without_tail(clause: &str) -> Option<&str> {
    let ended = clause.trim_end_matches(['.', ' ']);
    let inside = ended.strip_suffix(')').or_else(|| ended.strip_suffix(']'))?;
    let open = if ended.ends_with(')') { " (" } else { " [" };
    let before = inside.get(..inside.rfind(open)?)?.trim_end();
    (!before.is_empty()).then_some(before)
}

/// The clause without who speaks: `some relay error: `, `[some/model] `.
fn without_head<'c>(clause: &'c str, caller: &Caller<'_>) -> Option<&'c str> {
    if let Some(inner) = clause.strip_prefix('[') {
        let (_, tail) = inner.split_once(']')?;
        let tail = tail.trim_start_matches([':', ' ']);
        return Some(without_exception(tail, caller)).filter(|tail| !tail.is_empty());
    }
    let (head, tail) = clause.split_once(": ")?;
    let speaks = head.split_whitespace().count() <= 6 && caller.field_in(head).is_none();
    speaks.then(|| without_exception(tail.trim_start(), caller))
}

/// An excerpt for the operator: bounded, on one line, printable, with everything opaque taken out.
#[must_use]
pub fn operator_words(message: &str) -> String {
    let words = message.split_whitespace().take(80).map(|word| if is_opaque(word) { "[…]" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    shortened(&printable(&text), OPERATOR_MAX).to_owned()
}

/// The model becomes the public one, by whatever name the upstream calls it.
fn rename(message: &str, caller: &Caller<'_>) -> String {
    let public_model = caller.public_model;
    let mut out = String::with_capacity(message.len());
    let mut after_model = false;
    for word in message.split_inclusive(char::is_whitespace) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let quoted = word.starts_with(['\'', '"', '`']);
        let own =
            bare.is_empty() || bare == public_model || caller.wrote(bare) && bare != caller.upstream_model;
        let upstream = bare == caller.upstream_model && (is_model(bare) || after_model || quoted);
        let named = upstream || after_model && (quoted || is_model(bare)) || is_family(bare);
        if named && !own {
            out.push_str(&word.replace(bare, public_model));
        } else {
            out.push_str(word);
        }
        let about = ["model", "deployment", "engine"];
        after_model = about.iter().any(|noun| bare.eq_ignore_ascii_case(noun));
    }
    out
}

/// A word that can only be the name of a model, where one is due.
fn is_model(word: &str) -> bool {
    let numbered = word.bytes().any(|byte| byte.is_ascii_digit());
    let owned = word.split_once('/').is_some_and(|(owner, _)| !is_plain(owner));
    (numbered || owned)
        && word.chars().any(char::is_alphabetic)
        && !word.contains("://")
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_/.:@".contains(c))
}

/// The name of a model by its family: `gpt-4o`, `eu.anthropic.claude-opus-5-v1:0`, `meta-llama/Llama-3.3-70B`.
fn is_family(word: &str) -> bool {
    if word.contains(['=', '"', '\'', '(', ',']) {
        return false;
    }
    let lower = word.to_lowercase();
    let parts =
        || lower.split(['/', ':', '@']).flat_map(|part| part.split('.')).chain(lower.split(['/', ':']));
    let of_family =
        |part: &str| FAMILIES.iter().any(|family| part.starts_with(family) && part.len() > family.len());
    let numbered = || word.bytes().any(|byte| byte.is_ascii_digit());
    let tiered = || lower.split(['-', '/', '.', ':']).any(|part| TIERS.contains(&part));
    parts().any(of_family) && (numbered() || tiered())
}

/// Clauses with their final stops; a stop counts before white space only, so that paths and numbers stay whole, and not
/// inside parentheses.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (clause, tail) = rest.split_at_checked(clause_end(rest))?;
        rest = tail.trim_start();
        Some(clause.trim_end())
    })
    .filter(|clause| !clause.is_empty())
}

/// Where the first clause of a text ends.
fn clause_end(text: &str) -> usize {
    const SHORT: [&str; 5] = ["e.g", "i.e", "vs", "no", "approx"];
    let mut open = 0_u32;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match c {
            '\n' => return at + 1,
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        let spaced = next.is_some_and(char::is_whitespace);
        let before = text.get(..at).unwrap_or_default();
        let stops = match c {
            '.' => !SHORT.iter().any(|short| before.ends_with(short) && is_word_in(before, short)),
            ';' | '!' | '?' => true,
            '。' | '；' => return at + c.len_utf8(),
            '-' => before.ends_with(' '),
            _ => false,
        };
        // What is opened and never closed does not hold the rest together.
        if stops && spaced && (open == 0 || !text.get(at..).unwrap_or_default().contains([')', ']', '}'])) {
            return at + 1;
        }
    }
    text.len()
}

/// Whether a clause would tell something about the upstream.
fn betrays(clause: &str, caller: &Caller<'_>) -> bool {
    if names_a_vendor(clause, caller) {
        return true;
    }
    let mut begins = true;
    let is_class = |word: &str| word.len() > 9 && (word.contains("Exception") || word.ends_with("Error"));
    if clause.split(|c: char| !c.is_alphanumeric()).any(is_class) {
        return true;
    }
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
    capital && plain && !quoted && !is_plain(bare)
}

/// An ordinary word of messages, whatever its number and case.
fn is_plain(word: &str) -> bool {
    let lower = word.to_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    PLAIN.split_whitespace().any(|plain| plain == lower || plain == singular)
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
    let rooted = word.starts_with('/') && word.get(1..).is_some_and(|rest| rest.contains('/'));
    rooted && !ROUTES.iter().any(|route| word.starts_with(route)) && !is_pointer(word)
        || word.contains(":\\")
        || [".py", ".rs", ".go", ".js", ".java", ".cc", ".cpp", ".so"].iter().any(|end| word.ends_with(end))
        || ["projects/", "accounts/", "organizations/", "publishers/", "locations/", "deployments/"]
            .iter()
            .any(|part| word.contains(part))
}

/// A pointer into a JSON document: `/messages/0/content`, `/properties/a`.
fn is_pointer(word: &str) -> bool {
    let mut steps = word.split('/').filter(|step| !step.is_empty());
    steps.any(|step| {
        step.bytes().all(|byte| byte.is_ascii_digit())
            || ["properties", "items", "$defs", "parameters"].contains(&step)
    })
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
    let lower = word.to_lowercase();
    let parts: Vec<&str> = lower.split('-').collect();
    let letters = parts.iter().any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_alphabetic()));
    let mixed = parts.iter().any(|part| part.bytes().any(|byte| byte.is_ascii_digit()));
    let counted = parts.iter().any(|part| UNITS.contains(part))
        || parts.first().is_some_and(|first| COUNTED.contains(first));
    parts.len() > 1
        && letters
        && mixed
        && !counted
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// An id or a key: a known prefix, or a long run of letters and digits mixed.
fn is_opaque(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let after = |prefix: &&str| inner.strip_prefix(prefix).filter(|rest| rest.len() > 3);
    // Nouns begin names of members, too; an id has digits, or capitals among small letters.
    let random = |rest: &str| {
        let small = rest.bytes().any(|byte| byte.is_ascii_lowercase());
        rest.bytes().any(|byte| byte.is_ascii_digit())
            || small && rest.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    SECRET_PREFIXES.iter().any(|prefix| after(prefix).is_some())
        || NOUN_PREFIXES.iter().filter_map(after).any(random)
        || !CALL_PREFIXES.iter().any(|prefix| after(prefix).is_some())
            && !EXTREMES.contains(&inner)
            && has_opaque_run(inner)
}

/// Reports a name that a model may have, and no key, id or sentence.
#[must_use]
pub fn is_model_name(name: &str) -> bool {
    let shaped = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@');
    let lower = name.to_ascii_lowercase();
    let is_key = |prefix: &&str| lower.contains(&prefix.to_ascii_lowercase()) && name.len() >= OPAQUE_MIN;
    let is_random = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.len() >= NAME_PART_MAX || part.len() >= RANDOM_MIN && digits > 0 && digits < part.len()
    };
    (1..=NAME_MAX).contains(&name.len())
        && name.chars().all(shaped)
        && !lower.contains("tg_")
        && !SECRET_PREFIXES.iter().any(|prefix| lower.starts_with(&prefix.to_ascii_lowercase()))
        && !["/sk-", ":sk-"].iter().any(is_key)
        && !name.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
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

/// As much of a text as fits, cut between words where that leaves most of it.
fn shortened(text: &str, max: usize) -> &str {
    let cut = text.get(..text.floor_char_boundary(max)).unwrap_or(text);
    if cut.len() == text.len() {
        return text;
    }
    match cut.rfind(char::is_whitespace) {
        Some(at) if at > max / 2 => cut.get(..at).unwrap_or(cut),
        _ => cut,
    }
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

    /// Goal: names of models are told from keys and sentences.
    #[test]
    fn models_are_told_from_keys() {
        for name in [
            "openai/gpt-4o-mini-2024-07-18",
            "claude-3-5-sonnet-20241022",
            "meta-llama/Llama-3.3-70B-Instruct",
            "eu.anthropic.claude-opus-5-v1:0",
            "m/made-up",
        ] {
            assert!(is_model_name(name), "{name}");
        }
        for name in [
            "",
            "tg_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9",
            "x/TG_abc",
            "sk-proj-abcdef",
            "openai/sk-abcdefghijkl",
            "a1b2c3d4e5f6a7b8",
            "model of my patient",
            "m\u{1b}",
            "QWERTZUIOPASDFGHJKLYXCVBNM",
        ] {
            assert!(!is_model_name(name), "{name}");
        }
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

    /// Goal: a clause is kept or dropped whole, and what only looks like an id, a name or a host is kept.
    #[test]
    fn clauses_stay_whole() {
        for text in [
            "Expected a value <= 9223372036854775807, but got 9223372036854775808 instead.",
            "The image must be a base64-encoded string, e.g. a PNG.",
            "Use the /v1/responses endpoint instead.",
            "At /messages/0/content: expected minLength: 1.",
            "The file_data, user_location and key-value pairs must be strings.",
            "Set it to one of (low. medium. high) only.",
        ] {
            assert_eq!(sanitize(text, &caller()).as_deref(), Some(text));
        }
        for (text, told) in [
            ("n is bad (request id: 20250825193859193009991279596944).", "n is bad"),
            ("ValidationException: n is bad", "n is bad"),
            ("some-relay error: n is bad", "some-relay error: n is bad"),
            ("Upstream at Crucible: n is bad", "n is bad"),
            ("n is bad. Our organization has no access.", "n is bad."),
        ] {
            assert_eq!(sanitize(text, &caller()).as_deref(), Some(told), "{text}");
        }
        let long = format!("n is bad. {}", "word ".repeat(200));
        assert_eq!(sanitize(&long, &caller()).as_deref(), Some("n is bad."));
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
