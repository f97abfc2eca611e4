//! The file of `keys_file`: keys by the hundred thousand, one a line.
//!
//! A line is a digest, an id and an account (`sha256:… ID ACCOUNT`; the account may be left out where there is only one), or a
//! JSON object with the members of `keys[]`. Empty lines and lines that begin with `#` are skipped. Problems are told by the
//! line of this file, at the place of the member that names it.

use super::keys::{self, Known};
use super::mint;
use super::problem::{Position, Problem, Severity};
use super::reader::{Item, Reader};
use super::tree::{Node, Value};
use super::types::Key;
use crate::core::limits::Limited;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// The longest line, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;
/// The largest file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 30;
/// Problems of one file that are told; the rest are counted.
const TOLD_MAX: usize = 20;

/// Reads the file that `item` names and appends its keys.
pub(super) fn read(item: &Item<'_>, known: &mut Known<'_>, keys: &mut Vec<Key>) {
    let Some(name) = item.text() else { return };
    let path = item.reader.folder.join(name);
    let file = match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((size, file)) if size <= FILE_BYTES_MAX => file,
        Ok(_) => return item.refuse(format!("{name} is larger than {FILE_BYTES_MAX} bytes")),
        Err(e) => return item.refuse(format!("{name}: {}", super::unreadable(&e))),
    };
    // A mapping is read by a reader of its own, whose places are lines of this file.
    let no_secrets = |_: &str| None;
    let reader = item.reader.sharing_revoked(&no_secrets);
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => {
                item.refuse(format!("{name}: {}", super::unreadable(&e)));
                break;
            }
        }
        let at = Position { line: number, column: 1 };
        match text(&line).map(|text| one(text, at, &reader, known)) {
            Ok(Ok(Some(key))) => {
                warn_if_revoked(&key, at, &reader);
                keys.push(key);
            }
            Ok(Ok(None)) => {}
            Ok(Err(message)) => reader.refuse_at(at, message),
            Err(message) => reader.refuse_at(at, message.to_owned()),
        }
    }
    tell(item, name, reader.finish());
}

/// A line of words has no item at which its digest would be read.
fn warn_if_revoked(key: &Key, at: Position, reader: &Reader<'_>) {
    if reader.is_revoked(&key.digest) {
        let node = Node { at, value: Value::Null };
        let item = Item { reader, path: format!("key {}", key.id), node: &node };
        item.warn_with("is revoked, and is refused", keys::REVOKED_HINT);
    }
}

fn text(line: &[u8]) -> Result<&str, &'static str> {
    if line.len() > LINE_BYTES_MAX {
        return Err("is longer than 65536 bytes");
    }
    std::str::from_utf8(line).map(str::trim).map_err(|_| "is no text in UTF-8")
}

/// The key of a line; nothing where the line has none, or where the reader noted what is wrong with it.
fn one(text: &str, at: Position, reader: &Reader<'_>, known: &mut Known<'_>) -> Result<Option<Key>, String> {
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if text.starts_with('{') {
        let value = serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))?;
        let node = node(value, at);
        let item = Item { reader, path: String::new(), node: &node };
        let Some(object) = item.object() else { return Ok(None) };
        let id = super::name(&object, &mut known.ids);
        let digest = keys::given_digest(&item, &object, &mut known.digests);
        let key = keys::key(&object, id, (digest, false), known);
        object.finish();
        return Ok(key);
    }
    plain(text, known).map(Some)
}

/// A key of a line of words.
fn plain(text: &str, known: &mut Known<'_>) -> Result<Key, String> {
    let mut words = text.split_ascii_whitespace();
    let digest = words.next().and_then(mint::parse_digest);
    let digest =
        digest.ok_or("does not begin with a digest (sha256: and 64 hexadecimal digits) or with {")?;
    let id = words.next().ok_or("has no id behind its digest")?;
    let account = match (words.next(), known.accounts.len()) {
        (Some(account), _) => account,
        (None, 1) => known.accounts.iter().next().copied().unwrap_or_default(),
        (None, _) => {
            return Err("names no account, and there is more than one (DIGEST ID ACCOUNT)".to_owned());
        }
    };
    if let Some(word) = words.next() {
        return Err(format!("has one word too many: {word:?} (DIGEST ID ACCOUNT)"));
    }
    if !super::is_name(id) {
        return Err("has an id that is not 1 to 64 letters, digits, '.', '_' or '-'".to_owned());
    }
    if !known.accounts.contains(account) {
        return Err(format!("names an account that is not under accounts: {account:?}"));
    }
    if !known.ids.insert(id.to_owned()) {
        return Err(format!("has the id of another key: {id}"));
    }
    if !known.digests.insert(digest) {
        return Err("has the digest of another key".to_owned());
    }
    Ok(Key {
        id: id.to_owned(),
        account: account.to_owned(),
        name: id.to_owned(),
        enabled: true,
        expires: None,
        digest,
        minted: false,
        models: vec!["*".to_owned()],
        group: None,
        quota: None,
        ips: Vec::new(),
        limits: Limited::default(),
    })
}

/// A value of JSON as the reader reads those of YAML; all of it is at one place.
fn node(value: serde_json::Value, at: Position) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(_)) => Value::Integer(i64::MAX),
            (None, None) => Value::Fraction(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(items) => Value::List(items.into_iter().map(|item| node(item, at)).collect()),
        Json::Object(members) => {
            Value::Map(members.into_iter().map(|(name, value)| (at, name.into(), node(value, at))).collect())
        }
    };
    Node { at, value }
}

/// Tells the problems of the file at the place of the member that names it.
fn tell(item: &Item<'_>, name: &str, problems: Vec<Problem>) {
    let total = problems.len();
    for problem in problems.into_iter().take(TOLD_MAX) {
        let Problem { severity, at, path, message, hint } = problem;
        let path = if path.is_empty() { path } else { format!("{path}: ") };
        let message = format!("{name}:{}: {path}{message}", at.line);
        match (severity, hint) {
            (Severity::Error, Some(hint)) => item.refuse_with(message, hint),
            (Severity::Error, None) => item.refuse(message),
            (Severity::Warning, Some(hint)) => item.warn_with(message, hint),
            (Severity::Warning, None) => item.warn(message),
        }
    }
    if total > TOLD_MAX {
        item.refuse(format!("{name}: and {} more", total - TOLD_MAX));
    }
}
