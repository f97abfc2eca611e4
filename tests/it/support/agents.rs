//! Coding agents as child processes, and an upstream that plays the model for them.
//!
//! Every agent has a home, a configuration and a working folder of its own in a temporary directory. Its proxy is a
//! listener of the test, so that a connection to anything but loopback is noticed.

use super::scripted::{self, Act};
use super::{Gateway, KEY};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const BINARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/node_modules/.bin");
/// Longest run of an agent, in seconds.
const RUN_MAX: &str = "90";

/// One output item of the model.
#[derive(Clone)]
pub(crate) enum Item {
    Text(&'static str),
    /// A call of a tool with its arguments.
    Call(&'static str, Value),
}

/// One answer of the model.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A complete stream of these items.
    Items(Vec<Item>),
    /// A stream that shows life for this long before its content, as thinking models do.
    Thinks(Duration, &'static str),
    /// A stream whose connection closes after this text.
    Cut(&'static str),
    /// A JSON error.
    Refuses(u16, Value),
}

impl Answer {
    pub(crate) fn text(text: &'static str) -> Self {
        Self::Items(vec![Item::Text(text)])
    }
}

/// An upstream that gives its answers in order, in the API in which it is asked.
pub(crate) struct Model {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
    left: Arc<Mutex<VecDeque<Answer>>>,
}

impl Model {
    /// Starts it; what is asked beyond its answers is 500.
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        let left = Arc::new(Mutex::new(VecDeque::from(answers)));
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let answers = Arc::clone(&left);
        let addr = scripted::start(move |request| {
            let body: Value = serde_json::from_slice(&request.body).expect("a JSON request");
            seen.lock().unwrap().push(body);
            let next = answers.lock().unwrap().pop_front();
            let next =
                next.unwrap_or_else(|| Answer::Refuses(500, json!({"error": {"message": "too much"}})));
            match request.head.contains("/messages") {
                true => Messages.acts(&next),
                false => Responses.acts(&next),
            }
        });
        Self { addr, asked, left }
    }

    /// The bodies of the requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// Holds that every answer was asked for, and nothing beyond.
    pub(crate) fn finish(&self, answers: usize) {
        assert_eq!(self.left.lock().unwrap().len(), 0, "answers that were not asked for");
        assert_eq!(self.asked.lock().unwrap().len(), answers, "requests at the upstream");
    }
}

/// The streams of one API.
trait Language {
    /// The event that opens a stream.
    fn opening(&self) -> Vec<Value>;
    /// An event that shows life and no content.
    fn life(&self) -> Value;
    fn item(&self, index: usize, item: &Item) -> Vec<Value>;
    fn closing(&self, items: &[Item]) -> Vec<Value>;

    fn acts(&self, answer: &Answer) -> Vec<Act> {
        let mut acts = vec![scripted::chunked(200, &[("content-type".into(), "text/event-stream".into())])];
        acts.extend(self.opening().iter().map(event));
        match answer {
            Answer::Items(items) => acts.extend(self.content(items)),
            Answer::Thinks(time, text) => {
                const BEAT: Duration = Duration::from_millis(250);
                for _ in 0..time.div_duration_f64(BEAT) as usize {
                    acts.extend([event(&self.life()), Act::Wait(BEAT)]);
                }
                acts.extend(self.content(&[Item::Text(text)]));
            }
            Answer::Cut(text) => {
                acts.extend(self.item(0, &Item::Text(text)).iter().map(event));
                acts.push(Act::Close);
            }
            Answer::Refuses(status, body) => {
                let json = [("content-type".to_owned(), "application/json".to_owned())];
                return scripted::whole(*status, &json, body.to_string().as_bytes());
            }
        }
        acts
    }

    fn content(&self, items: &[Item]) -> Vec<Act> {
        let content = items.iter().enumerate().flat_map(|(index, item)| self.item(index, item));
        let mut acts: Vec<_> = content.chain(self.closing(items)).map(|value| event(&value)).collect();
        acts.push(scripted::chunk(b""));
        acts
    }
}

fn event(data: &Value) -> Act {
    scripted::chunk(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()).as_bytes())
}

/// A number that makes ids unique.
fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    GIVEN.fetch_add(1, Ordering::Relaxed)
}

struct Messages;

impl Language for Messages {
    fn opening(&self) -> Vec<Value> {
        vec![json!({"type": "message_start", "message": {
            "id": format!("msg_{}", serial()), "type": "message", "role": "assistant", "model": "upstream",
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 100, "output_tokens": 1}
        }})]
    }

    fn life(&self) -> Value {
        json!({"type": "ping"})
    }

    fn item(&self, index: usize, item: &Item) -> Vec<Value> {
        let (block, delta) = match item {
            Item::Text(text) => {
                (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}))
            }
            Item::Call(tool, arguments) => (
                json!({"type": "tool_use", "id": format!("toolu_{}", serial()), "name": tool, "input": {}}),
                json!({"type": "input_json_delta", "partial_json": arguments.to_string()}),
            ),
        };
        vec![
            json!({"type": "content_block_start", "index": index, "content_block": block}),
            json!({"type": "content_block_delta", "index": index, "delta": delta}),
            json!({"type": "content_block_stop", "index": index}),
        ]
    }

    fn closing(&self, items: &[Item]) -> Vec<Value> {
        let calls = items.iter().any(|item| matches!(item, Item::Call(..)));
        let reason = if calls { "tool_use" } else { "end_turn" };
        vec![
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
                   "usage": {"output_tokens": 20}}),
            json!({"type": "message_stop"}),
        ]
    }
}

struct Responses;

impl Responses {
    fn response(status: &str, output: &[Value], usage: Value) -> Value {
        json!({"id": "resp_upstream", "object": "response", "created_at": 1, "model": "upstream",
               "status": status, "output": output, "usage": usage, "error": null})
    }

    fn output(item: &Item) -> Value {
        match item {
            Item::Text(text) => json!({
                "type": "message", "id": format!("msg_{}", serial()), "role": "assistant",
                "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]
            }),
            Item::Call(tool, arguments) => json!({
                "type": "function_call", "id": format!("fc_{}", serial()), "status": "completed",
                "call_id": format!("call_{}", serial()), "name": tool, "arguments": arguments.to_string()
            }),
        }
    }
}

impl Language for Responses {
    fn opening(&self) -> Vec<Value> {
        vec![json!({"type": "response.created", "sequence_number": 0,
                    "response": Self::response("in_progress", &[], Value::Null)})]
    }

    fn life(&self) -> Value {
        json!({"type": "response.in_progress", "sequence_number": 1,
               "response": Self::response("in_progress", &[], Value::Null)})
    }

    fn item(&self, index: usize, item: &Item) -> Vec<Value> {
        let output = Self::output(item);
        let mut begun = output.clone();
        begun["status"] = "in_progress".into();
        let mut events = vec![
            json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": index, "item": begun}),
        ];
        if let Item::Text(text) = item {
            events.push(
                json!({"type": "response.output_text.delta", "sequence_number": 3, "output_index": index,
                               "item_id": output["id"], "content_index": 0, "delta": text}),
            );
        }
        events.push(json!({"type": "response.output_item.done", "sequence_number": 4, "output_index": index,
                           "item": output}));
        events
    }

    fn closing(&self, items: &[Item]) -> Vec<Value> {
        let output: Vec<_> = items.iter().map(Self::output).collect();
        let usage = json!({"input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
                           "input_tokens_details": {"cached_tokens": 0},
                           "output_tokens_details": {"reasoning_tokens": 0}});
        vec![json!({"type": "response.completed", "sequence_number": 5,
                    "response": Self::response("completed", &output, usage)})]
    }
}

/// The folders of one agent, and the trap for what leaves loopback.
pub(crate) struct Home {
    folder: TempDir,
    trap: TcpListener,
}

/// The end of an agent.
pub(crate) struct Ended {
    pub(crate) success: bool,
    /// Every line of JSON on its standard output.
    pub(crate) events: Vec<Value>,
    /// Both outputs, for messages.
    pub(crate) said: String,
}

impl Ended {
    /// The last event of a type.
    pub(crate) fn event(&self, kind: &str) -> &Value {
        let found = self.events.iter().rev().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no event {kind}: {}", self.said))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        let trap = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        trap.set_nonblocking(true).unwrap();
        Self { folder, trap }
    }

    /// A path in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// The text of a file in the working folder.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Claude Code without a terminal, with one prompt; `session` goes on with an earlier one.
    pub(crate) fn claude(&self, gateway: &Gateway, prompt: &str, session: Option<&str>) -> Ended {
        let mut command = self.command("claude");
        command
            .env("CLAUDE_CONFIG_DIR", self.folder.path().join("claude"))
            .env("ANTHROPIC_BASE_URL", format!("http://{}", gateway.public))
            .env("ANTHROPIC_AUTH_TOKEN", KEY)
            .env("ANTHROPIC_MODEL", "agents/model")
            .env("ANTHROPIC_DEFAULT_HAIKU_MODEL", "agents/model")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_TELEMETRY", "1")
            .env("DISABLE_ERROR_REPORTING", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .args(["--print", prompt, "--output-format", "stream-json", "--verbose"])
            .args(["--allowedTools", "Write", "Bash", "Read"]);
        if let Some(session) = session {
            command.args(["--resume", session]);
        }
        run(command)
    }

    /// Codex without a terminal, with one prompt; `thread` goes on with an earlier one, `more` is further configuration.
    pub(crate) fn codex(
        &self,
        gateway: &Gateway,
        prompt: &str,
        thread: Option<&str>,
        more: &[&str],
    ) -> Ended {
        let home = self.folder.path().join("codex");
        std::fs::create_dir_all(&home).unwrap();
        let provider = format!(
            "model_providers.gateway={{ name = \"gateway\", base_url = \"http://{}/v1\", env_key = \"GATEWAY_KEY\", \
             wire_api = \"responses\", request_max_retries = 2, stream_max_retries = 2 }}",
            gateway.public
        );
        let mut command = self.command("codex");
        command.env("CODEX_HOME", home).env("GATEWAY_KEY", KEY).arg("exec");
        if thread.is_some() {
            command.arg("resume");
        }
        command.args(["--skip-git-repo-check", "--json", "--model", "agents/model"]);
        let settings = [
            "model_provider=\"gateway\"",
            "approval_policy=\"never\"",
            "sandbox_mode=\"danger-full-access\"",
            "check_for_update_on_startup=false",
            "analytics.enabled=false",
            "feedback.enabled=false",
            // Both are fetched from elsewhere.
            "features.plugins=false",
            "features.apps=false",
            "otel.metrics_exporter=\"none\"",
            &provider,
        ];
        for setting in settings.iter().chain(more) {
            command.args(["--config", setting]);
        }
        command.args(thread);
        command.arg(prompt);
        run(command)
    }

    /// A program in the working folder that knows this home alone.
    fn command(&self, program: &str) -> Command {
        let program = Path::new(BINARIES).join(program);
        assert!(program.exists(), "{}: install the clients with: make clients", program.display());
        let proxy = format!("http://{}", self.trap.local_addr().unwrap());
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", RUN_MAX]).arg(program).current_dir(self.path(""));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("TMPDIR", self.folder.path());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env(name, &proxy);
        }
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command
    }

    /// Holds that nothing was sent beyond loopback.
    pub(crate) fn finish(self) {
        let caught = self.trap.accept().map(|(_, from)| from).ok();
        assert!(caught.is_none(), "a connection that would have left loopback");
    }
}

fn run(mut command: Command) -> Ended {
    command.stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let events = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ended { success: output.status.success(), events, said: format!("{}\n{told}{complaints}", output.status) }
}
