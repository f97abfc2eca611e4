//! What operators read never has a credential, a key or a prompt in it, whatever an upstream echoes and wherever a client
//! puts its key (spec 2.12, 13.3).

use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway, KEY, http};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::process::Command;

/// The credential of the channel under test.
const CREDENTIAL: &str = "Qx7Lk-2Mn4Bv6Zr9Ws3/Td8Yf5Hj1=Pc0";
const PROMPT: &str = "My patient Jane Doe of Elm Street takes 20 mg of oxazepam a day, is that too much?";
/// Channels that never rest, so that every request is an attempt.
const TIRELESS: &str = "defaults: { retry: { budget_ratio: 10 }, health: { cooldown_max: 0s, ejection: 0s, refused: 0s, blocked: 0s, missing: 0s } }\n";

fn each(text: &str, spell: impl Fn(u8) -> String) -> String {
    text.bytes().map(spell).collect()
}

/// The spellings of a secret in an echo.
fn spellings(secret: &str) -> Vec<String> {
    let head = &secret[..6];
    let tail = &secret[secret.len() - 4..];
    vec![
        secret.to_owned(),
        secret.to_uppercase(),
        secret.to_lowercase(),
        each(secret, |byte| format!("%{byte:02x}")),
        each(secret, |byte| format!("\\u{byte:04x}")),
        each(secret, |byte| format!("&#{byte};")),
        each(secret, |byte| format!("{byte:02x}")),
        STANDARD.encode(secret),
        secret.chars().rev().collect(),
        format!("{head}***{tail}"),
        format!("{head}...{tail}"),
        format!("ending in {tail}"),
    ]
}

/// The places of an answer in which an upstream may echo something.
fn echoes(place: usize, text: &str) -> Vec<Act> {
    let quoted = serde_json::to_string(&format!("We are busy with {text} now")).unwrap();
    let stream = [("content-type".to_owned(), "text/event-stream".to_owned())];
    match place {
        0 => scripted::whole(500, &[], format!("{{\"error\":{{\"message\":{quoted}}}}}").as_bytes()),
        1 => {
            let body = format!("{{\"error\":{{\"message\":{quoted},\"code\":{quoted},\"type\":{quoted}}}}}");
            scripted::whole(401, &[("x-request-id".to_owned(), text.replace('\n', " "))], body.as_bytes())
        }
        2 => scripted::whole(503, &[], format!("<html><title>{text}</title><p>{text}</p></html>").as_bytes()),
        3 => scripted::whole(502, &[], text.as_bytes()),
        4 => scripted::whole(
            200,
            &[],
            format!("{{\"error\":{{\"message\":{quoted},\"code\":429}}}}").as_bytes(),
        ),
        5 => {
            let inner = serde_json::to_string(&format!("{{\"error\":{{\"message\":{quoted}}}}}")).unwrap();
            scripted::whole(500, &[], format!("{{\"error\":{{\"message\":{inner}}}}}").as_bytes())
        }
        6 => scripted::whole(
            400,
            &[],
            format!("{{\"error\":{{\"message\":{quoted},\"param\":\"messages\"}}}}").as_bytes(),
        ),
        _ => vec![
            scripted::chunked(200, &stream),
            scripted::chunk(format!("data: {{\"error\":{{\"message\":{quoted}}}}}\n\n").as_bytes()),
            scripted::chunk(b""),
        ],
    }
}

const PLACES: usize = 8;

/// An upstream that answers as the `seed` of the request says.
fn answer(asked: &Asked, texts: &[String]) -> Vec<Act> {
    let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    let seed = usize::try_from(body["seed"].as_u64().unwrap()).unwrap();
    echoes(seed % PLACES, &texts[seed / PLACES])
}

fn gateway(texts: Vec<String>) -> (Gateway, usize) {
    let count = texts.len() * PLACES;
    let upstream = scripted::start(move |asked| answer(asked, &texts));
    let mut config =
        Config { defaults: Some(TIRELESS.into()), ..Config::default() }.model("any/model", "chat");
    config = config.channel("c", upstream, &[("any/model", "m")], "");
    config.channels =
        config.channels.iter().map(|text| text.replace("credential-of-c", CREDENTIAL)).collect();
    (config.start(), count)
}

fn command(gateway: &Gateway, arguments: &[&str]) -> String {
    let admin = gateway.admin.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(arguments).args(["--admin", &admin]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Everything that an operator reads: the access log, the diagnostics, all that the admin listener and the commands tell.
fn everything(gateway: &Gateway) -> String {
    let pages = ["/failures?limit=512", "/failures?limit=512&format=json", "/status.json", "/", "/metrics"];
    let pages = pages.iter().map(|path| http::get(gateway.admin, path).unwrap().text());
    let log = gateway.log().iter().map(ToString::to_string).collect::<Vec<_>>();
    let last = gateway.log().last().unwrap()["request_id"].as_str().unwrap().to_owned();
    let commands = [&["why", &last][..], &["failures", "--limit", "512"], &["status"]];
    let commands = commands.iter().map(|arguments| command(gateway, arguments));
    let said = gateway.lines_saying("");
    pages.chain(log).chain(commands).chain(said).collect::<Vec<_>>().join("\n")
}

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// Goal: a credential that an upstream echoes, in every spelling and place, stands nowhere: not in the log, not on the page, in
/// no snapshot and no command, and not in what the client reads.
#[test]
fn an_echoed_credential_is_nowhere() {
    let (gateway, count) = gateway(spellings(CREDENTIAL));
    let mut clients = String::new();
    for seed in 0..count {
        let body = json!({"model": "any/model", "seed": seed, "stream": seed % PLACES == PLACES - 1,
            "messages": [{"role": "user", "content": "hi"}]});
        let reply = gateway.post("/v1/chat/completions", &body.to_string());
        clients += &reply.text();
    }
    gateway.wait_for("all in the log", || gateway.log().len() == count);
    let read = letters(&(everything(&gateway) + &clients));
    assert!(read.contains("wearebusywith"), "the upstream's own words stay: {read}");
    let needle = letters(CREDENTIAL);
    for piece in needle.as_bytes().windows(6) {
        let piece = std::str::from_utf8(piece).unwrap();
        assert!(!read.contains(piece), "{piece} is left");
    }
    let reversed: String = needle.chars().rev().collect();
    let hex = each(CREDENTIAL, |byte| format!("{byte:02x}"));
    let coded = letters(&STANDARD.encode(CREDENTIAL));
    for rest in [&reversed[4..14], &hex[8..20], &coded[4..14], "endingin1pc0"] {
        assert!(!read.contains(rest), "{rest} is left");
    }
    gateway.finish();
}

/// Goal: a prompt that an upstream echoes in its errors stands in nothing that an operator reads.
#[test]
fn an_echoed_prompt_is_nowhere() {
    let (gateway, count) = gateway(vec![
        PROMPT.to_owned(),
        PROMPT.to_uppercase(),
        PROMPT.replace(' ', "\n"),
        PROMPT[..40].to_owned(),
    ]);
    for seed in 0..count {
        let body = json!({"model": "any/model", "seed": seed, "stream": seed % PLACES == PLACES - 1,
            "messages": [{"role": "user", "content": PROMPT}]});
        gateway.post("/v1/chat/completions", &body.to_string());
    }
    gateway.wait_for("all in the log", || gateway.log().len() == count);
    let read = letters(&everything(&gateway));
    assert!(read.contains("wearebusywith"), "the upstream's own words stay: {read}");
    for piece in ["janedoe", "elmstreet", "oxazepam", "mypatient"] {
        assert!(!read.contains(piece), "{piece} is left");
    }
    gateway.finish();
}

/// Goal: a key as the name of a model, in a path, as a request's id, in other header fields, as a member or in the place of a
/// number is in nothing that an operator reads; a name that may be a model's is told in the log.
#[test]
fn a_misplaced_key_is_nowhere() {
    let minted = "tg_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9";
    let (gateway, _) = gateway(vec!["x".to_owned()]);
    let model = |name: &str| json!({"model": name, "messages": []}).to_string();
    let mut sent = 0;
    for key in [KEY, minted, CREDENTIAL, "sk-proj-Ab3dE5fG7hJ9kL1mN3pQ5"] {
        for name in [key.to_owned(), key.to_uppercase(), format!("openai/{key}"), format!("a {key}")] {
            gateway.post("/v1/chat/completions", &model(&name));
            sent += 1;
        }
        let member = json!({"model": "any/model", "seed": 0, "messages": [], key: 1}).to_string();
        gateway.post("/v1/chat/completions", &member);
        let headers = format!(
            "x-request-id: {key}\r\nuser-agent: {key}\r\nx-session-id: {key}\r\ntraceparent: {key}\r\n\
             x-stainless-retry-count: {key}\r\nreferer: https://x/{key}\r\nx-forwarded-for: {key}\r\n"
        );
        gateway.post_with("/v1/chat/completions", &model("m/made-up"), &headers);
        let path = key.replace('/', "%2F");
        for path in [format!("/v1/models/{path}"), format!("/{path}"), format!("/v1/balance?key={path}")] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\r\n");
            gateway.raw(request.as_bytes());
        }
        sent += 5;
        // The framework refuses it, so that it is neither counted nor logged.
        let request =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {key}\r\n\r\n");
        http::exchange(gateway.public, request.as_bytes());
    }
    gateway.wait_for("all in the log", || gateway.log().len() >= sent);
    let told: Vec<_> =
        gateway.log().iter().filter_map(|line| line["told"].as_str().map(str::to_owned)).collect();
    assert!(told.iter().any(|told| told == "No available channel for model m/made-up"), "{told:?}");
    assert!(told.iter().any(|told| told == "No available channel for model other"), "{told:?}");
    let read = letters(&everything(&gateway));
    for key in [KEY, minted, "sk-proj-Ab3dE5fG7hJ9kL1mN3pQ5"] {
        for piece in letters(key).as_bytes().windows(12) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!read.contains(piece), "{piece} of {key} is left");
        }
    }
    gateway.finish();
}

/// Goal: words of an upstream that would steer a terminal are escaped wherever they are printed.
#[test]
fn foreign_words_steer_no_terminal() {
    let (gateway, _) = gateway(vec!["\u{1b}[2J\u{9b}31m\u{202e}gone".to_owned()]);
    let body = json!({"model": "any/model", "seed": 0, "messages": []}).to_string();
    let reply = gateway.post("/v1/chat/completions", &body);
    gateway.log_of(reply.request_id());
    let read = everything(&gateway);
    assert!(read.contains("gone"), "{read}");
    for c in ['\u{1b}', '\u{9b}', '\u{202e}'] {
        assert!(!read.contains(c), "{c:?} in {read:?}");
    }
    gateway.finish();
}
