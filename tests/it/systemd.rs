//! What a service manager is told (spec 12.3), by the protocol of systemd, and that no upgrade that fails does any harm.

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, free_address, http};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A gateway, and what its service manager hears.
struct Unit {
    gateway: Gateway,
    socket: UnixDatagram,
    upstream: Upstream,
    folder: TempDir,
}

/// Models that cost a cent, one of which takes three seconds.
fn config(upstream: SocketAddr) -> Config {
    let price = r#"price: { request: "0.01" }"#;
    Config::default()
        .model_with("m/x", "chat", price)
        .model_with("m/long", "chat", price)
        .channel("c", upstream, &[("m/x", "x"), ("m/long", "x+chunks=30+chunk-delay=100")], "")
        .account("credit: \"1000\"")
        .server("  drain: 100ms\n  grace: 60s")
}

impl Unit {
    fn start() -> Self {
        let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env("NOTIFY_SOCKET", folder.path().join("notify"));
        let gateway = config(upstream.addr).start_by(command, folder.path());
        let unit = Self { gateway, socket, upstream, folder };
        assert_eq!(unit.heard(), "READY=1\nSTATUS=serving\n");
        unit
    }

    /// The next thing that the service manager hears.
    fn heard(&self) -> String {
        let mut message = [0; 4_096];
        let length = self.socket.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Asks for an upgrade that does not come about; the reason that is told.
    fn fails(&self, signal: &str) -> String {
        self.gateway.signal(signal);
        let heard = self.heard();
        let why = heard.strip_prefix("STATUS=serving; the last upgrade failed: ");
        let why = why.unwrap_or_else(|| panic!("{heard}")).trim_end().to_owned();
        assert_eq!(self.gateway.chat("m/x", false).status, 200, "{why}");
        assert_eq!(http::get(self.gateway.admin, "/readyz").unwrap().status, 200, "{why}");
        why
    }

    /// Upgrades by SIGUSR2; the number of the process that has taken over.
    fn upgrade(&self) -> u32 {
        self.gateway.signal("USR2");
        let heard = self.heard();
        let number = heard.strip_prefix("MAINPID=").unwrap_or_else(|| panic!("{heard}"));
        let number = number.trim_end().parse().unwrap();
        assert_ne!(number, self.gateway.child.id());
        assert_eq!(
            self.heard(),
            "READY=1\nSTATUS=serving\n",
            "by the new one, which is the main process now"
        );
        number
    }

    /// The end of the first process.
    fn exit_code(&mut self) -> Option<i32> {
        self.gateway.child.wait().unwrap().code()
    }

    /// Ends a process that took over, and waits until it is gone.
    fn end(&self, number: u32) {
        kill("TERM", number);
        assert_eq!(self.heard(), "STOPPING=1\n");
        self.gateway.wait_for("the end", || http::get(self.gateway.admin, "/livez").is_none());
        self.gateway.wait_for("the ledger", || tidegate::store::verify(&self.gateway.store()) == Ok(vec![]));
    }
}

fn kill(signal: &str, number: u32) {
    let killed = Command::new("kill").args([&format!("-{signal}"), &number.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// A paid call; whether it is answered to its end.
fn ask(public: SocketAddr, model: &str, stream: bool) -> bool {
    let body = chat_body(model, stream);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let reply = http::exchange(public, format!("{head}{body}").as_bytes());
    reply.is_some_and(|r| r.status == 200 && r.complete && (!stream || r.text().contains("[DONE]")))
}

/// Goal: a service manager hears of readiness, of the new main process from the old one, of its readiness from itself, and of
/// the end; the load meanwhile, with streams that outlast the upgrade, fails nowhere, and the old process ends with code 0.
/// While it has requests, the new one neither is replaced nor ends before it.
#[test]
fn an_upgrade_under_load_is_told_and_fails_nothing() {
    let mut unit = Unit::start();
    let (public, done, asked) = (unit.gateway.public, AtomicBool::new(false), AtomicU64::new(0));
    let number = std::thread::scope(|scope| {
        let streams = [(); 2].map(|()| scope.spawn(|| ask(public, "m/long", true)));
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(ask(public, "m/x", false), "request {asked:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let streaming = || unit.gateway.sum("tidegate_channel_in_flight") >= 2.0;
        unit.gateway.wait_for("the streams", streaming);
        let number = unit.upgrade();
        kill("USR2", number);
        let heard = unit.heard();
        assert!(heard.contains("the process before this one still finishes its requests"), "{heard}");
        assert_eq!(streams.map(|stream| stream.join().unwrap()), [true, true]);
        std::thread::sleep(Duration::from_secs(1));
        done.store(true, Ordering::Relaxed);
        number
    });
    assert_eq!(unit.exit_code(), Some(0));
    assert!(asked.load(Ordering::Relaxed) > 20, "{asked:?}");
    assert!(ask(public, "m/x", false));
    unit.end(number);
}

/// Goal: the new process, told to end while the old one has a stream, waits for it, because a service manager kills whatever is
/// left when the main process ends.
#[test]
fn a_stop_right_after_an_upgrade_cuts_nothing() {
    let mut unit = Unit::start();
    let public = unit.gateway.public;
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| ask(public, "m/long", true));
        unit.gateway.wait_for("the stream", || unit.gateway.sum("tidegate_channel_in_flight") == 1.0);
        let number = unit.upgrade();
        kill("TERM", number);
        assert_eq!(unit.heard(), "STOPPING=1\n");
        assert!(stream.join().unwrap());
        let alive = Path::new("/proc").join(number.to_string()).join("exe").exists();
        assert!(alive || unit.gateway.child.try_wait().unwrap().is_some(), "the new one ended first");
    });
    assert_eq!(unit.exit_code(), Some(0));
    unit.gateway.wait_for("the end", || http::get(unit.gateway.admin, "/livez").is_none());
}

/// Goal: when the new process dies while the old one still finishes, the old one gets the ledger back, and its stream comes to its
/// end and is charged. The new one is nobody's child but the system's, for systemd sees no other's end, and waits for no other's.
#[test]
fn the_death_of_the_new_process_takes_no_stream_with_it() {
    let mut unit = Unit::start();
    let public = unit.gateway.public;
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| ask(public, "m/long", true));
        unit.gateway.wait_for("the stream", || unit.gateway.sum("tidegate_channel_in_flight") == 1.0);
        let number = unit.upgrade();
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
        assert!(![unit.gateway.child.id(), number].contains(&parent.parse().unwrap()), "{parent}");
        let parent = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
        assert_ne!(parent, "sh\n");
        kill("KILL", number);
        assert!(stream.join().unwrap());
    });
    assert_eq!(unit.exit_code(), Some(0));
    let mut export = Vec::new();
    tidegate::store::export(&unit.gateway.store(), &mut export).unwrap();
    let export = String::from_utf8(export).unwrap();
    assert!(export.contains(r#""spent":10000000"#), "a cent: {export}");
    assert_eq!(tidegate::store::verify(&unit.gateway.store()), Ok(vec![]));
}

/// Goal: an upgrade to a wrong configuration, or to one whose address is taken, changes nothing and is told with its reason; the
/// next one, with the file repaired, works.
#[test]
fn a_bad_configuration_ends_the_new_process_and_not_the_old_one() {
    let mut unit = Unit::start();
    unit.gateway.rewrite_text("version: 1\nserver: nonsense\n");
    let why = unit.fails("USR2");
    assert_eq!(why, "the new process ended before it took over (exit status: 78)");
    let taken = TcpListener::bind(free_address()).unwrap();
    let text = config(unit.upstream.addr).text(unit.gateway.public, unit.gateway.admin);
    let listen = format!("listen: [\"{}\", ", taken.local_addr().unwrap());
    unit.gateway.rewrite_text(&text.replacen("listen: [", &listen, 1));
    let why = unit.fails("USR2");
    assert_eq!(why, "the new process ended before it served (exit status: 1)");
    unit.gateway.rewrite_text(&text);
    let number = unit.upgrade();
    assert_eq!(unit.exit_code(), Some(0));
    unit.end(number);
}

/// Goal: SIGQUIT without a process that waits, with one that waits and dies, and with one that dies after it got listeners and
/// ledger, ends nothing: the running process serves, paid requests too, and can still be upgraded.
#[test]
fn a_hand_over_to_nobody_is_no_outage() {
    let mut unit = Unit::start();
    let none = "no process waits to take over; start it with `run --upgrade` first";
    assert_eq!(unit.fails("QUIT"), none);
    drop(report(&unit.gateway.store()));
    assert_eq!(unit.fails("QUIT"), none);

    let waiting = report(&unit.gateway.store());
    let sent = unit.fails("QUIT");
    assert!(sent.starts_with("the listeners cannot be handed over: "), "{sent}");
    drop(waiting);

    let store = unit.gateway.store();
    let waiting = report(&store);
    let listeners = UnixListener::bind(store.join("listeners.sock")).unwrap();
    let dying = std::thread::spawn(move || {
        let sockets = listeners.accept().unwrap();
        let mut ledger = UnixStream::connect(store.join("ledger.sock")).unwrap();
        ledger.write_all(b"{\"process\":1}\n").unwrap();
        let mut owner = String::new();
        BufReader::new(&ledger).read_line(&mut owner).unwrap();
        assert!(owner.contains("process"), "the ledger was let go: {owner}");
        // Paid requests meet the ledger while it is away, and wait for an answer that never comes.
        std::thread::sleep(Duration::from_millis(500));
        drop((ledger, waiting, sockets));
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !dying.is_finished() {
                    assert!(ask(unit.gateway.public, "m/x", false));
                }
            });
        }
        assert_eq!(unit.fails("QUIT"), "the new process ended before it served");
    });
    dying.join().unwrap();
    std::fs::remove_file(unit.gateway.store().join("listeners.sock")).unwrap();
    assert_eq!(unit.gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    assert_eq!(unit.gateway.sum("tidegate_store_well"), 1.0);
    let number = unit.upgrade();
    assert_eq!(unit.exit_code(), Some(0));
    unit.end(number);
}

/// Reports as a process that is to take over.
fn report(store: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(store.join("upgrade.sock")).unwrap();
    let mut welcome = [0; 8];
    stream.read_exact(&mut welcome).unwrap();
    assert_eq!(&welcome, b"welcome\n");
    stream
}

/// Goal: `run --upgrade` without a running process says so at once, and one beside another that waits is refused.
#[test]
fn nobody_waits_in_vain() {
    let unit = Unit::start();
    let start = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["run", "--upgrade", "-c"]).arg(file).stdout(Stdio::null());
        let said = command.output().unwrap();
        (said.status.code(), String::from_utf8(said.stderr).unwrap())
    };
    let waiting = report(&unit.gateway.store());
    let (code, said) = start(&unit.folder.path().join("tidegate.yaml"));
    assert!(code == Some(1) && said.contains("another one waits already"), "{said}");
    drop(waiting);
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("tidegate.yaml");
    std::fs::write(&file, config(unit.upstream.addr).text(free_address(), free_address())).unwrap();
    let (code, said) = start(&file);
    assert!(code == Some(1) && said.contains("start without --upgrade"), "{said}");
}
