//! Ring 2: the configuration, one strict YAML file (spec 12.1).
//!
//! Text becomes a [`tree`] with places, the sections walk it with a [`reader`] that collects every problem, and what
//! comes out is a [`Config`] as meant: checked, defaults applied, secrets read. Unknown and repeated members are
//! problems; members that this version does not act upon yet stand in [`not_yet`]. What the reader asks for, with the
//! descriptions in [`members`], is the [`schema`] and the [`mod@reference`]. The environment is read in
//! [`secret`] and nowhere else.

mod channels;
mod classify;
mod cors;
mod dialect;
pub mod diff;
mod images;
mod keys;
mod keys_file;
mod limits;
mod members;
pub mod mint;
mod models;
mod not_yet;
mod price;
mod problem;
mod quantity;
mod reader;
pub mod reference;
pub mod schema;
mod secret;
mod server;
mod tls;
mod tree;
mod types;
mod unsupported;
mod video;

pub use keys::Minted;
pub(crate) use keys::parse_date;
pub use problem::{Position, Problem, Problems, Severity};
use reader::{Item, Object, Reader};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
pub use tls::{Authorities, Tls};
use tree::Node;
pub use types::{
    Account, Admin, BaseUrl, Billing, Channel, Config, Errors, Key, Model, Polling, Provider, Retry, Sandbox,
    Secret, Server, Store, Tariff, Timeouts,
};

/// A configuration that may be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// Keys that were made because the file asked for it.
    pub minted: Vec<Minted>,
}

/// Reads and checks a file, with the secrets it names.
///
/// # Errors
///
/// Every problem of the file; an error of syntax ends the list.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    read(path, Secrets::Required)
}

/// Reads and checks a file where its secrets are not at hand: those of the environment and of files are placeholders, and the
/// result is good for nothing but being checked.
///
/// # Errors
///
/// As [`load`].
pub fn load_without_secrets(path: &Path) -> Result<Loaded, Problems> {
    read(path, Secrets::Placeholders)
}

/// Bounds of what is read.
pub(crate) mod fixed {
    pub(crate) use super::keys_file::{
        FILE_BYTES_MAX as KEYS_FILE_BYTES_MAX, LINE_BYTES_MAX as KEYS_LINE_BYTES_MAX,
    };
    pub(crate) use super::tree::{DEPTH_MAX, TEXT_BYTES_MAX};
}

/// The list of revoked keys in the folder of the store, a digest and the id of its key on each line. The gateway keeps it; it is
/// read to warn of keys that are in the configuration and revoked, and nothing else depends on it.
pub const REVOKED_FILE: &str = "revoked-keys.txt";

/// What becomes of secrets that the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// They are read, and one that is not there is a problem.
    Required,
    /// They are not read.
    Placeholders,
}

fn read(path: &Path, secrets: Secrets) -> Result<Loaded, Problems> {
    let refused = |problem| Problems { file: path.to_owned(), list: vec![problem] };
    let unreadable = |e: &std::io::Error| Problem::new(Position::default(), String::new(), unreadable(e));
    let size = std::fs::metadata(path).map_err(|e| refused(unreadable(&e)))?.len();
    if size > tree::TEXT_BYTES_MAX as u64 {
        return Err(refused(tree::too_large(Position::default())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| refused(unreadable(&e)))?;
    let root = tree::parse(&text).map_err(refused)?;
    // The tree has all of it.
    drop(text);
    check(&root, path, &secret::process_env, secrets)
}

/// Why a file could not be read, in the words of a shell.
pub(crate) fn unreadable(e: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match e.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a folder".to_owned(),
        ErrorKind::InvalidData => "is no text in UTF-8".to_owned(),
        kind => format!("cannot be read: {kind}"),
    }
}

/// The admin token of the environment, for commands that ask a running gateway.
pub(crate) fn admin_token() -> Option<String> {
    secret::process_env("TIDEGATE_ADMIN_TOKEN")
}

/// Checks a text as if it stood in `file`, with `env` as environment.
///
/// # Errors
///
/// As [`load`].
pub fn parse(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let root = tree::parse(text);
    let root = root.map_err(|problem| Problems { file: file.to_owned(), list: vec![problem] })?;
    check(&root, file, env, Secrets::Required)
}

fn check(
    root: &Node,
    file: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
) -> Result<Loaded, Problems> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut reader = Reader::new(env, folder);
    reader.without_secrets = secrets == Secrets::Placeholders;
    let read = Item { reader: &reader, path: String::new(), node: root }.object().and_then(root_section);
    let is_right = !reader.has_errors();
    let list = reader.finish();
    match read {
        Some((config, minted)) if is_right => Ok(Loaded { config, warnings: list, minted }),
        _ => Err(Problems { file: file.to_owned(), list }),
    }
}

fn root_section(root: Object<'_>) -> Option<(Config, Vec<Minted>)> {
    if let Some(version) = root.required("version") {
        version.number::<u8>(1..=1);
    }
    let sandbox = root.get("sandbox").and_then(|item| server::sandbox(&item));
    let defaults = channels::defaults(root.get("defaults"));
    let store = server::store(root.get("store"), root.folder());
    let limits = limits::limits(root.get("limits"));
    let server = server::server(root.get("server"));
    let admin = server::admin(root.get("admin"));
    let errors = server::errors(root.get("errors"));
    let cors = root.get("cors").and_then(|item| cors::cors(&item));
    let models = models::models(root.required("models"));
    let channels = channels::channels(root.required("channels"), &models, &defaults);
    let classify = classify::rules(root.get("classify"));
    let accounts = keys::accounts(root.get("accounts"));
    root.reader().note_revoked(&store.path);
    let listed = (root.get("keys"), root.get("keys_file"));
    let (keys, minted) = keys::keys(listed, (&accounts, &models), sandbox.is_some());
    if let Some(list) = root.get("models").filter(|list| !list.reader.has_errors()) {
        warn_of_idle_models(&list, &models, &channels);
    }
    root.finish();
    Some((
        Config {
            server,
            admin,
            errors,
            cors,
            models,
            channels,
            accounts,
            keys: Arc::new(keys),
            classify,
            retry: defaults.retry,
            limits,
            store,
            sandbox,
        },
        minted,
    ))
}

/// A model that nobody serves, or that has no price, is not offered, which is rarely meant.
fn warn_of_idle_models(list: &Item<'_>, models: &[Model], channels: &[Channel]) {
    let served: HashSet<_> = channels
        .iter()
        .filter(|channel| channel.enabled)
        .flat_map(|channel| channel.models.iter().map(|(public, _)| public.as_str()))
        .collect();
    // Without errors each element of the list is a model.
    for (item, model) in list.list().iter().zip(models) {
        if !served.contains(model.id.as_str()) {
            item.warn(format!("no enabled channel serves the model {}", model.id));
        }
        if model.tariff == Tariff::Unknown {
            let message = format!("the model {} has no price and is not offered", model.id);
            item.warn_with(message, "price: {…}, or free: true");
        }
    }
}

/// Whether a text may be the name of a channel, an account or a key.
fn is_name(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !id.is_empty() && id.len() <= 64 && id.chars().all(allowed)
}

/// The `id` of a channel, an account or a key: a label in metrics and logs.
fn name(object: &Object<'_>, seen: &mut HashSet<String>) -> Option<String> {
    let item = object.required("id")?;
    let id = item.text()?;
    if !is_name(id) {
        item.refuse("must be 1 to 64 letters, digits, '.', '_' or '-'");
        return None;
    }
    if !seen.insert(id.to_owned()) {
        item.refuse(format!("is there twice: {id}"));
        return None;
    }
    Some(id.to_owned())
}

#[cfg(test)]
mod tests;
