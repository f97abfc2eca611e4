//! How far the token estimate is from exact counts, and what it costs.
//!
//! Arguments are texts as `NAME=PATH`; the same name may be given again, and a folder stands for all files below it. Each
//! text is cut into chunks of 2 KB. The table has the mean error of a chunk, and the share of chunks for which less than
//! 90 % of the exact count would be reserved. Without arguments only the times are printed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it prints its figures and may fail"
)]

use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tidegate::core::estimate::{Family, Features, Learned, Prompt};
use tidegate::wire::exact;
use tidegate::wire::prompt::{self, Member};

const CHUNK_BYTES: usize = 2_048;
/// Chunks taken of one name, spread evenly.
const CHUNKS_MAX: usize = 2_000;
const ROUNDS: usize = 15;

fn main() {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for argument in std::env::args().skip(1) {
        let (name, path) = argument.split_once('=').unwrap();
        gather(Path::new(path), texts.entry(name.to_owned()).or_default());
    }
    let began = Instant::now();
    exact::warm(Family::O200k);
    println!("vocabulary of o200k: {:.0} ms at its first use\n", began.elapsed().as_secs_f64() * 1e3);
    if !texts.is_empty() {
        table(&texts);
    }
    times();
}

/// The chunks of a file, or of all files of a folder.
fn gather(path: &Path, chunks: &mut Vec<String>) {
    if path.is_dir() {
        let mut inside: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        inside.iter().for_each(|path| gather(path, chunks));
    } else if let Ok(text) = std::fs::read_to_string(path) {
        let mut rest = text.as_str();
        while rest.len() >= CHUNK_BYTES {
            let (chunk, tail) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES));
            chunks.push(chunk.to_owned());
            rest = tail;
        }
    }
}

/// What a set of chunks came to.
#[derive(Default)]
struct Errors {
    chunks: usize,
    exact: u64,
    estimated: u64,
    absolute: f64,
    short: usize,
}

impl Errors {
    fn add(&mut self, chunk: &str, family: Family) {
        let mut features = Features::default();
        features.add_text(chunk);
        let (exact, estimated) = (exact::tokens(chunk, family).unwrap(), family.tokens(&features));
        self.chunks += 1;
        self.exact += exact;
        self.estimated += estimated;
        self.absolute += estimated.abs_diff(exact) as f64 / exact as f64;
        self.short += usize::from(Learned::default().reserve(estimated) * 10 < exact * 9);
    }

    fn merge(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.exact += other.exact;
        self.estimated += other.estimated;
        self.absolute += other.absolute;
        self.short += other.short;
    }

    /// Mean error, bias and share of what is reserved too little for, in hundredths.
    fn row(&self) -> String {
        let chunks = self.chunks.max(1) as f64;
        let bias = self.estimated as f64 / self.exact.max(1) as f64 - 1.0;
        let (mean, short) = (100.0 * self.absolute / chunks, 100.0 * self.short as f64 / chunks);
        format!("{mean:.1} % | {:+.1} % | {short:.2} %", 100.0 * bias)
    }
}

fn table(texts: &BTreeMap<String, Vec<String>>) {
    println!("| text | chunks | o200k: mean error | bias | short | cl100k: mean error | bias | short |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut all = [Errors::default(), Errors::default()];
    for (name, chunks) in texts {
        let mut rows = [Errors::default(), Errors::default()];
        for chunk in chunks.iter().step_by(chunks.len().div_ceil(CHUNKS_MAX).max(1)) {
            rows[0].add(chunk, Family::O200k);
            rows[1].add(chunk, Family::Cl100k);
        }
        println!("| {name} | {} | {} | {} |", rows[0].chunks, rows[0].row(), rows[1].row());
        all.iter_mut().zip(&rows).for_each(|(all, row)| all.merge(row));
    }
    println!("| all | {} | {} | {} |", all[0].chunks, all[0].row(), all[1].row());
}

/// The middle time of a few rounds, in microseconds.
fn micros(mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

const ENGLISH: &str = "The gateway reads a request once, and admits or refuses it by one list of rules.\n\
    What was taken before a refusal is given back: nothing is charged, and no counter drifts.\n";

fn times() {
    let english = |bytes: usize| ENGLISH.repeat(bytes / ENGLISH.len() + 1);
    println!("\n| what | estimate alone | validation alone | walk | exact count |\n|---|---|---|---|---|");
    let parts = 2_048;
    let rows = [
        ("a delta of 4 bytes", " set".to_owned(), String::new()),
        ("2 KB of English", english(parts), String::new()),
        ("1 MB of English", english(1 << 20), String::new()),
        ("1 MB of Chinese", "网关只读一次请求，然后接纳或拒绝。".repeat((1 << 20) / 51), String::new()),
        (
            "1 MB of JSON in a string",
            r#"{"id": 17, "name": "x_y", "ok": [true, 1.5]}"#.repeat((1 << 20) / 44),
            String::new(),
        ),
        ("a million spaces", " ".repeat(1_000_000), String::new()),
        ("a million `a`", "a".repeat(1_000_000), String::new()),
        ("an image of 30 MB", "what is this?".to_owned(), "iVBORw0KGgo/".repeat(30_000_000 / 12)),
    ];
    for (name, text, image) in rows {
        let alone = micros(|| {
            let mut features = Features::default();
            features.add_text(black_box(&text));
            black_box(features);
        });
        let body = body(&text, &image);
        let validated = micros(|| _ = black_box(serde_json::from_str::<&RawValue>(&body).unwrap()));
        let value = serde_json::from_str(&body).unwrap();
        let walked = micros(|| _ = black_box(walk(value)));
        let counted = micros(|| _ = black_box(exact::tokens(&text, Family::O200k)));
        println!("| {name} | {alone:.1} µs | {validated:.1} µs | {walked:.1} µs | {counted:.0} µs |");
    }
}

/// A chat of one message, with an image if there is one.
fn body(text: &str, image: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    let image = match image {
        "" => String::new(),
        data => format!(r#",{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#),
    };
    format!(r#"[{{"role":"user","content":[{{"type":"text","text":{text}}}{image}]}}]"#)
}

/// What the walk adds to the pass that validates a body.
fn walk(messages: &RawValue) -> Prompt {
    let mut found = Prompt::default();
    prompt::read(Member::Conversation, messages, |piece| found.add(piece));
    found
}
