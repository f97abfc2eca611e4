//! The recorded answers over the wire: an upstream that sends their bytes, and what a client of the running gateway
//! reads (spec 3.7).

use crate::corpus::{Entry, entries};
use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway};
use std::sync::Arc;
use std::time::Duration;
use tidegate::wire::endpoint::Call;

/// What cannot be acted out by bytes: the tests of failover connect to closed ports and to silence.
const NO_BYTES: [&str; 5] =
    ["tr-connect-refused", "tr-connect-timeout", "tr-dns", "tr-tls", "tr-header-timeout"];

/// Entries whose request names a stored response: the gateway knows its own, and refuses others before an upstream is asked.
fn is_answered_here(entry: &Entry) -> bool {
    entry.0["request_extra"]["previous_response_id"].is_string()
}

/// The entry's answer, byte for byte but for its framing.
fn script(entry: &Entry) -> Vec<Act> {
    if entry.status() == 0 {
        return vec![Act::Close];
    }
    let framing = ["content-length", "transfer-encoding", "connection"];
    let headers: Vec<_> = entry
        .headers()
        .iter()
        .filter(|(name, _)| !framing.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let Some(chunks) = entry.chunks() else {
        return scripted::whole(entry.status(), &headers, &entry.body());
    };
    let mut acts = Vec::new();
    for piece in chunks {
        match piece {
            "<<RST>>" => acts.push(Act::Reset),
            "<<STALL>>" => acts.push(Act::Wait(Duration::from_secs(5))),
            piece => {
                if acts.is_empty() {
                    acts.push(scripted::chunked(entry.status(), &headers));
                }
                acts.push(scripted::chunk(piece.as_bytes()));
                acts.push(Act::Wait(Duration::from_millis(2)));
            }
        }
    }
    acts.push(scripted::chunk(b""));
    acts
}

/// A good answer to any of the requests.
fn good(asked: &Asked) -> Vec<Act> {
    let stream = scripted_stream(asked);
    let body = String::from_utf8_lossy(&asked.body).contains("\"stream\":true");
    if body {
        let events = [("content-type".to_owned(), "text/event-stream".to_owned())];
        return vec![
            scripted::chunked(200, &events),
            scripted::chunk(stream.as_bytes()),
            scripted::chunk(b""),
        ];
    }
    let whole = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}],"data":[{"b64_json":"good","embedding":"good","index":0}],"content":[{"type":"text","text":"good"}],"stop_reason":"end_turn","output":[{"type":"message","content":[{"type":"output_text","text":"good"}]}],"status":"completed"}"#;
    scripted::whole(200, &[], whole.as_bytes())
}

fn scripted_stream(asked: &Asked) -> &'static str {
    let path = asked.head.lines().next().unwrap_or_default();
    if path.contains("/messages") {
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"good\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    } else if path.contains("/responses") {
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"good\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n"
    } else {
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    }
}

fn kind(entry: &Entry) -> &'static str {
    match entry.call() {
        Call::ImageGenerations => "image",
        Call::Embeddings => "embedding",
        _ => "chat",
    }
}

/// Every entry as a model `alone/N` at one channel, and as a model `pair/N` at two, the second of which is good.
fn gateway(entries: &Arc<Vec<Entry>>) -> Gateway {
    let of_entry = Arc::clone(entries);
    let bad = scripted::start(move |asked| script(&of_entry[asked.model().parse::<usize>().unwrap()]));
    let spare = scripted::start(good);
    let (alone, pair): (Vec<_>, Vec<_>) =
        (0..entries.len()).map(|n| (format!("alone/{n}"), format!("pair/{n}"))).unzip();
    let names: Vec<_> = (0..entries.len()).map(|n| n.to_string()).collect();
    let mut config = Config::default();
    for (n, entry) in entries.iter().enumerate() {
        config = config.model(&alone[n], kind(entry)).model(&pair[n], kind(entry));
    }
    let alone: Vec<_> = alone.iter().map(String::as_str).zip(names.iter().map(String::as_str)).collect();
    let pair: Vec<_> = pair.iter().map(String::as_str).zip(names.iter().map(String::as_str)).collect();
    let second: Vec<_> = pair.iter().map(|(public, _)| (*public, "good")).collect();
    let impatient = ", timeouts: { idle: 1s, first_byte: 1s }";
    config
        .channel_each("alone", bad, &alone, impatient)
        .channel_each("pair", bad, &pair, impatient)
        .channel("spare", spare, &second, ", priority: 1")
        .start()
}

/// What a client of one channel reads, against what is expected.
fn alone_disagrees(gateway: &Gateway, entry: &Entry, n: usize) -> Option<String> {
    let path = format!("/v1{}", entry.call().upstream_path());
    let reply = gateway.post(&path, &entry.request(&format!("alone/{n}")));
    let headers: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let told = headers + &reply.text();
    if let Some(how) = entry.client_disagrees(reply.status, &told) {
        return Some(how);
    }
    if !reply.complete {
        return Some("the answer was cut".to_owned());
    }
    let broken = entry.0["expect"]["stream_error_status"].is_number();
    let marked = ["[DONE]", "message_stop", "response.completed"].iter().any(|marker| told.contains(marker));
    let says_so = told.contains("Service temporarily unavailable");
    (broken && (marked || !says_so)).then(|| format!("a broken stream, and the client reads {told}"))
}

/// Whether another channel is asked exactly when one should be.
fn pair_disagrees(gateway: &Gateway, entry: &Entry, n: usize) -> Option<String> {
    let path = format!("/v1{}", entry.call().upstream_path());
    let reply = gateway.post(&path, &entry.request(&format!("pair/{n}")));
    let retried = reply.text().contains("good");
    let expected = entry.0["expect"]["retry_other_channel"] == true;
    // Where another status is accepted, so is what follows from it.
    let open = entry.0["accept_status"].is_array() && !(expected && retried);
    (retried != expected && !open).then(|| format!("another channel asked: {retried}"))
}

/// Goal: as the pure test, through listener, relay and streams; and another channel answers exactly where one should be
/// asked.
#[test]
fn agree_over_the_wire() {
    let entries = entries();
    let entries = Arc::new(entries);
    let gateway = gateway(&entries);
    let mut wrong = Vec::new();
    for (n, entry) in entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !NO_BYTES.contains(&entry.id()) && !is_answered_here(entry))
    {
        let found = alone_disagrees(&gateway, entry, n).or_else(|| pair_disagrees(&gateway, entry, n));
        wrong.extend(found.map(|how| format!("{}: {how}", entry.id())));
    }
    assert!(wrong.is_empty(), "{} of {} disagree:\n{}", wrong.len(), entries.len(), wrong.join("\n"));
    gateway.finish();
}
