//! What `explain` says is what the next request sees, whatever has happened to the channels before (spec 12.2).

use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway, KEY, http};
use fastrand::Rng;
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WORLDS: usize = 60;
/// Worlds that are tried at the same time: most of their time they wait.
const THREADS: usize = 10;
/// What would change by itself sooner than this is waited for, so that nothing changes between a look and a request.
const SETTLED: u64 = 150;

/// How a channel answers while a world is being made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Good,
    /// A 429 that asks for this time, in milliseconds.
    Limited(u32),
    Overloaded(u32),
    Refused,
    Missing,
    Broken,
    Closes,
    /// It says nothing for a while.
    Stalls,
}

/// What everything in one gateway has in common.
struct Times {
    defaults: &'static str,
    /// How long requests wait, in milliseconds.
    failover_wait: u64,
    /// The rests that providers ask for, in milliseconds.
    rests: std::ops::Range<u32>,
}

/// Whatever rests does so for longer than the test takes.
const LONG: Times = Times {
    defaults: "defaults: { retry: { budget_ratio: 10, failover_wait: 100ms }, health: { ejection: 600s } }\n",
    failover_wait: 100,
    rests: 50_000..60_000,
};
/// Whatever rests is soon back, and requests wait for it.
const SHORT: Times = Times {
    defaults: "defaults: { retry: { budget_ratio: 10, failover_wait: 600ms }, health: { ejection: 250ms, refused: 400ms, missing: 400ms } }\n",
    failover_wait: 600,
    rests: 200..900,
};

/// The keys by their names, and further members; the text of a key is made of its name.
const KEYS: [(&str, &str); 9] = [
    ("plain", ""),
    ("gold", ", group: gold"),
    ("red", ", group: red"),
    ("narrow", ", models: [\"even/*\"]"),
    ("rich", ", account: rich, group: gold"),
    ("disabled", ", enabled: false"),
    ("expired", ", expires: 1"),
    ("spent", ", limits: { rpm: 1 }"),
    ("bounded", ", account: bounded"),
];

/// APIs, their paths, and the member that carries the text of a call.
const APIS: [(&str, &str, &str); 5] = [
    ("chat", "/v1/chat/completions", r#""messages":[{"role":"user","content":"TEXT"}]"#),
    ("completions", "/v1/completions", r#""prompt":"TEXT""#),
    ("responses", "/v1/responses", r#""input":"TEXT""#),
    ("messages", "/v1/messages", r#""max_tokens":9,"messages":[{"role":"user","content":"TEXT"}]"#),
    ("embeddings", "/v1/embeddings", r#""input":"TEXT""#),
];

fn text_of(key: &str) -> String {
    format!("key-{key}-of-the-tests-0123456789")
}

/// An upstream whose channels, told apart by what they call the model, answer as they are told to.
#[derive(Clone, Default)]
struct Upstream {
    faults: Arc<Mutex<HashMap<String, Fault>>>,
    /// How often a channel has stalled, by what it calls the model.
    stalled: Arc<Mutex<HashMap<String, usize>>>,
}

impl Upstream {
    fn start(&self) -> SocketAddr {
        let own = self.clone();
        scripted::start(move |asked| {
            let fault = own.faults.lock().unwrap().get(&asked.model()).copied().unwrap_or(Fault::Good);
            if fault == Fault::Stalls {
                *own.stalled.lock().unwrap().entry(asked.model()).or_default() += 1;
            }
            answer(asked, fault)
        })
    }

    /// How often channels have stalled whose names begin so.
    fn stalls(&self, of: &str) -> usize {
        let stalled = self.stalled.lock().unwrap();
        stalled.iter().filter(|(name, _)| name.starts_with(of)).map(|(_, count)| count).sum()
    }

    fn set(&self, world: &World, fault: impl Fn(&Channel) -> Fault) {
        let mut faults = self.faults.lock().unwrap();
        faults.extend(world.channels.iter().map(|channel| (channel.id.clone(), fault(channel))));
    }
}

fn answer(asked: &Asked, fault: Fault) -> Vec<Act> {
    let error = |status, code: &str, rest: Option<u32>| {
        let headers: Vec<_> =
            rest.map(|rest| ("retry-after-ms".to_owned(), rest.to_string())).into_iter().collect();
        scripted::whole(
            status,
            &headers,
            format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#).as_bytes(),
        )
    };
    let good = match asked.head.split(' ').nth(1).unwrap() {
        "/v1/chat/completions" => {
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"good"},"finish_reason":"stop"}]}"#
        }
        "/v1/completions" => r#"{"choices":[{"index":0,"text":"good","finish_reason":"stop"}]}"#,
        "/v1/responses" => {
            r#"{"id":"r","object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"good"}]}]}"#
        }
        "/v1/messages" => {
            r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"good"}],"stop_reason":"end_turn"}"#
        }
        _ => r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}"#,
    };
    match fault {
        Fault::Good => scripted::whole(200, &[], good.as_bytes()),
        Fault::Limited(rest) => error(429, "rate_limit_exceeded", Some(rest)),
        Fault::Overloaded(rest) => error(529, "overloaded_error", Some(rest)),
        Fault::Refused => error(401, "invalid_api_key", None),
        Fault::Missing => error(404, "model_not_found", None),
        Fault::Broken => error(500, "", None),
        Fault::Closes => vec![Act::Close],
        Fault::Stalls => vec![Act::Wait(Duration::from_secs(20)), Act::Close],
    }
}

#[derive(Debug)]
struct Channel {
    id: String,
    members: String,
    fault: Fault,
}

/// A model and its channels, and what is asked of it.
#[derive(Debug)]
struct World {
    model: String,
    kind: &'static str,
    members: String,
    channels: Vec<Channel>,
    /// Requests that bring it into its state: all but the last few are answered.
    before: usize,
    held: usize,
    key: &'static str,
    api: usize,
    words: usize,
    seed: u64,
}

impl World {
    fn new(number: usize, times: &Times, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let count = random.usize(1..6);
        let seldom = |random: &mut Rng, odds| random.u8(..odds) == 0;
        let kind = if seldom(&mut random, 8) { "embedding" } else { "chat" };
        let price = if seldom(&mut random, 10) { r#"price: { request: "0.01" }"# } else { "free: true" };
        let members = match random.u8(..16) {
            0 => ", verification: telegram",
            1 => ", limits: { rpm: 3 }",
            2 => ", context_window: 200",
            _ => "",
        };
        // Most requests are to get as far as the channels.
        let keys = if seldom(&mut random, 6) { KEYS.len() } else { 3 };
        let apis = match kind {
            _ if seldom(&mut random, 16) => 0..APIS.len(),
            "embedding" => 4..5,
            _ => 0..4,
        };
        let channel = |index| channel(&format!("w{number}c{index}"), times, &mut random);
        Self {
            channels: (0..count).map(channel).collect(),
            model: format!("{}/w{number}", ["even", "odd"][number % 2]),
            kind,
            members: format!("{price}{members}"),
            before: random.usize(..16),
            held: if seldom(&mut random, 3) { random.usize(1..3) } else { 0 },
            key: KEYS[random.usize(..keys)].0,
            api: random.usize(apis),
            words: if seldom(&mut random, 8) { 3_000 } else { 1 },
            seed,
        }
    }
}

impl World {
    /// One whose only channel rests for about as long as requests wait.
    fn resting(number: usize, times: &Times, seed: u64) -> Self {
        let fault = Fault::Limited(u32::try_from(times.failover_wait).unwrap() - 50);
        let channel = Channel { id: format!("w{number}c0"), members: String::new(), fault };
        let key = KEYS[number % 3].0;
        let members = "free: true".to_owned();
        let asked = Self {
            kind: "chat",
            members,
            before: 1,
            held: 0,
            key,
            api: 0,
            words: 1,
            ..Self::new(number, times, seed)
        };
        Self { channels: vec![channel], ..asked }
    }
}

impl World {
    /// Its own part of the name of its model and its channels.
    fn name(&self) -> &str {
        self.model.split('/').nth(1).unwrap()
    }
}

fn channel(id: &str, times: &Times, random: &mut Rng) -> Channel {
    let mut members = format!(", priority: {}, weight: {}", random.u8(..3), random.u8(..4));
    for (odds, member) in [
        (6, ", groups: [gold]"),
        (12, ", apis: [chat, messages]"),
        (12, ", context_window: 200"),
        (10, ", limits: { rpm: 2 }"),
        (10, ", limits: { concurrency: 1 }"),
        (16, ", enabled: false"),
    ] {
        let known = member.split(':').next().unwrap();
        if random.u8(..odds) == 0 && !members.contains(known) {
            members.push_str(member);
        }
    }
    let rest = random.u32(times.rests.clone());
    let fault = *random
        .choice(&[
            Fault::Good,
            Fault::Good,
            Fault::Limited(rest),
            Fault::Overloaded(rest),
            Fault::Refused,
            Fault::Missing,
            Fault::Broken,
            Fault::Broken,
            Fault::Closes,
        ])
        .unwrap();
    Channel { id: id.to_owned(), members, fault }
}

fn gateway(worlds: &[World], upstream: &Upstream, times: &Times) -> Gateway {
    let addr = upstream.start();
    let mut config = Config::default()
        .further_account("rich", "verified: true, credit: \"100\"")
        .further_account("bounded", "limits: { concurrency: 1 }");
    config.defaults = Some(times.defaults.to_owned());
    for (name, members) in KEYS {
        config = config.key(name, &text_of(name), members);
    }
    for world in worlds {
        config = config.model_with(&world.model, world.kind, &world.members);
        for channel in &world.channels {
            config = config.channel(&channel.id, addr, &[(&world.model, &channel.id)], &channel.members);
        }
    }
    for name in ["fine", "stalls"] {
        let model = format!("{name}/x");
        config = config.model(&model, "chat").channel(name, addr, &[(&model, name)], "");
    }
    upstream.faults.lock().unwrap().insert("stalls".to_owned(), Fault::Stalls);
    config.start()
}

/// The bytes of a call.
fn call(model: &str, key: &str, api: usize, words: usize) -> Vec<u8> {
    let (_, path, member) = APIS[api];
    let body = format!(r#"{{"model":"{model}",{}}}"#, member.replace("TEXT", &"word ".repeat(words)));
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Brings a world into its state; what is returned holds requests open.
fn make(gateway: &Gateway, upstream: &Upstream, world: &World) -> Vec<TcpStream> {
    let mut random = Rng::with_seed(world.seed ^ 1);
    let api = if world.kind == "embedding" { 4 } else { 0 };
    upstream.set(world, |channel| channel.fault);
    for _ in 0..world.before {
        let key = text_of(KEYS[random.usize(..3)].0);
        gateway.raw(&call(&world.model, &key, api, 1));
    }
    // A client has its answer before its request is over.
    let own =
        |name: &str| name.starts_with(&format!("tidegate_channel_in_flight{{channel=\"{}c", world.name()));
    let in_flight = || gateway.metrics().into_iter().filter(|(name, _)| own(name)).map(|(_, count)| count);
    gateway.wait_for("the requests to be over", || in_flight().sum::<f64>() == 0.0);
    if world.held > 0 {
        // By then what was ejected is waiting for its probe, which a held request may be.
        std::thread::sleep(Duration::from_millis(300));
    }
    upstream.set(world, |_| Fault::Stalls);
    let channels = format!("{}c", world.name());
    let held = (0..world.held)
        .map(|_| hold(gateway, upstream, &channels, &call(&world.model, &text_of("gold"), api, 1)))
        .collect();
    upstream.set(world, |_| Fault::Good);
    held
}

/// Sends a request, and waits until it is at a channel whose name begins so, or has been answered.
fn hold(gateway: &Gateway, upstream: &Upstream, channels: &str, request: &[u8]) -> TcpStream {
    gateway.count(1);
    let before = upstream.stalls(channels);
    let mut stream = http::connect(gateway.public).unwrap();
    stream.write_all(request).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    gateway.wait_for("a request to be held", || {
        upstream.stalls(channels) > before || stream.peek(&mut [0; 1]).is_ok()
    });
    stream
}

fn explain(gateway: &Gateway, model: &str, key: &str, api: usize, words: usize) -> Value {
    let query = format!("model={model}&key={key}&api={}&tokens={words}", APIS[api].0);
    http::get(gateway.admin, &format!("/explain?{query}")).unwrap().json()
}

/// What is explained once nothing is about to change by itself, and when it was asked.
fn settled(gateway: &Gateway, world: &World, times: &Times) -> (Value, Instant) {
    loop {
        let asked = Instant::now();
        let told = explain(gateway, &world.model, world.key, world.api, world.words);
        let left = |excluded: &Value| excluded["left_ms"].as_u64();
        // Soon it is back, or soon requests wait for it.
        let soon = [0, times.failover_wait].map(|from| from..from + SETTLED);
        let changes = |left: &u64| soon.iter().any(|soon| soon.contains(left));
        if !told["excluded"].as_array().unwrap().iter().filter_map(left).any(|left| changes(&left)) {
            return (told, asked);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a request did what was told of it; else what it did.
fn check(
    gateway: &Gateway,
    (told, asked): &(Value, Instant),
    request: &[u8],
) -> Result<&'static str, String> {
    let reply = gateway.raw(request);
    let took = u64::try_from(asked.elapsed().as_millis()).unwrap();
    let log = gateway.log_of(reply.request_id());
    let seen = || format!("told {told:#}\nbut {} {} {log:#}", reply.status, reply.text());
    let ensure = |holds: bool| if holds { Ok(()) } else { Err(seen()) };
    if !told["error"].is_null() {
        ensure(told["error"]["status"] == reply.status && told["error"]["code"] == log["code"])?;
        ensure(log["attempts"] == serde_json::json!([]) && told["candidates"] == serde_json::json!([]))?;
        return Ok("error");
    }
    ensure(reply.status == 200 && log["attempts"].as_array().unwrap().len() == 1)?;
    let list =
        |name: &str| told[name].as_array().unwrap().iter().filter(|it| it["channel"] == log["channel"]);
    let Some(waits) = told["waits_ms"].as_u64() else {
        ensure(list("candidates").any(|candidate| candidate["share"].as_f64().unwrap() > 0.0))?;
        return Ok("channel");
    };
    // Whoever was back when the request had waited may have been drawn.
    ensure(
        took >= waits && list("excluded").any(|it| it["left_ms"].as_u64().is_some_and(|left| left <= took)),
    )?;
    Ok("wait")
}

/// Makes worlds, asks, requests, and compares; how often which outcome was foretold.
fn compare(times: &Times, seed: u64) -> HashMap<String, usize> {
    let mut seeds = Rng::with_seed(seed);
    let worlds: Vec<_> = (0..WORLDS)
        .map(|number| match number {
            ..6 => World::resting(number, times, seeds.u64(..)),
            _ => World::new(number, times, seeds.u64(..)),
        })
        .collect();
    let upstream = Upstream::default();
    let gateway = gateway(&worlds, &upstream, times);
    // From here on this key has no request left, and this account has one that runs.
    assert_eq!(gateway.raw(&call("fine/x", &text_of("spent"), 0, 1)).status, 200);
    let running = hold(&gateway, &upstream, "stalls", &call("stalls/x", &text_of("bounded"), 0, 1));
    let outcomes = Mutex::new(HashMap::<String, usize>::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (worlds, gateway, upstream, outcomes) = (&worlds, &gateway, &upstream, &outcomes);
            scope.spawn(move || {
                for world in worlds.iter().skip(thread).step_by(THREADS) {
                    let held = make(gateway, upstream, world);
                    let told = settled(gateway, world, times);
                    let request = call(&world.model, &text_of(world.key), world.api, world.words);
                    let outcome =
                        check(gateway, &told, &request).unwrap_or_else(|why| panic!("{world:#?}\n{why}"));
                    drop(held);
                    let mut outcomes = outcomes.lock().unwrap();
                    let mut count = |what: &str| *outcomes.entry(what.to_owned()).or_default() += 1;
                    count(outcome);
                    for candidate in told.0["candidates"].as_array().unwrap() {
                        count(&format!("{} and usable", candidate["state"].as_str().unwrap()));
                    }
                    for excluded in told.0["excluded"].as_array().unwrap() {
                        count(excluded["reason"].as_str().unwrap());
                    }
                    if let Some(code) = told.0["error"]["code"].as_str() {
                        count(code);
                    }
                }
            });
        }
    });
    for (model, key, name) in [("none/x", KEY, "tests"), ("none/x", "nobody's-key-0123456789", "nobody")] {
        let told = (explain(&gateway, model, name, 0, 1), Instant::now());
        check(&gateway, &told, &call(model, key, 0, 1)).unwrap();
    }
    drop(running);
    gateway.finish();
    outcomes.into_inner().unwrap()
}

/// Goal: in random worlds the next request is sent to a channel that `explain` gives a share, or waits as long as it says,
/// or ends with the error that it says, without an attempt. Method: channels of every sort are brought into states by
/// scripted failures, then all is well upstream, one asks, and sends the request. The counts show that the worlds are not
/// all alike.
#[test]
fn what_is_explained_is_what_comes() {
    let (long, short) = std::thread::scope(|scope| {
        let long = scope.spawn(|| compare(&LONG, 1_000));
        let short = scope.spawn(|| compare(&SHORT, 2_000));
        (long.join().unwrap(), short.join().unwrap())
    });
    let both = |what: &str| long.get(what).copied().unwrap_or(0) + short.get(what).copied().unwrap_or(0);
    for what in ["channel", "error", "wait", "cooling", "out", "missing", "ejected", "full"] {
        assert!(both(what) > 0, "no world with {what}");
    }
    assert!(both("channel") > WORLDS / 2 && both("error") > WORLDS / 4);
}
