//! The cost benchmark (spec 16.1): CPU time per JSON request and per streamed chunk, and memory per open stream, as ratios to
//! the smallest possible Pingora proxy.
//!
//! Sandbox, yardstick and gateway run as processes of their own on loopback, each proxy with one thread; the gateway with
//! everything on (key, limits, routing, usage, metrics, access log). The rounds of the two are interleaved, so that what
//! else the machine does hits both. CPU time is what the kernel has charged to the process (user and system, `/proc`).

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidegate::config::mint;

const REPETITIONS: usize = 5;
const CONNECTIONS: usize = 16;
const JSON_REQUESTS: usize = 40_000;
const STREAMS: usize = 640;
const CHUNKS: usize = 200;
/// Streams that are open at once when memory is measured.
const OPEN_STREAMS: usize = 400;
const KEY: &str = "key-of-the-benchmark";
/// What `/proc` counts CPU time in, on every Linux: hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let folder = std::env::current_exe()?
        .parent()
        .and_then(|path| path.parent())
        .ok_or("no target folder")?
        .to_owned();
    let (sandbox, bare, gateway, admin) =
        (free_address()?, free_address()?, free_address()?, free_address()?);
    let config = folder.join("bench.yaml");
    std::fs::write(&config, configuration(gateway, admin, sandbox))?;
    let tidegate = folder.join("tidegate");
    let _sandbox = Process::start(&tidegate, &["sandbox", "--listen", &sandbox.to_string()], sandbox)?;
    let yardstick = Process::start(
        &folder.join("examples/bare_proxy"),
        &[&bare.to_string(), &sandbox.to_string()],
        bare,
    )?;
    let file = config.to_str().ok_or("an odd path")?;
    let measured = Process::start(&tidegate, &["run", "--log-level", "error", "-c", file], gateway)?;

    let json = request(&json_body("bench/m"));
    let stream = request(&stream_body("bench/s"));
    let bare_stream = bare_stream_request(&format!("gpt+chunks={CHUNKS}"));
    let kinds = [
        ("JSON request of 2 KB", [&json, &json], JSON_REQUESTS, 1),
        ("streamed chunk", [&bare_stream, &stream], STREAMS, CHUNKS),
    ];
    println!("{REPETITIONS} repetitions, interleaved; {CONNECTIONS} connections, one thread each");
    for (name, [theirs, ours], requests, units) in kinds {
        let mut rounds = Vec::new();
        for _ in 0..=REPETITIONS {
            let a = yardstick.cost(theirs, requests)? / units as f64;
            let b = measured.cost(ours, requests)? / units as f64;
            rounds.push((a, b));
        }
        // The first round warms up pools, caches and allocators.
        report(name, ["yardstick", "tidegate"], &rounds[1..]);
    }
    let slow = "gpt+chunks=1000+chunk-delay=1000";
    let bare_slow = bare_stream_request(slow);
    let theirs = yardstick.memory(&bare_slow)?;
    let ours = measured.memory(&request(&stream_body("bench/slow")))?;
    println!(
        "open stream: yardstick {:.1} KB, tidegate {:.1} KB, ratio {:.2}",
        theirs / 1e3,
        ours / 1e3,
        ours / theirs
    );
    let paid = request(&json_body("bench/p"));
    let mut rounds = Vec::new();
    for _ in 0..=REPETITIONS {
        rounds.push((measured.cost(&json, JSON_REQUESTS)?, measured.cost(&paid, JSON_REQUESTS)?));
    }
    report("JSON request of 2 KB with money", ["free", "paid"], &rounds[1..]);
    Ok(())
}

fn json_body(model: &str) -> String {
    let text = "x".repeat(1_900);
    format!(r#"{{"model":"{model}","max_tokens":100,"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

fn stream_body(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// A stream as the sandbox itself knows it, with what the gateway asks for.
fn bare_stream_request(model: &str) -> Vec<u8> {
    request(&format!(
        r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"hi"}}]}}"#
    ))
}

fn report(name: &str, [one, other]: [&str; 2], rounds: &[(f64, f64)]) {
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let bare = sorted(rounds.iter().map(|(a, _)| *a).collect());
    let ours = sorted(rounds.iter().map(|(_, b)| *b).collect());
    let ratio = sorted(rounds.iter().map(|(a, b)| b / a).collect());
    let middle = ratio.len() / 2;
    println!(
        "{name}: {one} {:.1} µs, {other} {:.1} µs, ratio {:.2} (from {:.2} to {:.2})",
        bare[middle],
        ours[middle],
        ratio[middle],
        ratio[0],
        ratio[ratio.len() - 1]
    );
}

/// A process under measurement; ends with this value.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn start(program: &PathBuf, arguments: &[&str], addr: SocketAddr) -> Outcome<Self> {
        let log = std::fs::File::create(program.with_extension("bench.log"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::from(log))
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let process = Self { child, addr };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(addr).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not listen", program.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// CPU time of the process for one of so many requests, in microseconds.
    fn cost(&self, request: &[u8], requests: usize) -> Outcome<f64> {
        let before = self.cpu_seconds()?;
        load(self.addr, request, requests)?;
        Ok((self.cpu_seconds()? - before) * 1e6 / requests as f64)
    }

    /// Resident memory of the process for one open stream, in bytes.
    fn memory(&self, request: &[u8]) -> Outcome<f64> {
        let before = self.resident()?;
        let mut open = Vec::new();
        for _ in 0..OPEN_STREAMS {
            let mut stream = TcpStream::connect(self.addr)?;
            stream.write_all(request)?;
            open.push(stream);
        }
        for stream in &mut open {
            let mut head = [0; 512];
            read_some(stream, &mut head)?;
        }
        // A few chunks more, so that what a stream needs while it lasts is there.
        std::thread::sleep(Duration::from_secs(3));
        Ok((self.resident()? - before) / OPEN_STREAMS as f64)
    }

    fn resident(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1_024.0)
    }

    fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name in parentheses: the 12th and 13th field are user and system time.
        let fields: Vec<&str> = stat.rsplit(')').next().ok_or("no fields")?.split_whitespace().collect();
        let ticks = |index: usize| {
            fields.get(index).ok_or("too few fields")?.parse::<f64>().map_err(|e| e.to_string())
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends so many requests over the connections, one after the other on each.
fn load(addr: SocketAddr, request: &[u8], requests: usize) -> Outcome<()> {
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope
                    .spawn(move || send_all(addr, request, requests / CONNECTIONS).map_err(|e| e.to_string()))
            })
            .collect();
        senders.into_iter().try_for_each(|sender| Ok(sender.join().map_err(|_| "a sender panicked")??))
    })
}

fn send_all(addr: SocketAddr, request: &[u8], requests: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..requests {
        stream.write_all(request)?;
        read_answer(&mut stream, &mut buffer)?;
    }
    Ok(())
}

/// Reads to the end of one answer: its declared length, or the last chunk.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    let body = loop {
        filled += read_some(stream, &mut buffer[filled..])?;
        if let Some(end) = find(&buffer[..filled], b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..body]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(io::Error::other(head));
    }
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    let mut tail: Vec<u8> = buffer[body.max(filled.saturating_sub(5))..filled].to_vec();
    let mut missing = length.map(|length| length.saturating_sub(filled - body));
    while missing.map_or(!tail.ends_with(b"0\r\n\r\n"), |missing| missing > 0) {
        let read = read_some(stream, buffer)?;
        missing = missing.map(|missing| missing.saturating_sub(read));
        tail.extend_from_slice(&buffer[read.saturating_sub(5)..read]);
        tail.drain(..tail.len().saturating_sub(5));
    }
    Ok(())
}

fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         accept: application/json\r\nuser-agent: bench\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn configuration(gateway: SocketAddr, admin: SocketAddr, sandbox: SocketAddr) -> String {
    let digest = mint::digest_text(&mint::digest(KEY));
    format!(
        "version: 1\nserver: {{ listen: [\"{gateway}\"], threads: 1 }}\nadmin: {{ listen: \"{admin}\" }}\n\
         store: {{ path: bench-store }}\nlimits: {{ concurrency: 10000 }}\n\
         models: [{{ id: bench/m, free: true }}, {{ id: bench/s, free: true }}, {{ id: bench/slow, free: true }}, \
         {{ id: bench/p, price: {{ input: \"1\", output: \"10\" }} }}]\n\
         channels:\n  - id: c\n    provider: openai_compatible\n    base_url: \"http://{sandbox}/v1\"\n\
         \x20   credentials: [{{ value: sandbox }}]\n\
         \x20   models: {{ bench/m: gpt, bench/s: \"gpt+chunks={CHUNKS}\", \
         bench/slow: \"gpt+chunks=1000+chunk-delay=1000\", bench/p: gpt }}\n\
         accounts: [{{ id: a, credit: \"1000000\" }}]\n\
         keys: [{{ id: k, account: a, digest: \"{digest}\", \
         limits: {{ rpm: 100000000, tpm: 1000000000, concurrency: 1000 }} }}]\n"
    )
}
