//! Coding agents that others wrote, unmodified and without a terminal, through the gateway: Claude Code over Messages and
//! Codex over Responses. `make clients` installs them; the model behind the gateway is a script.

use crate::support::agents::{Answer, Ended, Home, Item, Model};
use crate::support::{Config, Gateway};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the failover time of [`before`].
const THINKING: Duration = Duration::from_secs(3);

/// A gateway before `model` in both APIs; a second without content is longer than its failover time.
fn before(model: &Model) -> Gateway {
    configured(Config::default().model("agents/model", "chat"), model).start()
}

fn configured(mut config: Config, model: &Model) -> Config {
    for (id, provider, api) in [("east", "anthropic", "messages"), ("west", "openai", "responses")] {
        config.channels.push(format!(
            "  - {{ id: {id}, provider: {provider}, base_url: \"http://{}/v1\", apis: [{api}], \
             credentials: [{{ value: credential-of-{id} }}], models: {{ agents/model: upstream }} }}\n",
            model.addr
        ));
    }
    config.defaults =
        Some("defaults: { timeouts: { failover: 1s }, retry: { budget_ratio: 10 } }\n".to_owned());
    config
}

/// Ends a test: these requests reached the gateway, in this order, by status and by how they ended.
fn finish(gateway: Gateway, home: Home, route: &str, expected: &[(u64, &str)]) {
    gateway.count(expected.len() as u64);
    gateway.wait_for("the lines of the log", || gateway.log().len() >= expected.len());
    let log = gateway.log();
    let served: Vec<_> =
        log.iter().map(|line| (line["status"].as_u64().unwrap(), line["end"].as_str().unwrap())).collect();
    assert_eq!(served, expected);
    assert!(log.iter().all(|line| line["route"] == route), "{log:?}");
    gateway.finish();
    home.finish();
}

/// What Claude Code says at the end of its task.
fn result(ended: &Ended) -> &Value {
    ended.event("result")
}

/// Holds that Claude Code took its task for done, with these words.
fn assert_claude_done(ended: &Ended, words: &str) {
    let result = result(ended);
    assert!(ended.success && result["is_error"] == false, "{}", ended.said);
    assert_eq!(result["result"], words, "{}", ended.said);
}

/// Holds that Codex took its turn for done, with these words at its end.
fn assert_codex_done(ended: &Ended, words: &str) {
    ended.event("turn.completed");
    assert!(ended.success, "{}", ended.said);
    let last = ended.events.iter().rev().find(|event| event["item"]["type"] == "agent_message");
    assert_eq!(last.map(|event| &event["item"]["text"]), Some(&words.into()), "{}", ended.said);
}

fn prompt_too_long() -> Answer {
    Answer::Refuses(
        400,
        json!({"type": "error", "error": {"type": "invalid_request_error",
               "message": "prompt is too long: 215000 tokens > 200000 maximum"}}),
    )
}

fn context_window_exceeded() -> Answer {
    Answer::Refuses(
        400,
        json!({"error": {"type": "invalid_request_error", "code": "context_length_exceeded", "param": "input",
               "message": "Your input exceeds the context window of this model. Please adjust your input and try again."}}),
    )
}

/// Goal: an answer is shown with the usage that the model reported, for one request.
#[test]
fn claude_code_answers() {
    let model = Model::start(vec![Answer::text("hello to you")]);
    let (gateway, home) = (before(&model), Home::new());
    let ended = home.claude(&gateway, "say hello", None);
    assert_claude_done(&ended, "hello to you");
    let usage = &result(&ended)["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&100.into(), &20.into()));
    model.finish(1);
    finish(gateway, home, "messages", &[(200, "complete")]);
}

/// Goal: several calls of tools in one turn are run, their results come back to the model, and the task ends.
#[test]
fn claude_code_works_with_tools() {
    let home = Home::new();
    let write = json!({"file_path": home.path("one.txt"), "content": "made by a tool\n"});
    let shell = json!({"command": "echo made by a shell > two.txt", "description": "write a file"});
    let both = json!({"command": "cat one.txt two.txt", "description": "read both files"});
    let model = Model::start(vec![
        Answer::Items(vec![
            Item::Text("First the files."),
            Item::Call("Write", write),
            Item::Call("Bash", shell),
        ]),
        Answer::Items(vec![Item::Call("Bash", both)]),
        Answer::text("both files are there"),
    ]);
    let gateway = before(&model);
    let ended = home.claude(&gateway, "make two files", None);
    assert_claude_done(&ended, "both files are there");
    assert_eq!(home.read("one.txt"), "made by a tool\n");
    assert_eq!(home.read("two.txt"), "made by a shell\n");
    let last = model.asked()[2]["messages"].to_string();
    assert!(last.contains("made by a tool\\nmade by a shell"), "{last}");
    model.finish(3);
    finish(gateway, home, "messages", &[(200, "complete"); 3]);
}

/// Goal: a model that thinks for longer than the failover time is waited for: one request, one attempt, its answer.
#[test]
fn claude_code_waits_for_a_thinking_model() {
    let model = Model::start(vec![Answer::Thinks(THINKING, "thought at last")]);
    let (gateway, home) = (before(&model), Home::new());
    assert_claude_done(&home.claude(&gateway, "think", None), "thought at last");
    model.finish(1);
    finish(gateway, home, "messages", &[(200, "complete")]);
}

/// Goal: a context that is full is compacted within the turn, and the task goes on with the summary.
#[test]
fn claude_code_compacts_a_full_context() {
    let shell = json!({"command": "echo a line", "description": "say a line"});
    let model = Model::start(vec![
        Answer::Items(vec![Item::Call("Bash", shell)]),
        Answer::text("the first answer"),
        prompt_too_long(),
        Answer::text("<summary>what was said before</summary>"),
        Answer::text("done after all"),
    ]);
    let (gateway, home) = (before(&model), Home::new());
    let first = home.claude(&gateway, "begin", None);
    assert_claude_done(&first, "the first answer");
    let session = result(&first)["session_id"].as_str().unwrap();
    assert_claude_done(&home.claude(&gateway, "go on", Some(session)), "done after all");
    let last = model.asked()[4]["messages"].to_string();
    assert!(last.contains("what was said before"), "{last}");
    model.finish(5);
    let ends = [(200, "complete"), (200, "complete"), (413, "error"), (200, "complete"), (200, "complete")];
    finish(gateway, home, "messages", &ends);
}

/// Goal: an empty balance ends the task at once and is said in words; nothing reaches the upstream.
#[test]
fn claude_code_stops_without_balance() {
    let model = Model::start(Vec::new());
    let priced =
        Config::default().model_with("agents/model", "chat", "price: { input: \"1\", output: \"1\" }");
    let (gateway, home) = (configured(priced, &model).start(), Home::new());
    let ended = home.claude(&gateway, "say hello", None);
    let result = result(&ended);
    assert_eq!(
        (&result["is_error"], &result["api_error_status"]),
        (&true.into(), &402.into()),
        "{}",
        ended.said
    );
    assert!(result["result"].as_str().unwrap().contains("balance"), "{}", ended.said);
    model.finish(0);
    finish(gateway, home, "messages", &[(402, "error")]);
}

/// Goal: an answer that breaks off in mid-stream is asked for again, and the task ends with the whole one.
#[test]
fn claude_code_retries_a_broken_stream() {
    let model = Model::start(vec![Answer::Cut("half of an"), Answer::text("the whole answer")]);
    let (gateway, home) = (before(&model), Home::new());
    assert_claude_done(&home.claude(&gateway, "say hello", None), "the whole answer");
    model.finish(2);
    finish(gateway, home, "messages", &[(200, "broken_mid_stream"), (200, "complete")]);
}

/// Goal: an answer is shown with the usage that the model reported, for one request.
#[test]
fn codex_answers() {
    let model = Model::start(vec![Answer::text("hello to you")]);
    let (gateway, home) = (before(&model), Home::new());
    let ended = home.codex(&gateway, "say hello", None, &[]);
    assert_codex_done(&ended, "hello to you");
    let usage = &ended.event("turn.completed")["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&100.into(), &20.into()));
    model.finish(1);
    finish(gateway, home, "responses", &[(200, "complete")]);
}

/// Goal: several calls of tools in one turn are run, their results come back to the model, and the task ends.
#[test]
fn codex_works_with_tools() {
    let shell = |command: &str| Item::Call("exec_command", json!({"cmd": command}));
    let model = Model::start(vec![
        Answer::Items(vec![
            Item::Text("First the files."),
            shell("echo made by a tool > one.txt"),
            shell("echo made by another > two.txt"),
        ]),
        Answer::Items(vec![shell("cat one.txt two.txt")]),
        Answer::text("both files are there"),
    ]);
    let (gateway, home) = (before(&model), Home::new());
    assert_codex_done(&home.codex(&gateway, "make two files", None, &[]), "both files are there");
    assert_eq!(home.read("one.txt"), "made by a tool\n");
    assert_eq!(home.read("two.txt"), "made by another\n");
    let last = model.asked()[2]["input"].to_string();
    assert!(last.contains("made by a tool\\nmade by another"), "{last}");
    model.finish(3);
    finish(gateway, home, "responses", &[(200, "complete"); 3]);
}

/// Goal: a model that thinks for longer than the failover time is waited for: one request, one attempt, its answer.
#[test]
fn codex_waits_for_a_thinking_model() {
    let model = Model::start(vec![Answer::Thinks(THINKING, "thought at last")]);
    let (gateway, home) = (before(&model), Home::new());
    assert_codex_done(&home.codex(&gateway, "think", None, &[]), "thought at last");
    model.finish(1);
    finish(gateway, home, "responses", &[(200, "complete")]);
}

/// Goal: Codex reads of a full context in the stream, which is the only place where it knows one: it does not try again,
/// and the next turn begins with a compaction.
#[test]
fn codex_compacts_a_full_context() {
    let model = Model::start(vec![
        Answer::text("the first answer"),
        context_window_exceeded(),
        Answer::text("what was said before"),
        Answer::text("done after all"),
    ]);
    let (gateway, home) = (before(&model), Home::new());
    let first = home.codex(&gateway, "begin", None, &[]);
    assert_codex_done(&first, "the first answer");
    let thread = first.event("thread.started")["thread_id"].as_str().unwrap();
    let full = home.codex(&gateway, "go on", Some(thread), &[]);
    let told = full.event("turn.failed")["error"]["message"].as_str().unwrap();
    assert!(told.contains("ran out of room in the model's context window"), "{}", full.said);
    assert_codex_done(&home.codex(&gateway, "go on", Some(thread), &[]), "done after all");
    let asked = model.asked();
    assert!(asked[3]["input"].to_string().contains("what was said before"), "{}", asked[3]["input"]);
    model.finish(4);
    gateway.wait_for("the lines of the log", || gateway.log().len() >= 4);
    assert_eq!(gateway.log()[1]["code"], "context_length_exceeded");
    gateway.count(4);
    gateway.finish();
    home.finish();
}

/// Goal: a websocket is refused with the status after which Codex at once goes on over HTTP.
#[test]
fn codex_falls_back_from_websockets_at_once() {
    let model = Model::start(vec![Answer::text("hello to you")]);
    let (gateway, home) = (before(&model), Home::new());
    let sockets = ["model_providers.gateway.supports_websockets=true"];
    assert_codex_done(&home.codex(&gateway, "say hello", None, &sockets), "hello to you");
    model.finish(1);
    gateway.count(2);
    gateway.wait_for("the lines of the log", || gateway.log().len() >= 2);
    let log = gateway.log();
    let served: Vec<_> = log.iter().map(|line| (line["route"].as_str(), line["status"].as_u64())).collect();
    assert_eq!(served, [(Some("other"), Some(426)), (Some("responses"), Some(200))]);
    gateway.finish();
    home.finish();
}

/// Goal: an empty balance ends the task and is said in words; nothing reaches the upstream.
#[test]
fn codex_stops_without_balance() {
    let model = Model::start(Vec::new());
    let priced =
        Config::default().model_with("agents/model", "chat", "price: { input: \"1\", output: \"1\" }");
    let (gateway, home) = (configured(priced, &model).start(), Home::new());
    let ended = home.codex(&gateway, "say hello", None, &[]);
    let told = ended.event("turn.failed")["error"]["message"].as_str().unwrap();
    assert!(told.contains("402") && told.contains("balance"), "{}", ended.said);
    model.finish(0);
    // Codex takes a 402 for something that passes.
    finish(gateway, home, "responses", &[(402, "error"); 3]);
}

/// Goal: an answer that breaks off in mid-stream is asked for again, and the turn ends with the whole one.
#[test]
fn codex_retries_a_broken_stream() {
    let model = Model::start(vec![Answer::Cut("half of an"), Answer::text("the whole answer")]);
    let (gateway, home) = (before(&model), Home::new());
    assert_codex_done(&home.codex(&gateway, "say hello", None, &[]), "the whole answer");
    model.finish(2);
    finish(gateway, home, "responses", &[(200, "broken_mid_stream"), (200, "complete")]);
}
