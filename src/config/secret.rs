//! Secrets: from the environment, from a file, or in the text; never a plain word, never shown (spec 12.1).

use super::reader::{Form, Item};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A secret; its value is in no `Debug` and is wiped when the last copy goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a value over.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Arc::new(Zeroizing::new(value)))
    }

    /// The value, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A variable of the process's environment; the only place that reads it.
#[allow(clippy::disallowed_methods, reason = "secrets come from the environment here and nowhere else")]
pub(super) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads `{env: X}`, `{file: path}` or `{value: …}`.
pub(super) fn read(item: &Item<'_>) -> Option<Secret> {
    if matches!(item.node.value, super::tree::Value::Text(_)) {
        item.refuse_with("is a secret in plain text", "write {env: NAME}, {file: PATH} or {value: \"…\"}");
        return None;
    }
    let object = item.object()?;
    let given = [object.get("env"), object.get("file"), object.get("value")];
    object.finish();
    given.iter().flatten().for_each(|source| source.as_form(Form::Text));
    let value = match &given {
        [Some(env), None, None] => from_env(env)?,
        [None, Some(file), None] => from_file(file)?,
        [None, None, Some(value)] => value.text()?.to_owned(),
        _ => {
            item.refuse_with("needs exactly one source", "env, file or value");
            return None;
        }
    };
    let shown = value.chars().all(|c| ('\u{21}'..='\u{7e}').contains(&c));
    if value.is_empty() || !shown {
        item.refuse("is empty, or has characters that cannot be sent in a header");
        return None;
    }
    Some(Secret::new(value))
}

/// Placeholder of a secret that is not read.
const PLACEHOLDER: &str = "placeholder";

fn from_env(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    if item.reader.without_secrets {
        return Some(PLACEHOLDER.to_owned());
    }
    let value = (item.reader.env)(name);
    if value.is_none() {
        item.refuse(format!("the environment has no {name}"));
    }
    value
}

fn from_file(item: &Item<'_>) -> Option<String> {
    let path = item.reader.folder.join(item.text()?);
    if item.reader.without_secrets {
        return Some(PLACEHOLDER.to_owned());
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(e) => {
            item.refuse(format!("{}: {}", path.display(), super::unreadable(&e)));
            None
        }
    }
}
