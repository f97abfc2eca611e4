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
pub use problem::{Position, Problem, Problems};
use reader::{Item, Object, Reader};
use std::collections::HashSet;
use std::path::Path;
pub use tls::{Authorities, Tls};
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
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path, &secret::process_env),
        Err(e) => {
            let problem = Problem {
                at: Position::default(),
                path: String::new(),
                message: format!("cannot be read: {}", e.kind()),
                hint: None,
            };
            Err(Problems { file: path.to_owned(), list: vec![problem] })
        }
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
    let refused = |list| Problems { file: file.to_owned(), list };
    let root = tree::parse(text).map_err(|problem| refused(vec![problem]))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let reader = Reader::new(env, folder);
    let read = Item { reader: &reader, path: String::new(), node: &root }.object().and_then(root_section);
    let (problems, warnings) = reader.finish();
    match read {
        Some((config, minted)) if problems.is_empty() => Ok(Loaded { config, warnings, minted }),
        _ => Err(refused(problems)),
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
    let (keys, minted) = keys::keys(root.get("keys"), &accounts, &models, sandbox.is_some());
    if let Some(list) = root.get("models") {
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
            keys,
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
    for model in models.iter().filter(|model| !served.contains(model.id.as_str())) {
        list.warn(format!("no enabled channel serves the model {}", model.id));
    }
    for model in models.iter().filter(|model| model.tariff == Tariff::Unknown) {
        list.warn(format!(
            "the model {} has no price and is not offered (price: {{…}}, or free: true)",
            model.id
        ));
    }
}

/// The `id` of a channel, an account or a key: a label in metrics and logs.
fn name(object: &Object<'_>, seen: &mut HashSet<String>) -> Option<String> {
    let item = object.required("id")?;
    let id = item.text()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
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
