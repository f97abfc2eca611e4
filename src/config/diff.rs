//! What has changed between two configurations, in an operator's words (spec 12.3).
//!
//! Secrets are compared and never shown.

use super::types::{Account, Channel, Config, Key, Model, Server};
use std::fmt::{Debug, Display};

/// The differences between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is in force with the new one, a sentence each.
    pub made: Vec<String>,
    /// What a running process cannot change; it is in force after a restart.
    pub after_restart: Vec<&'static str>,
}

/// Compares `new` with `old`.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut made = Vec::new();
    things("model", (&old.models, &new.models), |model| &model.id, of_model, &mut made);
    things("channel", (&old.channels, &new.channels), |channel| &channel.id, of_channel, &mut made);
    things("account", (&old.accounts, &new.accounts), |account| &account.id, of_account, &mut made);
    things("key", (&old.keys, &new.keys), |key| &key.id, of_key, &mut made);
    for (what, same) in [
        ("limits", old.limits == new.limits),
        ("defaults", old.retry == new.retry),
        ("errors", old.errors == new.errors),
        ("classify", old.classify == new.classify),
        ("server", in_place(&old.server) == in_place(&new.server)),
    ] {
        if !same {
            made.push(format!("{what}: changed"));
        }
    }
    Changes { made, after_restart: after_restart(old, new) }
}

/// What only a new process can change.
fn after_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = (&old.server, &new.server);
    let changed = [
        ("server.listen", before.listen != after.listen),
        ("server.listen_h2c", before.listen_h2c != after.listen_h2c),
        ("server.tls", before.tls.is_some() != after.tls.is_some()),
        ("server.threads", before.threads != after.threads),
        ("server.seal_key", before.seal_key != after.seal_key),
        ("server.drain", before.drain != after.drain),
        ("server.grace", before.grace != after.grace),
        ("admin", old.admin != new.admin),
        ("store.path", old.store != new.store),
        ("sandbox", old.sandbox != new.sandbox),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// The part of a server that can be changed while it runs.
fn in_place(server: &Server) -> impl PartialEq {
    (
        (server.health_path.clone(), server.body_max, server.body_timeout, server.header_max),
        (server.max_connections, server.keepalive, server.write_timeout, server.trusted_proxies.clone()),
        server.tls.clone(),
    )
}

/// Says of each thing whether it came, went or changed.
fn things<T: PartialEq>(
    kind: &str,
    (old, new): (&[T], &[T]),
    name: impl Fn(&T) -> &String,
    of: impl Fn(&T, &T) -> Vec<String>,
    made: &mut Vec<String>,
) {
    for thing in old.iter().filter(|thing| !new.iter().any(|other| name(other) == name(thing))) {
        made.push(format!("{kind} {}: removed", name(thing)));
    }
    for thing in new {
        match old.iter().find(|other| name(other) == name(thing)) {
            None => made.push(format!("{kind} {}: added", name(thing))),
            Some(before) if before == thing => {}
            Some(before) => {
                let told = of(before, thing);
                let told = if told.is_empty() { "changed".to_owned() } else { told.join(", ") };
                made.push(format!("{kind} {}: {told}", name(thing)));
            }
        }
    }
}

fn of_model(old: &Model, new: &Model) -> Vec<String> {
    let mut told = Vec::new();
    note("price", old.tariff != new.tariff, &mut told);
    note("limits", old.limits != new.limits, &mut told);
    note("rules of images", old.images != new.images, &mut told);
    shown("context_window", &old.context_window, &new.context_window, &mut told);
    shown("output_max", &old.output_max, &new.output_max, &mut told);
    told
}

fn of_channel(old: &Channel, new: &Channel) -> Vec<String> {
    let mut told = Vec::new();
    told_if("enabled", &old.enabled, &new.enabled, &mut told);
    told_if("weight", &old.weight, &new.weight, &mut told);
    told_if("priority", &old.priority, &new.priority, &mut told);
    told_if("provider", &old.provider.as_str(), &new.provider.as_str(), &mut told);
    note("base_url", old.base_url != new.base_url, &mut told);
    shown("api_version", &old.api_version, &new.api_version, &mut told);
    note("credentials", old.credentials != new.credentials, &mut told);
    note("models", old.models != new.models, &mut told);
    note("limits", old.limits != new.limits, &mut told);
    note("timeouts", old.timeouts != new.timeouts, &mut told);
    told
}

fn of_account(old: &Account, new: &Account) -> Vec<String> {
    let mut told = Vec::new();
    told_if("verified", &old.verified, &new.verified, &mut told);
    note("limits", old.limits != new.limits, &mut told);
    note("billing", old.billing != new.billing, &mut told);
    note("credit (which is booked once, and has no effect)", old.credit != new.credit, &mut told);
    told
}

fn of_key(old: &Key, new: &Key) -> Vec<String> {
    let mut told = Vec::new();
    told_if("enabled", &old.enabled, &new.enabled, &mut told);
    note("digest", old.digest != new.digest, &mut told);
    note("models", old.models != new.models, &mut told);
    note("limits", old.limits != new.limits, &mut told);
    note("quota", old.quota != new.quota, &mut told);
    told
}

fn told_if<T: PartialEq + Display>(name: &str, old: &T, new: &T, told: &mut Vec<String>) {
    if old != new {
        told.push(format!("{name} {old} → {new}"));
    }
}

fn shown<T: PartialEq + Debug>(name: &str, old: &Option<T>, new: &Option<T>, told: &mut Vec<String>) {
    let text =
        |value: &Option<T>| value.as_ref().map_or_else(|| "none".to_owned(), |value| format!("{value:?}"));
    if old != new {
        told.push(format!("{name} {} → {}", text(old), text(new)));
    }
}

fn note(name: &str, changed: bool, told: &mut Vec<String>) {
    if changed {
        told.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        let text = format!(
            "version: 1\n{text}\naccounts: [{{ id: a }}]\nchannels:\n  - {{ id: c, provider: openai, base_url: \"http://h/v1\", \
             credentials: [{{ value: s1 }}], models: {{ m/x: x }}, weight: WEIGHT }}\n"
        );
        let text =
            if text.contains("# heavy") { text.replace("WEIGHT", "7") } else { text.replace("WEIGHT", "1") };
        super::super::parse(&text, Path::new("t.yaml"), &|_| None).unwrap().config
    }

    /// Goal: what came, went and changed is told by name; what needs a restart is told apart; what is the same is not told.
    #[test]
    fn differences_are_told() {
        let old = config("models: [{ id: m/x, free: true }, { id: m/old, free: true }]");
        assert_eq!(changes(&old, &old), Changes::default());
        let new = config(
            "# heavy\nserver: { threads: 63, body_max: 1MiB }\nmodels: [{ id: m/x, price: { input: \"1\", output: \"2\" } }, { id: m/new, free: true }]",
        );
        let Changes { made, after_restart } = changes(&old, &new);
        let expected = [
            "model m/old: removed",
            "model m/x: price",
            "model m/new: added",
            "channel c: weight 1 → 7",
            "server: changed",
        ];
        assert_eq!((made, after_restart), (expected.map(str::to_owned).to_vec(), vec!["server.threads"]));
    }
}
