//! The official SDKs, unmodified, against the gateway and the sandbox. `make clients` installs them.

use crate::support::{Config, Gateway, KEY, Upstream};
use std::path::Path;
use std::process::Command;

const NARROW_KEY: &str = "narrow-key-of-the-tests-0123456";
const LIMITED_KEY: &str = "limited-key-of-the-tests-012345";
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");

fn gateway(upstream: &Upstream) -> Gateway {
    let served = [
        ("openai/gpt", "gpt"),
        ("openai/embed", "embed"),
        ("openai/image", "image"),
        ("google/image", "image"),
        ("fails/image-cut", "fault/stream-cut-mid"),
        ("fails/image-error", "fault/stream-error-mid"),
        ("openai/failover", "fault/overload-openai"),
        ("openai/long", "gpt+chunks=1000+chunk-delay=10"),
        ("fails/parameter", "fault/bad-param-400"),
        ("fails/policy", "fault/policy-400"),
        ("fails/context", "fault/context-400"),
        ("fails/weird", "fault/html-200"),
        ("fails/overload", "fault/overload-gemini"),
        ("fails/credential", "fault/auth-401"),
        ("fails/cut", "fault/stream-cut-mid"),
        ("fails/error-mid", "fault/stream-error-mid"),
    ];
    let kind = |id: &str| match id {
        "openai/embed" => "embedding",
        "openai/image" => "image, sizes: [\"1024x1024\", auto]",
        "google/image" => "gemini_image",
        "fails/image-cut" | "fails/image-error" => "image",
        _ => "chat",
    };
    let config = served.iter().fold(Config::default(), |config, (id, _)| config.model(id, kind(id)));
    config
        .model("openai/verified", "chat, verification: telegram")
        .channel_each("c", upstream.addr, &served, "")
        .channel("verified", upstream.addr, &[("openai/verified", "x")], "")
        .channel("spare", upstream.addr, &[("openai/failover", "gpt")], ", priority: 1")
        .key("narrow", NARROW_KEY, ", models: [\"fails/*\"]")
        .key("limited", LIMITED_KEY, ", limits: { rpm: 1 }")
        .start()
}

/// Runs a client; it ends with `ok` and the requests it made, or with the reason why not.
fn run(mut client: Command, gateway: &Gateway) {
    let base = format!("http://{}/v1", gateway.public);
    client.args([&base, KEY, NARROW_KEY, LIMITED_KEY]);
    let output =
        client.output().unwrap_or_else(|e| panic!("{client:?}: {e}; install the clients with: make clients"));
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let made = told.trim_end().rsplit_once("ok ").and_then(|(_, made)| made.parse().ok());
    gateway.count(made.unwrap_or_else(|| panic!("{told}")));
}

fn python(client: &str) -> Command {
    let mut python = Command::new(Path::new(INSTALLED).join("venv/bin/python"));
    python.arg(Path::new(CLIENTS).join(client));
    python
}

fn node(client: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(Path::new(CLIENTS).join(client)).arg(INSTALLED);
    node
}

/// Goal: chat, Responses, streams, tools, usage, embeddings, images, models; each error in its class, before and in a
/// stream, after as many retries as the contract intends (spec 2.6, 2.7).
#[test]
fn openai_for_python() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    run(python("openai_python.py"), &gateway);
    gateway.finish();
}

/// Goal: the same for Node; and an abandoned stream is cancelled upstream.
#[test]
fn openai_for_node() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    run(node("openai_node.mjs"), &gateway);
    gateway.wait_for("the abandoned stream to be cancelled", || upstream.stats.aborted() >= 1);
    gateway.finish();
}

/// Goal: Messages and its streams; each error in Anthropic's shape and its class (spec 2.5, 2.11).
#[test]
fn anthropic_for_python() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    run(python("anthropic_python.py"), &gateway);
    gateway.finish();
}

/// Goal: the same for Node.
#[test]
fn anthropic_for_node() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    run(node("anthropic_node.mjs"), &gateway);
    gateway.finish();
}
