//! `tidegate keys new` and `tidegate keys hash` (spec 5.2)

use super::{EXIT_RUNTIME, EXIT_USAGE, Ended, complain, say};
use crate::config::mint;
use std::io;
use std::process::ExitCode;

/// Makes a key; it is shown here and nowhere else.
pub(super) fn new() -> Ended {
    let key = match mint::mint() {
        Ok(key) => key,
        Err(e) => return complain(EXIT_RUNTIME, format_args!("no randomness: {e}")),
    };
    say(format_args!("key:    {key}"));
    say(format_args!("digest: {}", mint::digest_text(&mint::digest(&key))));
    Ok(ExitCode::SUCCESS)
}

/// Prints the digest of a key that is given on standard input, so that it is in no shell history.
pub(super) fn hash() -> Ended {
    let mut line = String::new();
    if let Err(e) = io::stdin().read_line(&mut line) {
        return complain(EXIT_RUNTIME, format_args!("standard input: {e}"));
    }
    let key = line.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return complain(EXIT_USAGE, "expected a key on standard input");
    }
    if key.starts_with("tg_") && !mint::checksum_ok(key) {
        return complain(EXIT_USAGE, "the checksum of this key is wrong: it was not copied in full");
    }
    say(mint::digest_text(&mint::digest(key)));
    Ok(ExitCode::SUCCESS)
}
