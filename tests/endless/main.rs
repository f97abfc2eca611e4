//! Inputs without an end, fed to every parser of `wire` that keeps state: its memory stays below a ceiling, whether it
//! goes on or refuses (spec 15.1).
//!
//! A program of its own, so that nothing else takes memory while it looks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidegate::wire::answer::Identity;
use tidegate::wire::endpoint::Call;
use tidegate::wire::inflate::Inflater;
use tidegate::wire::sse::Framer;
use tidegate::wire::stream::{EventStream, Expected, Step, StreamOptions};
use tidegate::wire::video::Film;

/// So much is fed to a parser, unless it refuses before, and so much it may take.
#[derive(Clone, Copy)]
struct Bounds {
    fed: usize,
    ceiling: usize,
}

/// What keeps nothing but its place.
const SMALL: Bounds = Bounds { fed: 3 << 20, ceiling: 2 << 20 };
/// What may keep a line of 16 MiB, or the data of an event, in buffers that grow by doubling.
const LINE: Bounds = Bounds { fed: 160 << 20, ceiling: 96 << 20 };
/// The longest line of the framers that are fed alone.
const SHORT_LINE: usize = 256 << 10;
/// How often memory is looked at, in bytes of input.
const LOOK: usize = 256 << 10;

/// Memory of the process that is in use, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

/// Feeds `begin` and then `unit` for ever, in pieces of this size, to a parser that says whether it goes on.
fn feed(
    (what, bounds): (&str, Bounds),
    (begin, unit): (&str, &str),
    size: usize,
    mut push: impl FnMut(&[u8]) -> bool,
) {
    let before = resident();
    let mut input = unit.repeat(size.div_ceil(unit.len()) + 1).into_bytes();
    // A whole number of units, so that pieces can follow each other.
    input.truncate(input.len() / unit.len() * unit.len());
    let mut fed = 0;
    let mut looked = 0;
    if !push(begin.as_bytes()) {
        return;
    }
    while fed < bounds.fed {
        for piece in input.chunks(size) {
            if !push(piece) {
                return;
            }
            fed += piece.len();
        }
        if fed - looked >= LOOK {
            looked = fed;
            let taken = resident().saturating_sub(before);
            assert!(
                taken < bounds.ceiling,
                "{what}: {taken} bytes after {fed} of {begin:?}, then {unit:?}, by {size}"
            );
        }
    }
}

fn stream(call: Call) -> EventStream {
    EventStream::new(StreamOptions {
        call,
        identity: Identity::of(call, 1, "a", "pub/m"),
        wants_usage: true,
        created: 7,
        expected: Expected::default(),
    })
}

/// How a stream begins that has content, and one that has none yet.
const OPENINGS: [(Call, &str); 5] = [
    (Call::Chat, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"),
    (Call::Completions, "data: {\"choices\":[{\"index\":0,\"text\":\"x\"}]}\n\n"),
    (
        Call::Messages,
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n",
    ),
    (
        Call::Responses,
        "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"x\"}\n\n",
    ),
    (Call::ImageEdits, "data: {\"type\":\"image_edit.partial_image\",\"b64_json\":\"QQ==\"}\n\n"),
];

/// Ways in which a line or an event need not end, each with its beginning.
const LINES: [(&str, &str); 7] = [
    ("data: {\"a\":\"", "x"),
    ("data: {\n", "data: \"a\":[\n"),
    ("", "data\n"),
    ("", "data: x\n"),
    ("", "x"),
    ("{", "x"),
    ("error: ", "x"),
];

/// Ways in which a stream need not end though its events do.
const EVENTS: [(&str, &str); 9] = [
    ("", "\n"),
    ("", "\r\n"),
    ("", ": ping\n\n"),
    ("", "event: error\n"),
    ("", "id: 1\nretry: 1\n"),
    ("", "data: {}\n\n"),
    ("", "data: {\"type\":\"ping\"}\n\n"),
    ("", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n"),
    ("", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n"),
];

/// Ways in which a JSON answer need not end.
const ANSWERS: [(&str, &str); 14] = [
    ("{\"", "name"),
    ("{\"choices\":[{\"", "name"),
    ("{\"choices\":[{\"message\":{\"", "name"),
    ("{\"", "\\u0061"),
    ("{\"usage\":\"", "x"),
    ("{\"usage\":{\"", "x"),
    ("{\"usage\":", "[{"),
    ("{\"error\":", " "),
    ("{\"error\":\"", "x"),
    ("{\"choices\":", "["),
    ("{\"choices\":[", "{},"),
    ("{\"data\":[", "{\"b64_json\":\"x\"},"),
    ("{", "\"id\":1,"),
    ("{\"choices\":[{\"finish_reason\":", " "),
];

fn framers(size: usize) {
    for (begin, unit) in LINES.into_iter().chain(EVENTS) {
        let mut framer = Framer::new(SHORT_LINE);
        feed(("framer", SMALL), (begin, unit), size, |piece| {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        });
    }
}

fn streams(size: usize) {
    for (call, opening) in OPENINGS {
        let long = format!("data: {}\n", " ".repeat(4096));
        let lines = [("data: {\"a\":\"", "x"), ("", "x"), ("", &*long)].map(|kind| (kind, LINE)).into_iter();
        for ((begin, unit), bounds) in lines.chain(EVENTS.map(|kind| (kind, SMALL))) {
            for opening in ["", opening] {
                let mut stream = stream(call);
                feed(("stream", bounds), (&format!("{opening}{begin}"), unit), size, |piece| {
                    let step = stream.push(piece);
                    // What is held back before content is not taken, as over the wire.
                    if step != Step::Preamble {
                        let _ = stream.take();
                    }
                    matches!(step, Step::Preamble | Step::Content)
                });
            }
        }
    }
}

fn rewriters(size: usize) {
    for (begin, unit) in ANSWERS {
        for call in [Call::Chat, Call::Messages, Call::Responses, Call::ImageEdits] {
            let mut rewriter = Identity::of(call, 1, "a", "pub/m").watching_rewriter();
            let mut out = BytesMut::new();
            feed(("rewriter", SMALL), (begin, unit), size, |piece| {
                rewriter.push(piece, &mut out);
                out.clear();
                !rewriter.has_failed()
            });
        }
    }
}

fn bombs(size: usize) {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 32 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    let before = resident();
    let mut inflater = Inflater::default();
    for piece in bomb.chunks(size) {
        inflater.push(Bytes::copy_from_slice(piece));
        while let Some(part) = inflater.next_part().unwrap() {
            assert!(part.len() < 1 << 20);
            assert!(resident().saturating_sub(before) < 2 * SMALL.ceiling, "a bomb by {size}");
        }
    }
    let mut film = Film::default();
    feed(("video", SMALL), ("", "\u{0}x\u{1}"), size, |piece| {
        let _ = film.push(piece);
        true
    });
}

/// Goal: no input makes a parser's memory grow without a bound.
/// Method: each kind of input at pieces of random sizes; a parser that refuses is done.
#[test]
fn endless_inputs_take_bounded_memory() {
    let mut runner = TestRunner::new(Config { cases: 1, failure_persistence: None, ..Config::default() });
    let sizes = prop_oneof![1usize << 10..1 << 14, 1usize << 14..1 << 17];
    let ran = runner.run(&sizes, |size| {
        framers(size);
        streams(size);
        rewriters(size);
        bombs(size);
        Ok(())
    });
    ran.unwrap();
}
