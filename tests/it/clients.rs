//! Clients and a server that others wrote: the official SDKs, LangChain and the AI SDK, unmodified, against the gateway;
//! behind it the sandbox, or aimock wherever that can answer. `make clients` installs them.

use crate::support::{Config, Gateway, KEY, Upstream, http};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) const NARROW_KEY: &str = "narrow-key-of-the-tests-0123456";
const LIMITED_KEY: &str = "limited-key-of-the-tests-012345";
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
pub(crate) const CLIENTS_BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");
/// What aimock wants to be shown.
const CREDENTIAL: &str = "credential-of-aimock";

/// A model, its kind, and its names at the sandbox and at aimock; empty where that one cannot answer as the tests expect.
const MODELS: [(&str, &str, &str, &str); 26] = [
    ("openai/gpt", "chat", "gpt", "gpt"),
    ("openai/embed", "embedding", "embed", "embed"),
    ("openai/image", "image, sizes: [\"1024x1024\", auto]", "image", "image"),
    ("openai/video", "video", "video", "video"),
    ("openai/failover", "chat", "fault/overload-openai", "overload"),
    ("sandbox/gpt", "chat", "gpt", ""),
    ("sandbox/embed", "embedding", "embed", ""),
    ("sandbox/image", "image, sizes: [\"1024x1024\", auto]", "image", ""),
    ("sandbox/long", "chat", "gpt+chunks=1000+chunk-delay=10", ""),
    ("aimock/gpt", "chat", "", "gpt"),
    ("aimock/thinks", "chat", "", "thinks"),
    ("aimock/thinks-in-vain", "chat", "", "thinks-in-vain"),
    ("azure/gpt", "chat", "", "gpt"),
    ("azure/embed", "embedding", "", "embed"),
    ("gemini/gpt", "chat", "", "gpt"),
    ("google/image", "gemini_image", "image", ""),
    ("fails/parameter", "chat", "fault/bad-param-400", "bad-parameter"),
    ("fails/policy", "chat", "fault/policy-400", "policy"),
    ("fails/context", "chat", "fault/context-400", "context"),
    ("fails/cut", "chat", "fault/stream-cut-mid", "cut"),
    ("fails/error-mid", "chat", "fault/stream-error-mid", ""),
    ("fails/image-cut", "image", "fault/stream-cut-mid", ""),
    ("fails/image-error", "image", "fault/stream-error-mid", ""),
    ("fails/completions", "chat", "fault/overload-openai", ""),
    ("fails/embed", "embedding", "fault/overload-openai", ""),
    ("fails/video", "video", "fault/overload-openai", ""),
];

/// Failures after which a client tries again: whoever met one waits longer at the next, so each use has a model of its own.
const WAITED_FOR: [(&str, &str, &str); 6] = [
    ("overload", "fault/overload-gemini", "overload"),
    ("rate", "fault/rate-openai", "rate"),
    ("broken", "fault/status-500", "broken"),
    ("credential", "fault/auth-401", "gpt"),
    ("weird", "fault/html-200", "malformed"),
    ("closed", "fault/close", "closed"),
];
const USES: [&str; 4] = ["", "-stream", "-responses", "-messages"];

/// What the gateway makes of each failure, whoever says it and in whatever shape (spec 3.2).
const JUDGED: [(&str, &str); 10] = [
    ("parameter", "caller_mistake"),
    ("policy", "content_refused"),
    ("context", "context_too_long"),
    ("cut", "broken_mid_stream"),
    ("overload", "overloaded"),
    ("rate", "rate_limited"),
    ("broken", "broken"),
    ("credential", "credential_refused"),
    ("weird", "not_understood"),
    ("closed", "broken"),
];

/// Who answers, where both can.
#[derive(Clone, Copy, PartialEq)]
enum Behind {
    Sandbox,
    Aimock,
}

/// An independent server of OpenAI's and Anthropic's APIs, in a process of its own.
struct Aimock {
    addr: SocketAddr,
    child: Child,
}

impl Aimock {
    /// Starts it with the answers of `aimock.json`; it checks the credential that it is shown.
    fn start() -> Aimock {
        let program = Path::new(CLIENTS_BUILT).join("node_modules/@copilotkit/aimock/dist/cli.js");
        let answers = Path::new(CLIENTS).join("aimock.json");
        let mut child = Command::new("node")
            .args([&program, Path::new("--port"), Path::new("0"), Path::new("--fixtures"), &answers])
            .env("AIMOCK_API_KEYS", CREDENTIAL)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("install the clients with: make clients");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let addr = lines.by_ref().find_map(|line| line.rsplit_once("listening on http://")?.1.parse().ok());
        std::thread::spawn(move || lines.count());
        Aimock { addr: addr.expect("aimock tells where it listens"), child }
    }

    /// How many requests it answered that showed its credential.
    fn requests(&self) -> u64 {
        let ask = format!(
            "GET /v1/_requests HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {CREDENTIAL}\r\nconnection: close\r\n\r\n",
            self.addr
        );
        http::exchange(self.addr, ask.as_bytes()).unwrap().json().as_array().unwrap().len() as u64
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The channels at aimock that serve a model: as Azure or Gemini does, or as OpenAI does, and for chat also as Anthropic.
fn at_aimock(mut config: Config, addr: SocketAddr, (id, kind, name): (&str, &str, &str)) -> Config {
    let credential = if id.contains("credential") { "a-wrong-one" } else { CREDENTIAL };
    let mut channel = |provider: &str, base: &str, more: &str| {
        let number = config.channels.len();
        config.channels.push(format!(
            "  - {{ id: aimock-{number}, provider: {provider}, base_url: \"http://{addr}{base}\", \
             credentials: [{{ value: {credential} }}], models: {{ \"{id}\": {name} }}, {more} }}\n"
        ));
    };
    match (id.split('/').next(), kind) {
        (Some("azure"), _) => channel("azure", "", "api_version: \"2024-10-21\", apis: [chat, embeddings]"),
        (Some("gemini"), _) => channel("gemini", "/v1beta/openai", "apis: [chat]"),
        (_, "chat") => {
            channel("openai", "/v1", "apis: [chat, responses]");
            channel("anthropic", "/v1", "apis: [messages]");
        }
        (_, "embedding") => channel("openai", "/v1", "apis: [embeddings]"),
        (_, "video") => channel("openai", "/v1", "apis: [video], video: { interval: 20ms }"),
        _ => channel("openai", "/v1", "apis: [images]"),
    }
    config
}

/// A gateway before both servers.
fn gateway(behind: Behind, sandbox: &Upstream, aimock: &Aimock) -> Gateway {
    let mut models: Vec<_> =
        MODELS.map(|(id, kind, at_sandbox, at_aimock)| (id.to_owned(), kind, at_sandbox, at_aimock)).into();
    for (failure, at_sandbox, at_aimock) in WAITED_FOR {
        models.extend(USES.map(|of| (format!("fails/{failure}{of}"), "chat", at_sandbox, at_aimock)));
    }
    let mut config = Config::default();
    for (index, (id, kind, sandboxed, aimocked)) in models.iter().enumerate() {
        config = config.model(id, kind);
        let other = sandboxed.is_empty() || (behind == Behind::Aimock && !aimocked.is_empty());
        config = match other {
            true => at_aimock(config, aimock.addr, (id, kind, aimocked)),
            false => config.channel(&format!("c-{index}"), sandbox.addr, &[(id, sandboxed)], ""),
        };
    }
    config
        .model_with("openai/priced", "chat", "price: { input: \"1\", output: \"1\" }")
        .channel("priced", sandbox.addr, &[("openai/priced", "gpt")], "")
        .model("openai/verified", "chat, verification: telegram")
        .channel("verified", sandbox.addr, &[("openai/verified", "x")], "")
        .channel("spare", sandbox.addr, &[("openai/failover", "gpt")], ", priority: 1")
        .key("narrow", NARROW_KEY, ", models: [\"fails/*\"]")
        .key("limited", LIMITED_KEY, ", limits: { rpm: 1 }")
        .start()
}

/// Runs a client; it ends with `ok` and the requests it made, or with the reason why not.
pub(crate) fn run(mut client: Command, gateway: &Gateway) {
    let base = format!("http://{}/v1", gateway.public);
    client.args([&base, KEY, NARROW_KEY, LIMITED_KEY]);
    let output =
        client.output().unwrap_or_else(|e| panic!("{client:?}: {e}; install the clients with: make clients"));
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{complaints}");
    let made = told.trim_end().rsplit_once("ok ").and_then(|(_, made)| made.parse().ok());
    gateway.count(made.unwrap_or_else(|| panic!("{told}{complaints}")));
}

pub(crate) fn client(file: &str) -> Command {
    let program = match file.ends_with(".py") {
        true => Path::new(CLIENTS_BUILT).join("venv/bin/python"),
        false => "node".into(),
    };
    let mut client = Command::new(program);
    if file.ends_with(".py") {
        // No compiled files beside the sources.
        client.arg("-B").arg(Path::new(CLIENTS).join(file));
    } else {
        client.arg(Path::new(CLIENTS).join(file)).arg(CLIENTS_BUILT);
    }
    client
}

/// Holds what the log says of attempts to [`JUDGED`].
fn check_verdicts(gateway: &Gateway) {
    let mut judged = 0;
    for line in gateway.log() {
        let failure = line["model"].as_str().and_then(|model| model.strip_prefix("fails/"));
        let of_model = |(name, _): &&(&str, &str)| failure.is_some_and(|f| f.split('-').next() == Some(name));
        let Some((_, verdict)) = JUDGED.iter().find(of_model) else { continue };
        for attempt in line["attempts"].as_array().unwrap() {
            assert_eq!(attempt["outcome"], *verdict, "{line}");
            judged += 1;
        }
    }
    assert!(judged >= 8, "{judged} attempts that fail");
}

/// Runs a client before both servers, at the same time since it waits much.
///
/// Before aimock wherever that can answer, so many requests at least are for it.
fn drive(file: &str, at_aimock: u64) {
    std::thread::scope(|scope| {
        for (name, behind, at_least) in
            [("sandbox", Behind::Sandbox, 0), ("aimock", Behind::Aimock, at_aimock)]
        {
            let named = std::thread::Builder::new().name(format!("{file} before {name}"));
            named.spawn_scoped(scope, move || drive_before(behind, file, at_least)).unwrap();
        }
    });
}

fn drive_before(behind: Behind, file: &str, at_least: u64) {
    let (sandbox, aimock) = (Upstream::start(), Aimock::start());
    let gateway = gateway(behind, &sandbox, &aimock);
    run(client(file), &gateway);
    // LangChain's clients stand on the SDKs; the AI SDK does not tell that it tries again (spec 10.4).
    let retries = gateway.sum("tidegate_client_retries_total");
    assert_eq!(retries > 0.0, !file.starts_with("ai_"), "{retries} retries were told");
    let answered = aimock.requests();
    assert!(answered >= at_least, "aimock answered {answered} requests");
    check_verdicts(&gateway);
    if file == "openai_node.mjs" {
        gateway.wait_for("the abandoned stream to be cancelled", || sandbox.stats.aborted() >= 1);
    }
    gateway.finish();
}

/// Goal: each route that the SDK has a call for, streams, tools, usage, before both servers; each error in its class,
/// before and in a stream, after as many retries as the contract intends (spec 1.1, 2.6, 2.7).
#[test]
fn openai_for_python() {
    drive("openai_python.py", 40);
}

/// Goal: the same for Node; and an abandoned stream is cancelled upstream.
#[test]
fn openai_for_node() {
    drive("openai_node.mjs", 40);
}

/// Goal: Messages, its streams and its tools; each error in Anthropic's shape and its class (spec 2.5, 2.11).
#[test]
fn anthropic_for_python() {
    drive("anthropic_python.py", 20);
}

/// Goal: the same for Node.
#[test]
fn anthropic_for_node() {
    drive("anthropic_node.mjs", 20);
}

/// Goal: other generations of both SDKs for Node take failures for what they are, in a stream as before it (spec 2.6).
#[test]
fn generations_for_node() {
    drive("generations_node.mjs", 20);
}

/// Goal: LangChain's clients: chat, Responses, Messages, streams, rounds with tools, structured answers; each error as
/// the exception that LangChain has for it, a cut stream as an exception (spec 2.2, 2.6, 2.7).
#[test]
fn langchain_for_python() {
    drive("langchain_python.py", 60);
}

/// Goal: the AI SDK by its providers of OpenAI (chat and Responses), Anthropic and compatible servers: answers, streams,
/// rounds with tools; errors before and in a stream, none of which passes for an end (spec 2.2, 2.6, 2.7).
#[test]
fn ai_sdk_for_node() {
    drive("ai_node.mjs", 60);
}

/// Goal: the same for the seventh generation of the AI SDK.
#[test]
fn ai_sdk_7_for_node() {
    drive("ai_7_node.mjs", 60);
}
