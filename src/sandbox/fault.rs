//! Every way in which the sandbox can fail, as one table.

use super::answer::{Ask, Kind, Knobs, error, whole};
use super::connection::{Connection, head};
use super::script::{self, Step};
use std::io;
use std::io::Write;
use std::time::Duration;

/// What a correct gateway can still do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing usable has come: another channel can answer.
    BeforeContent,
    /// Content has come; streams only.
    MidStream,
    /// The caller is told at once.
    CallerError,
    /// The answer is right, only its form is odd.
    Harmless,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Its name in `fault/<name>`.
    pub name: &'static str,
    /// What it means for the one who asked.
    pub phase: Phase,
    play: Play,
}

#[derive(Debug, Clone, Copy)]
enum Play {
    /// A whole answer: status, header fields, body.
    Reply(u16, &'static [(&'static str, &'static str)], &'static str),
    /// A stream; JSON calls get their plain answer.
    Script(&'static [Step]),
    /// Bytes that no library would send.
    Wire(Wire),
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Close,
    Reset,
    SlowHeader,
    Hang,
    Garbage,
    EndlessHeader,
    LyingLength,
    Truncated,
    BrokenJson,
    EarlyHints,
    HugeError,
    GzipError,
    GzipBomb,
}

impl Fault {
    /// Whether only streams can fail in this way.
    #[must_use]
    pub fn is_for_streams(&self) -> bool {
        matches!(self.play, Play::Script(_))
    }
}

const fn reply(name: &'static str, status: u16, body: &'static str) -> Fault {
    Fault { name, phase: Phase::BeforeContent, play: Play::Reply(status, JSON, body) }
}

const fn page(name: &'static str, status: u16, body: &'static str) -> Fault {
    Fault { name, phase: Phase::BeforeContent, play: Play::Reply(status, HTML, body) }
}

const fn caller(name: &'static str, status: u16, body: &'static str) -> Fault {
    Fault { name, phase: Phase::CallerError, play: Play::Reply(status, JSON, body) }
}

const fn wire(name: &'static str, phase: Phase, wire: Wire) -> Fault {
    Fault { name, phase, play: Play::Wire(wire) }
}

const fn stream(name: &'static str, phase: Phase, steps: &'static [Step]) -> Fault {
    Fault { name, phase, play: Play::Script(steps) }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
const LIMITED: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("retry-after", "7"),
    ("x-ratelimit-remaining-requests", "0"),
    ("x-ratelimit-reset-requests", "7s"),
];
const ELSEWHERE: &[(&str, &str)] = &[("location", "http://elsewhere.example/v1")];
const ERROR_EVENT: &str =
    r#"{"error":{"message":"upstream 10.1.2.3 failed","type":"server_error","code":null}}"#;

use Phase::{BeforeContent, Harmless, MidStream};
use Step::{
    BigLine, Body, Burst, CloseDelimited, Content, ContentWithUsage, Crlf, Cut, Data, Done, Dribble, End,
    EndlessLine, Finish, Pings, Raw, Role, Stall, Usage,
};

/// All faults; `status-<code>` and `flaky-<percent>` come on top.
pub const FAULTS: &[Fault] = &[
    // Overload, as ten and more providers say it.
    reply(
        "overload-openai",
        503,
        r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"server_error","param":null,"code":null}}"#,
    ),
    reply(
        "overload-openai-500",
        500,
        r#"{"error":{"message":"The server had an error while processing your request","type":"server_error","param":null,"code":null}}"#,
    ),
    reply(
        "overload-anthropic",
        529,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ),
    reply(
        "overload-gemini",
        503,
        r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
    ),
    reply(
        "overload-vertex",
        429,
        r#"[{"error":{"code":429,"message":"Resource exhausted, please try again later.","status":"RESOURCE_EXHAUSTED"}}]"#,
    ),
    reply(
        "overload-azure",
        503,
        r#"{"error":{"code":"NoCapacity","message":"The service has no capacity right now."}}"#,
    ),
    reply(
        "overload-bedrock",
        503,
        r#"{"message":"Bedrock is unable to process your request.","__type":"ServiceUnavailableException"}"#,
    ),
    reply(
        "overload-groq",
        498,
        r#"{"error":{"message":"Flex tier capacity exceeded","type":"server_error","code":"capacity_exceeded"}}"#,
    ),
    page("overload-vllm", 503, "Service Unavailable"),
    page(
        "overload-nginx",
        503,
        "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>",
    ),
    page(
        "overload-cloudflare",
        524,
        "<!DOCTYPE html><html><title>api.example | 524: A timeout occurred</title></html>",
    ),
    page(
        "overload-envoy",
        503,
        "upstream connect error or disconnect/reset before headers. reset reason: overflow",
    ),
    reply(
        "overload-relay",
        500,
        r#"{"error":{"message":"当前分组上游负载已饱和，请稍后再试","type":"new_api_error"}}"#,
    ),
    reply(
        "overload-ollama",
        503,
        r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#,
    ),
    // What is about us.
    Fault {
        name: "rate-openai",
        phase: BeforeContent,
        play: Play::Reply(
            429,
            LIMITED,
            r#"{"error":{"message":"Rate limit reached for gpt in organization org-abc123","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
        ),
    },
    reply(
        "rate-gemini",
        429,
        r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"13s"}]}}"#,
    ),
    reply(
        "quota-openai",
        429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    reply(
        "billing-402",
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
    ),
    reply(
        "billing-anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
    ),
    reply(
        "auth-401",
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-sand****box","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
    ),
    reply(
        "auth-403",
        403,
        r#"{"error":{"message":"Your key has no access to this resource","type":"permission_error"}}"#,
    ),
    reply(
        "auth-gemini",
        400,
        r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
    ),
    page(
        "blocked",
        403,
        "<html><title>Attention Required! | Cloudflare</title><body>You have been blocked</body></html>",
    ),
    reply(
        "region",
        403,
        r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
    ),
    page("too-large", 413, "<html><h1>413 Request Entity Too Large</h1><hr>nginx</html>"),
    reply(
        "model-missing",
        404,
        r#"{"error":{"message":"The model `gpt-up` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    ),
    Fault { name: "redirect", phase: BeforeContent, play: Play::Reply(302, ELSEWHERE, "") },
    // What is about the caller.
    caller(
        "context",
        400,
        r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    ),
    caller(
        "bad-param",
        400,
        r#"{"error":{"message":"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead.","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}"#,
    ),
    caller(
        "policy",
        400,
        r#"{"error":{"message":"Your request was rejected by our safety system.","type":"invalid_request_error","param":null,"code":"content_policy_violation"}}"#,
    ),
    // Successes that are none.
    page("html-200", 200, "<!doctype html><html><title>Welcome</title></html>"),
    reply("empty-200", 200, ""),
    reply("null-200", 200, "null"),
    reply(
        "no-choices",
        200,
        r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[],"data":[]}"#,
    ),
    reply(
        "error-200",
        200,
        r#"{"error":{"message":"Internal error at 10.1.2.3","type":"server_error","code":500}}"#,
    ),
    wire("broken-json", BeforeContent, Wire::BrokenJson),
    wire("truncated", BeforeContent, Wire::Truncated),
    // The wire itself.
    wire("close", BeforeContent, Wire::Close),
    wire("reset", BeforeContent, Wire::Reset),
    wire("slow-header", BeforeContent, Wire::SlowHeader),
    wire("hang", BeforeContent, Wire::Hang),
    wire("garbage", BeforeContent, Wire::Garbage),
    wire("endless-header", BeforeContent, Wire::EndlessHeader),
    wire("lying-length", BeforeContent, Wire::LyingLength),
    wire("huge-error", BeforeContent, Wire::HugeError),
    wire("gzip-error", BeforeContent, Wire::GzipError),
    wire("gzip-bomb", BeforeContent, Wire::GzipBomb),
    wire("early-hints", Harmless, Wire::EarlyHints),
    // Streams that fail before content.
    stream("stream-error-first", BeforeContent, &[Data(ERROR_EVENT), Done, End]),
    stream("stream-role-error", BeforeContent, &[Role, Data(ERROR_EVENT), End]),
    stream("stream-role-cut", BeforeContent, &[Role, Cut]),
    stream("stream-role-stall", BeforeContent, &[Role, Stall]),
    stream("stream-pings", BeforeContent, &[Pings]),
    stream("stream-empty", BeforeContent, &[End]),
    stream("stream-done-only", BeforeContent, &[Done, End]),
    stream("stream-json-error", BeforeContent, &[Raw(ERROR_EVENT), End]),
    stream("stream-html", BeforeContent, &[Raw("<html>oops</html>"), End]),
    stream("stream-garbage-first", BeforeContent, &[Data("{not json"), End]),
    stream("stream-endless-line", BeforeContent, &[EndlessLine]),
    // Streams that fail after it.
    stream("stream-error-mid", MidStream, &[Role, Content(Some(3)), Data(ERROR_EVENT), Done, End]),
    stream("stream-cut-mid", MidStream, &[Role, Content(Some(3)), Cut]),
    stream("stream-reset-mid", MidStream, &[Role, Content(Some(3)), Step::Reset]),
    stream("stream-end-mid", MidStream, &[Role, Content(Some(3)), End]),
    stream("stream-stall-mid", MidStream, &[Role, Content(Some(3)), Stall]),
    stream("stream-garbage-mid", MidStream, &[Role, Content(Some(3)), Data("{not json"), Done, End]),
    stream("stream-finish-error", MidStream, &[Role, Content(Some(3)), Finish(Some("error")), Done, End]),
    // Streams that are right all the same.
    stream("stream-no-done", Harmless, &[Role, Body, Finish(None), Usage, End]),
    stream("stream-no-finish", Harmless, &[Role, Body, Usage, Done, End]),
    stream("stream-late-error", Harmless, &[Role, Body, Finish(None), Usage, Data(ERROR_EVENT), End]),
    stream("stream-close-delimited", Harmless, &[CloseDelimited, Role, Body, Finish(None), Usage, Done, End]),
    stream("stream-crlf", Harmless, &[Crlf, Role, Body, Finish(None), Usage, Done, End]),
    stream("stream-dribble", Harmless, &[Dribble, Role, Body, Finish(None), Usage, Done, End]),
    stream("stream-burst", Harmless, &[Burst, Role, Body, Finish(None), Usage, Done, End]),
    stream("stream-no-usage", Harmless, &[Role, Body, Finish(None), Done, End]),
    stream(
        "stream-usage-every-chunk",
        Harmless,
        &[Role, ContentWithUsage, ContentWithUsage, Finish(None), Usage, Done, End],
    ),
    stream("stream-big-line", Harmless, &[Role, BigLine, Finish(None), Usage, Done, End]),
];

/// Plays a fault; whether the connection can be used again.
pub(super) async fn play(
    connection: &mut Connection,
    name: &str,
    kind: Kind,
    ask: &Ask,
    knobs: &Knobs<'_>,
) -> io::Result<bool> {
    if let Some(status) = name.strip_prefix("status-").and_then(|code| code.parse().ok()) {
        let body = error(&format!("Sandbox status {status}"), "sandbox_error", None);
        return connection.json(status, &body).await.map(|()| true);
    }
    if name.starts_with("flaky-") {
        return connection.json(503, &error("Flaky", "server_error", None)).await.map(|()| true);
    }
    let Some(fault) = FAULTS.iter().find(|fault| fault.name == name) else {
        let body = error(&format!("The sandbox has no fault named {name}"), "invalid_request_error", None);
        return connection.json(400, &body).await.map(|()| true);
    };
    match fault.play {
        Play::Reply(status, fields, body) => {
            connection.reply(status, fields, body.as_bytes()).await.map(|()| true)
        }
        Play::Script(steps) if ask.stream && kind.can_stream() => {
            script::play(connection, steps, kind, ask, knobs).await
        }
        Play::Script(_) => connection.json(200, &whole(kind, ask, knobs)).await.map(|()| true),
        Play::Wire(wire) => play_wire(connection, wire, kind, ask, knobs).await,
    }
}

async fn play_wire(
    connection: &mut Connection,
    wire: Wire,
    kind: Kind,
    ask: &Ask,
    knobs: &Knobs<'_>,
) -> io::Result<bool> {
    match wire {
        Wire::Close => {}
        Wire::Reset => connection.reset()?,
        Wire::Hang => connection.pause(Duration::from_secs(600)).await?,
        Wire::Garbage => connection.write(b"\x00\x16\x03 what is this?\r\n\r\n").await?,
        Wire::SlowHeader => {
            for byte in head(200, JSON, Some(2)).bytes() {
                connection.write(&[byte]).await?;
                connection.pause(Duration::from_millis(100)).await?;
            }
        }
        Wire::EndlessHeader => {
            connection.write(b"HTTP/1.1 200 OK\r\n").await?;
            for index in 0..200_000 {
                connection.write(format!("x-filler-{index}: {index}\r\n").as_bytes()).await?;
            }
        }
        Wire::LyingLength => {
            connection.write(format!("{}{{\"id\":1}}", head(200, JSON, Some(3))).as_bytes()).await?
        }
        Wire::Truncated => {
            let body = whole(kind, ask, knobs);
            let (shown, _) = body.split_at(body.len() / 2);
            connection.write(format!("{}{shown}", head(200, JSON, Some(body.len()))).as_bytes()).await?;
        }
        Wire::BrokenJson => {
            let body = whole(kind, ask, knobs);
            let (shown, _) = body.split_at(body.len() / 2);
            return connection.json(200, shown).await.map(|()| true);
        }
        Wire::EarlyHints => {
            connection
                .write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n")
                .await?;
            if ask.stream && kind.can_stream() {
                return script::play(connection, script::HONEST, kind, ask, knobs).await;
            }
            return connection.json(200, &whole(kind, ask, knobs)).await.map(|()| true);
        }
        Wire::HugeError => {
            connection.reply(500, JSON, error(&"e".repeat(10 << 20), "x", None).as_bytes()).await?
        }
        Wire::GzipError => return gzipped(connection, 503, error("Overloaded", "x", None).as_bytes()).await,
        Wire::GzipBomb => return gzipped(connection, 500, &vec![b' '; 100 << 20]).await,
    }
    Ok(false)
}

async fn gzipped(connection: &mut Connection, status: u16, body: &[u8]) -> io::Result<bool> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    let body = encoder.finish()?;
    let fields = [("content-type", "application/json"), ("content-encoding", "gzip")];
    connection.reply(status, &fields, &body).await.map(|()| true)
}
