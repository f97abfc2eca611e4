//! What the tests drive: the real binary as a process, the sandbox as its upstream, and a client that owns its bytes.
//!
//! [`Gateway::finish`] is the end of every test: permits and gauges are back, and the requests counted are the requests
//! sent are the lines logged.

pub(crate) mod agents;
pub(crate) mod browser;
pub(crate) mod http;
pub(crate) mod kernel;
pub(crate) mod money;
pub(crate) mod scripted;

use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate::config::mint;
use tidegate::sandbox::{self, Stats};
use tidegate::telemetry::access_log::QUEUE_MAX;

/// The key of all tests.
pub(crate) const KEY: &str = "key-of-the-tests-0123456789";

/// Lines of a gateway's diagnostics that a failed test prints at most.
const SHOWN_LINES: usize = 200;

/// A sandbox in a thread of its own.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) stats: Arc<Stats>,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sandbox = runtime.block_on(sandbox::bind(([127, 0, 0, 1], 0).into())).unwrap();
        let (addr, stats) = (sandbox.addr(), sandbox.stats());
        runtime.spawn(sandbox.run());
        Self { addr, stats, _runtime: runtime }
    }
}

/// A gateway in a process of its own.
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    /// The other lines of its output, on standard output and standard error; printed if the test fails.
    said: Arc<Mutex<Vec<String>>>,
    sent: AtomicU64,
    /// Requests that earlier processes counted.
    earlier: f64,
    folder: PathBuf,
    /// Removes the folder at the end, unless it is the test's.
    kept: Option<TempDir>,
}

/// Whether the tests may take as long as they need (`make test-long`).
pub(crate) fn is_long() -> bool {
    std::env::var_os("TIDEGATE_LONG").is_some()
}

/// An address that was free a moment ago, and that no other test of this process was given.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        if GIVEN.lock().unwrap().insert(address.port()) {
            return address;
        }
    }
}

/// The configuration of a gateway, but for its listeners.
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) server: String,
    pub(crate) models: Vec<String>,
    pub(crate) channels: Vec<String>,
    pub(crate) key_limits: String,
    /// Further members of `admin`, each after a comma.
    pub(crate) admin: String,
    pub(crate) account: String,
    pub(crate) accounts: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) rest: String,
    /// The section `defaults`; by default failover is not bounded over all requests, so that a test can have many.
    pub(crate) defaults: Option<String>,
}

impl Config {
    /// A model of this id and kind that costs nothing.
    pub(crate) fn model(self, id: &str, kind: &str) -> Self {
        self.model_with(id, kind, "free: true")
    }

    /// A model of this id and kind; `more` are further members, such as its price.
    pub(crate) fn model_with(mut self, id: &str, kind: &str, more: &str) -> Self {
        self.models.push(format!("  - {{ id: \"{id}\", kind: {kind}, {more} }}\n"));
        self
    }

    /// Members of the account of the tests' keys, as `credit: \"5\"`.
    pub(crate) fn account(mut self, members: &str) -> Self {
        self.account = format!(", {members}");
        self
    }

    /// A channel at `addr` that serves these models under these upstream names; `more` are further members.
    pub(crate) fn channel(mut self, id: &str, addr: SocketAddr, models: &[(&str, &str)], more: &str) -> Self {
        let models: Vec<_> =
            models.iter().map(|(public, name)| format!("\"{public}\": \"{name}\"")).collect();
        self.channels.push(format!(
            "  - {{ id: {id}, provider: openai_compatible, base_url: \"http://{addr}/v1\", \
             credentials: [{{ value: credential-of-{id} }}], models: {{ {} }}{more} }}\n",
            models.join(", ")
        ));
        self
    }

    /// For each model a channel of its own, so that what one does to its channel does not concern the others.
    pub(crate) fn channel_each(
        self,
        prefix: &str,
        addr: SocketAddr,
        models: &[(&str, &str)],
        more: &str,
    ) -> Self {
        models.iter().enumerate().fold(self, |config, (index, served)| {
            config.channel(&format!("{prefix}-{index}"), addr, &[*served], more)
        })
    }

    /// Limits of the tests' key, as `rpm: 3, concurrency: 2`.
    pub(crate) fn limits(mut self, limits: &str) -> Self {
        self.key_limits = limits.to_owned();
        self
    }

    /// A further key; `more` are further members, which may name another account.
    pub(crate) fn key(mut self, id: &str, key: &str, more: &str) -> Self {
        let digest = mint::digest_text(&mint::digest(key));
        let account = if more.contains("account:") { "" } else { ", account: acme" };
        self.keys.push(format!("  - {{ id: {id}{account}, digest: \"{digest}\"{more} }}\n"));
        self
    }

    /// A further account.
    pub(crate) fn further_account(mut self, id: &str, members: &str) -> Self {
        self.accounts.push(format!(", {{ id: {id}, {members} }}"));
        self
    }

    /// Members of `server`, each on a line of its own.
    pub(crate) fn server(mut self, members: &str) -> Self {
        self.server = members.to_owned();
        self
    }

    /// The text of the file.
    pub(crate) fn text(&self, public: SocketAddr, admin: SocketAddr) -> String {
        let digest = mint::digest_text(&mint::digest(KEY));
        let limits = match self.key_limits.as_str() {
            "" => String::new(),
            limits => format!(", limits: {{ {limits} }}"),
        };
        format!(
            "version: 1\nserver:\n  listen: [\"{public}\"]\n{}{}\nadmin: {{ listen: \"{admin}\"{} }}\n{}{}\
             models:\n{}channels:\n{}accounts: [{{ id: acme{} }}{}]\n\
             keys:\n  - {{ id: tests, account: acme, digest: \"{digest}\"{limits} }}\n{}",
            if self.server.contains("threads:") { "" } else { "  threads: 2\n" },
            self.server,
            self.admin,
            self.defaults.as_deref().unwrap_or("defaults: { retry: { budget_ratio: 10 } }\n"),
            self.rest,
            self.models.concat(),
            self.channels.concat(),
            self.account,
            self.accounts.concat(),
            self.keys.concat(),
        )
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = self.start_in(folder.path());
        gateway.kept = Some(folder);
        gateway
    }

    /// The same in this folder, where a gateway before it may have left its store.
    pub(crate) fn start_in(&self, folder: &Path) -> Gateway {
        self.start_by(program(), folder)
    }

    /// The same by this command, which takes the arguments of the gateway.
    pub(crate) fn start_by(&self, command: Command, folder: &Path) -> Gateway {
        let (public, admin) = (free_address(), free_address());
        std::fs::write(folder.join("tidegate.yaml"), self.text(public, admin)).unwrap();
        let (log, said) = (Arc::default(), Arc::default());
        let child = run(command, folder, &log, &said);
        let (sent, folder) = (AtomicU64::new(0), folder.to_owned());
        let gateway = Gateway { public, admin, child, log, said, sent, earlier: 0.0, folder, kept: None };
        gateway.wait_until_ready();
        gateway
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
}

/// Starts a process with the configuration of a folder.
fn run(
    mut command: Command,
    folder: &Path,
    log: &Arc<Mutex<Vec<Value>>>,
    said: &Arc<Mutex<Vec<String>>>,
) -> Child {
    let mut child = command
        .args(["run", "--log-level", "warn", "-c"])
        .arg(folder.join("tidegate.yaml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    collect_output(&mut child, log, said);
    child
}

/// Collects the access log of a process and the other lines of its output, in a thread for each stream.
fn collect_output(child: &mut Child, log: &Arc<Mutex<Vec<Value>>>, said: &Arc<Mutex<Vec<String>>>) {
    let access_log = Arc::clone(log);
    let other_lines = Arc::clone(said);
    for_each_line(child.stdout.take().unwrap(), move |line| {
        // A process that is killed may leave half a line.
        if line.starts_with('{') && line.ends_with('}') {
            access_log.lock().unwrap().push(serde_json::from_str(&line).expect("a line of the log is JSON"));
        } else {
            other_lines.lock().unwrap().push(line);
        }
    });
    let diagnostics = Arc::clone(said);
    for_each_line(child.stderr.take().unwrap(), move |line| diagnostics.lock().unwrap().push(line));
}

/// Calls `take` with every line of a stream, in a thread of its own.
fn for_each_line(stream: impl Read + Send + 'static, take: impl Fn(String) + Send + 'static) {
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(take));
}

impl Gateway {
    fn wait_until_ready(&self) {
        self.wait_for("readiness", || {
            http::get(self.admin, "/readyz").is_some_and(|reply| reply.status == 200)
        });
        self.wait_for("the listener", || std::net::TcpStream::connect(self.public).is_ok());
    }

    /// Starts another process that takes the place of this one, and waits until this one has ended.
    pub(crate) fn upgrade(&mut self) {
        let mut program = program();
        let mut next = program.args(["run", "--upgrade", "--log-level", "info", "-c"]);
        next = next.arg(self.folder.join("tidegate.yaml")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut next = next.spawn().unwrap();
        collect_output(&mut next, &self.log, &self.said);
        self.wait_for("the new process", || self.store().join("listeners.sock").exists());
        self.signal("QUIT");
        let mut old = std::mem::replace(&mut self.child, next);
        let ended = old.wait().unwrap();
        assert!(ended.success(), "{ended}");
        self.wait_until_ready();
    }

    /// The folder of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Puts another configuration into the file of this gateway.
    pub(crate) fn rewrite(&self, config: &Config) {
        self.rewrite_text(&config.text(self.public, self.admin));
    }

    /// The same, with any text.
    pub(crate) fn rewrite_text(&self, text: &str) {
        std::fs::write(self.folder.join("tidegate.yaml"), text).unwrap();
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Memory of the process that is in use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// Ends the process as a signal would, and starts another one with the same store.
    pub(crate) fn restart(&mut self) {
        let sent = self.sent.load(Ordering::Relaxed) as f64;
        self.wait_for("all to be counted", || self.earlier + self.sum("tidegate_requests_total") == sent);
        self.earlier = sent;
        self.signal("INT");
        assert!(self.child.wait().is_ok());
        self.child = run(program(), &self.folder, &self.log, &self.said);
        self.wait_until_ready();
    }

    /// Asks the admin listener as an operator.
    pub(crate) fn operate(&self, method: &str, path: &str, token: &str, body: &str) -> http::Reply {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            self.admin,
            body.len()
        );
        http::exchange(self.admin, request.as_bytes()).unwrap()
    }

    /// Sends a call with the tests' key and reads the whole answer.
    pub(crate) fn post(&self, path: &str, body: &str) -> http::Reply {
        self.post_with(path, body, "")
    }

    /// The same with further header lines, each ended.
    pub(crate) fn post_with(&self, path: &str, body: &str, headers: &str) -> http::Reply {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        self.raw(request.as_bytes())
    }

    /// A chat call of a model.
    pub(crate) fn chat(&self, model: &str, stream: bool) -> http::Reply {
        self.post("/v1/chat/completions", &chat_body(model, stream))
    }

    /// Sends bytes as they are, as one request.
    pub(crate) fn raw(&self, request: &[u8]) -> http::Reply {
        self.count(1);
        http::exchange(self.public, request).expect("an answer")
    }

    /// Notes requests that were sent otherwise.
    pub(crate) fn count(&self, requests: u64) {
        self.sent.fetch_add(requests, Ordering::Relaxed);
    }

    /// The log's line on a request.
    pub(crate) fn log_of(&self, request_id: &str) -> Value {
        let mut found = None;
        self.wait_for("a log line", || {
            let log = self.log.lock().unwrap();
            found = log.iter().find(|line| line["request_id"] == request_id).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// All lines so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of its output other than the access log that contain these words.
    pub(crate) fn lines_saying(&self, words: &str) -> Vec<String> {
        self.said.lock().unwrap().iter().filter(|line| line.contains(words)).cloned().collect()
    }

    /// Whether a line of its output other than the access log, on either stream, contains these words.
    pub(crate) fn said(&self, words: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(words))
    }

    /// Every series by its name and labels.
    pub(crate) fn metrics(&self) -> HashMap<String, f64> {
        let text = http::get(self.admin, "/metrics").expect("metrics").text();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    /// The sum over all series of a family.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        let of_family = |name: &str| name.split('{').next() == Some(family);
        self.metrics().into_iter().filter(|(name, _)| of_family(name)).map(|(_, value)| value).sum()
    }

    pub(crate) fn wait_for(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reached() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of a test: everything is back, and everything was counted (spec 6.3, 13.2).
    pub(crate) fn finish(mut self) {
        for gauge in ["tidegate_in_flight", "tidegate_channel_in_flight", "tidegate_connections"] {
            self.wait_for(gauge, || self.sum(gauge) == 0.0);
        }
        let sent = self.sent.load(Ordering::Relaxed);
        let counted = self.earlier + self.sum("tidegate_requests_total");
        assert_eq!(counted, sent as f64, "requests counted against requests sent");
        // What the log's queue had no place for is counted, and that can only be where there were more than it holds.
        let dropped = || self.sum("tidegate_access_log_dropped_total") as u64;
        let lines = || self.log.lock().unwrap().len() as u64;
        self.wait_for("all lines of the log", || lines() + dropped() >= sent);
        assert_eq!(lines() + dropped(), sent, "lines of the log, and those dropped, against requests sent");
        assert!(dropped() == 0 || sent > QUEUE_MAX as u64, "{} lines dropped", dropped());
        assert_eq!(self.sum("tidegate_panics_total"), 0.0);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    /// Prints the last lines of the gateway's diagnostics into the output of the failed test.
    fn show_diagnostics(&self) {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let first = said.len().saturating_sub(SHOWN_LINES);
        if first > 0 {
            eprintln!("({first} earlier lines of the gateway are left out)");
        }
        for line in &said[first..] {
            eprintln!("gateway {}: {line}", self.public);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.show_diagnostics();
        }
    }
}

/// The body of a chat call.
pub(crate) fn chat_body(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#)
}
