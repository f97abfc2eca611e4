//! Libraries that stand on the API: embeddings in batches by LlamaIndex and Haystack, and the typed client `async-openai`,
//! which refuses whatever is not as documented. `make clients` installs and builds them.

use crate::clients::{CLIENTS_BUILT, NARROW_KEY, client, run};
use crate::support::{Config, Gateway, Upstream};
use std::path::Path;
use std::process::Command;

/// A gateway before the sandbox; one model of embeddings has a window of 8,192 tokens.
fn gateway(sandbox: &Upstream) -> Gateway {
    let mut config = Config::default()
        .model_with("openai/window", "embedding", "free: true, context_window: 8192")
        .channel("window", sandbox.addr, &[("openai/window", "embed")], "")
        .model_with("openai/priced", "chat", "price: { input: \"1\", output: \"1\" }")
        .channel("priced", sandbox.addr, &[("openai/priced", "gpt")], "");
    let models = [
        ("openai/gpt", "gpt"),
        ("openai/failover", "fault/overload-openai"),
        ("fails/parameter", "fault/bad-param-400"),
        ("fails/policy", "fault/policy-400"),
        ("fails/context", "fault/context-400"),
        ("fails/cut", "fault/stream-cut-mid"),
    ];
    for (id, _) in models {
        config = config.model(id, "chat");
    }
    config
        .channel_each("chat", sandbox.addr, &models, "")
        .channel("spare", sandbox.addr, &[("openai/failover", "gpt")], ", priority: 1")
        .key("narrow", NARROW_KEY, ", models: [\"fails/*\"]")
        .start()
}

fn drive(client: Command) {
    let sandbox = Upstream::start();
    let gateway = gateway(&sandbox);
    run(client, &gateway);
    gateway.finish();
}

/// Goal: a batch of texts is measured text by text: all have vectors, in their order, for one request a batch; a text that
/// is too long itself is 413 and not tried again.
#[test]
fn llamaindex_embeds_in_batches() {
    drive(client("llamaindex_python.py"));
}

/// Goal: the same by Haystack, which goes on after a failure: every document has its vector, but the one that is too long.
#[test]
fn haystack_embeds_in_batches() {
    drive(client("haystack_python.py"));
}

/// Goal: models, chat, Responses, embeddings and streams fit the types of `async-openai`; errors are its errors, with
/// status, type and code, and a stream that breaks off is one.
#[test]
fn async_openai_for_rust() {
    drive(Command::new(Path::new(CLIENTS_BUILT).join("async_openai/debug/async-openai-client")));
}
