//! The operator's alerts in a real Prometheus with the rules as they are shipped: they fire when they should, and end.

use crate::support::{Config, Gateway, free_address, http, scripted};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TOKEN: &str = "token-of-the-operator";
const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;
const FILES: [&str; 3] = ["prometheus.yml", "recording.rules.yml", "alerts.rules.yml"];

/// A Prometheus that watches one gateway.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with the files of `deploy/prometheus`, all of whose times are divided by `faster`.
    fn watch(gateway: &Gateway, faster: u32) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        for name in FILES {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(name);
            let text = std::fs::read_to_string(shipped).unwrap();
            let text = text.replace("gateway:9090", &gateway.admin.to_string());
            let text = text.replace("localhost:9090", &address.to_string());
            std::fs::write(folder.path().join(name), sooner(&text, faster)).unwrap();
        }
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join(FILES[0]).display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is needed: on Debian, apt-get install prometheus");
        let prometheus = Self { address, child, _folder: folder };
        let ready = || prometheus.get("/-/ready").is_some_and(|reply| reply.status == 200);
        wait("Prometheus", Duration::from_secs(60), ready);
        prometheus
    }

    fn get(&self, path: &str) -> Option<http::Reply> {
        std::net::TcpStream::connect(self.address).ok()?;
        http::get(self.address, path)
    }

    /// The labels of the alerts of this name that fire.
    fn firing(&self, name: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/alerts").map(|reply| reply.json()).unwrap_or_default();
        let all = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = all.into_iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"].clone()).filter(|labels| labels["alertname"] == name).collect()
    }

    /// Waits until an alert fires, or does not fire any more; how long it took.
    fn wait_for(&self, name: &str, fires: bool, at_most: Duration) -> Duration {
        let began = Instant::now();
        wait(&format!("{name}: {fires}"), at_most, || self.firing(name).is_empty() != fires);
        began.elapsed()
    }

    /// How many scrapes of the gateway there were.
    fn scrapes(&self) -> usize {
        let query = "/api/v1/query?query=count_over_time(up%7Bjob%3D%22tidegate%22%7D%5B1h%5D)";
        let answer = self.get(query).map(|reply| reply.json()).unwrap_or_default();
        answer["data"]["result"][0]["value"][1].as_str().and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(what: &str, at_most: Duration, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Rules and configuration whose windows, offsets, intervals and waits are divided by `faster`.
fn sooner(text: &str, faster: u32) -> String {
    if faster == 1 {
        return text.to_owned();
    }
    let mut rest = text;
    let mut out = String::new();
    let begins = ["[", "for: ", "offset ", "_interval: "];
    while let Some((at, begin)) =
        begins.iter().filter_map(|begin| Some((rest.find(begin)?, begin.len()))).min()
    {
        let (before, after) = rest.split_at(at + begin);
        out.push_str(before);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let unit = match after[digits..].chars().next() {
            Some('s') => 1_000,
            Some('m') => 60_000,
            Some('h') => 3_600_000,
            _ => 0,
        };
        let Some(count) = after[..digits].parse::<u32>().ok().filter(|_| unit > 0) else {
            rest = after;
            continue;
        };
        write!(out, "{}ms", (count * unit / faster).max(1)).unwrap();
        rest = &after[digits + 1..];
    }
    out + rest
}

/// Calls a model until the test says so; the answers do not matter.
fn call(gateway: &Gateway, model: &str, every: Duration, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let _ = gateway.chat(model, false);
        std::thread::sleep(every);
    }
}

/// Stops the calls also when the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goal: a total outage is told within a minute of its begin, by the requests and by the channels, while `/readyz` stays 200; and
/// no alert outlives it. Method: the files as they are shipped, with their own times.
#[test]
fn a_total_outage_is_told_within_a_minute() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let upstream = scripted::start(move |_| match is_broken.load(Ordering::Relaxed) {
        true => scripted::whole(500, &[], b"oops"),
        false => scripted::whole(200, &[], GOOD.as_bytes()),
    });
    let channels = ["a", "b", "c", "d"];
    let config = channels.iter().fold(Config::default().model("m/x", "chat"), |config, id| {
        config.channel(id, upstream, &[("m/x", "x")], "")
    });
    let gateway = config.start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = Done(&done);
        scope.spawn(|| call(&gateway, "m/x", Duration::from_millis(100), done.0));
        let prometheus = Prometheus::watch(&gateway, 1);
        wait("two scrapes", Duration::from_secs(60), || prometheus.scrapes() >= 2);
        let names = ["TidegateOutage", "TidegateNoChannelUp"];
        assert!(names.iter().all(|name| prometheus.firing(name).is_empty()));

        broken.store(true, Ordering::Relaxed);
        let began = Instant::now();
        prometheus.wait_for("TidegateOutage", true, Duration::from_secs(60));
        prometheus.wait_for(
            "TidegateNoChannelUp",
            true,
            Duration::from_secs(75).saturating_sub(began.elapsed()),
        );
        assert_eq!(prometheus.firing("TidegateOutage")[0]["severity"], "critical");
        let ready = http::get(gateway.admin, "/readyz").unwrap();
        assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));

        broken.store(false, Ordering::Relaxed);
        for name in names {
            prometheus.wait_for(name, false, Duration::from_secs(75));
        }
    });
    gateway.finish();
}

/// Goal: a refused credential is told for as long as it is away, beyond the quarter of an hour in which its refusals are news, though
/// another one serves; and no longer. Method: the rules with all times a thirtieth.
#[test]
fn a_refused_credential_is_told_until_it_is_back() {
    let refuses = Arc::new(AtomicBool::new(true));
    let is_refusing = Arc::clone(&refuses);
    let upstream = scripted::start(move |asked| {
        match is_refusing.load(Ordering::Relaxed) && asked.head.contains("bearer bad") {
            true => scripted::whole(401, &[], br#"{"error":{"code":"invalid_api_key"}}"#),
            false => scripted::whole(200, &[], GOOD.as_bytes()),
        }
    });
    let mut config = Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model("m/x", "chat")
        .channel("pool", upstream, &[("m/x", "x")], "")
        .channel("spare", upstream, &[("m/x", "x")], ", priority: 1");
    config.channels[0] =
        config.channels[0].replace("{ value: credential-of-pool }", "{ value: good }, { value: bad }");
    let gateway = config.start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = Done(&done);
        scope.spawn(|| call(&gateway, "m/x", Duration::from_millis(50), done.0));
        let prometheus = Prometheus::watch(&gateway, 30);
        prometheus.wait_for("TidegateCredentialOut", true, Duration::from_secs(20));
        let labels = &prometheus.firing("TidegateCredentialOut")[0];
        assert_eq!((&labels["channel"], &labels["credential"]), (&"pool".into(), &"2".into()), "{labels}");
        // Sixteen minutes of Prometheus' own.
        let until = Instant::now() + Duration::from_secs(32);
        while Instant::now() < until {
            assert!(
                !prometheus.firing("TidegateCredentialOut").is_empty(),
                "it ended while the credential is away"
            );
            std::thread::sleep(Duration::from_millis(250));
        }
        refuses.store(false, Ordering::Relaxed);
        assert_eq!(gateway.operate("POST", "/channels/pool/readmit", TOKEN, "").status, 200);
        prometheus.wait_for("TidegateCredentialOut", false, Duration::from_secs(20));
    });
    gateway.finish();
}
