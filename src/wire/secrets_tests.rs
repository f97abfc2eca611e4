use super::*;
use crate::wire::sanitize::operator_words;
use base64::engine::general_purpose::{STANDARD as PADDED, URL_SAFE_NO_PAD};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIXES: [&str; 8] = ["", "sk-", "sk-proj-", "tg_", "AIza", "my/key+", "a.b~", "Key&<"];

/// A random secret of 16 to 60 characters.
fn secret(random: &mut fastrand::Rng) -> String {
    let length = random.usize(16..60);
    let characters: String = (0..length).map(|_| char::from(ALPHABET[random.usize(..62)])).collect();
    format!("{}{characters}", PREFIXES[random.usize(..PREFIXES.len())])
}

fn each(secret: &str, spell: impl Fn(u8) -> String) -> String {
    secret.bytes().map(spell).collect()
}

/// The spellings in which an upstream may echo a secret.
fn spellings(secret: &str) -> Vec<String> {
    let html = secret.replace('&', "&amp;").replace('<', "&lt;");
    let head = &secret[..6];
    let tail = &secret[secret.len() - 4..];
    let (first, second) = secret.split_at(secret.len() / 2);
    vec![
        secret.to_owned(),
        secret.to_uppercase(),
        secret.to_lowercase(),
        html,
        each(secret, |byte| format!("%{byte:02X}")),
        each(&each(secret, |byte| format!("%{byte:02x}")), |byte| match byte {
            b'%' => "%25".to_owned(),
            byte => char::from(byte).to_string(),
        }),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
        each(secret, |byte| format!("\\u{byte:04x}")),
        each(secret, |byte| format!("\\\\u{byte:04X}")),
        each(secret, |byte| format!("&#{byte};")),
        each(secret, |byte| format!("&#x{byte:x};")),
        each(secret, |byte| format!("\\x{byte:02x}")),
        secret.replace('/', "\\/"),
        each(secret, |byte| format!("{byte:02x}")),
        each(secret, |byte| format!("{byte:02X}:")),
        PADDED.encode(secret),
        URL_SAFE_NO_PAD.encode(format!("user:{secret}")),
        format!("Basic {}", PADDED.encode(format!("{secret}:"))),
        secret.chars().rev().collect(),
        each(secret, |byte| format!("{} ", char::from(byte))),
        format!("{first}\n{second}"),
        format!("{head}***{tail}"),
        format!("{head}...{tail}"),
        format!("{head}…{tail}"),
        format!("{head}••••{tail}"),
        format!("{head}xxxxxxxx{tail}"),
        format!("{head} **** {tail}"),
        format!("ending in {tail}"),
        format!("{}…", &secret[..12]),
        format!("[{}]", &secret[4..14]),
    ]
}

/// The places of a message in which it may stand.
fn message(place: usize, spelled: &str) -> String {
    match place {
        0 => format!("The upstream refused {spelled} for now"),
        1 => format!("api_key={spelled}, please wait"),
        2 => format!("https://host/v1?key={spelled}&x=1 is busy"),
        3 => format!("{{\"authorization\":\"Bearer {spelled}\"}}"),
        _ => spelled.to_owned(),
    }
}

/// Pieces of four letters and digits or more at the ends, and of six in the middle, that a text still has.
fn remains(text: &str, secret: &str) -> bool {
    let needle = letters(secret.as_bytes());
    let words: Vec<Cow<'_, str>> = text.split_whitespace().map(decoded).collect();
    let whole = letters(words.concat().as_bytes());
    let ends = [&needle[..8], &needle[needle.len() - 8..]];
    let tail = &needle[needle.len() - 4..];
    needle.windows(FRAGMENT).any(|piece| memchr::memmem::find(&whole, piece).is_some())
        || ends.iter().any(|end| memchr::memmem::find(&whole, end).is_some())
        || words.iter().any(|word| letters(word.as_bytes()).ends_with(tail))
        || text.contains(&PADDED.encode(secret)[4..12])
        || text.contains(&each(secret, |byte| format!("{byte:02x}"))[..16])
}

/// Goal: of 20,000 random secrets in every spelling and place, nothing is left; the words around them are.
#[test]
fn nothing_is_left_of_a_secret_in_any_spelling() {
    let mut random = fastrand::Rng::with_seed(13);
    for round in 0..20_000 {
        let secret = secret(&mut random);
        let other = format!("{round:09}-qzj");
        let spelled = spellings(&secret);
        let spelled = &spelled[round % spelled.len()];
        let place = round / 7 % 5;
        let text = message(place, spelled);
        let kept = operator_words(&without_secrets(&text, &[&other, &secret], b""));
        assert!(!remains(&kept, &secret), "round {round}: {secret} as {spelled} is left in {kept:?}");
        if place == 0 {
            // The letter beside a piece may be the secret's next one, and goes with its word.
            assert!(kept.starts_with("The upstream"), "round {round}: {secret} {kept:?}");
            assert!(kept.ends_with("now"), "round {round}: {secret} {kept:?}");
        }
    }
}

/// Goal: words without a secret stay as they are, also beside secrets that are short or words themselves.
#[test]
fn other_words_stay() {
    let text = "Rate limit reached for requests: 3 of 3 a minute, wait 20 s (code rate_limit_exceeded).";
    for secret in ["sk-Zx8Qw7Lk2Mn4Bv6aB3dE5fG7", "k", "", "!!", "credential-of-a"] {
        assert_eq!(without_secrets(text, &[secret], b"{}"), text, "{secret}");
    }
    assert_eq!(without_secrets("a !?!? b abcd", &["!?!?", "abcd"], b""), "a […] b […]");
    assert!(tells("see QKSD93kdjf02LLpw", &["qksd93kdjf02llpw"]));
    assert!(!tells("the model is a test", &["sk-test", "key"]) && !tells("", &[]));
}

/// Goal: a prompt that an upstream echoes is dropped, however it is escaped, cut and cased; the upstream's own words stay.
#[test]
fn what_the_caller_wrote_is_dropped() {
    let prompt = "My patient Jane Doe, born 1970, has \u{e9}pilepsie. 1 + 1 = 2; 3 + 4 = 7; 5 - 6 = -1!";
    let mut body =
        serde_json::json!({"model": "m", "messages": [{"role": "user", "content": prompt}]}).to_string();
    body.insert_str(1, &format!("\"padding\":\"{}\",", "z ".repeat(9_000)));
    let escaped = body.replace('\u{e9}', "\\u00e9").replace(' ', "\\u0020");
    for body in [&body, &escaped] {
        for echo in [
            prompt.to_owned(),
            prompt.to_uppercase().replace('\u{c9}', "\u{e9}"),
            prompt.replace(' ', "%20"),
            prompt.replace(' ', "\n  "),
            serde_json::to_string(&prompt[5..]).unwrap(),
            prompt[..30].to_owned(),
            "1 + 1 = 2; 3 + 4 = 7; 5 -".to_owned(),
        ] {
            let text = format!("Upstream crashed in the log >> {echo} << in worker 3");
            let kept = without_secrets(&text, &[], body.as_bytes());
            assert!(!kept.contains("Jane") && !kept.contains("3 + 4"), "{echo}: {kept}");
            assert!(!kept.to_lowercase().contains("patient"), "{echo}: {kept}");
            assert!(
                kept.starts_with("Upstream crashed in the log") && kept.ends_with("in worker 3"),
                "{kept}"
            );
        }
    }
    let large = vec![b' '; BODY_MAX + 1];
    assert_eq!(without_secrets("who knows", &[], &large), GONE);
    assert_eq!(without_secrets(" ", &[], &large), "");
}
