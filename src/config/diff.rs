//! What has changed between two configurations, in an operator's words (spec 12.3).
//!
//! Secrets are compared and never shown. Whoever adds a member to the configuration has to say here how its change is told:
//! without that nothing compiles.

use super::tls::Tls;
use super::types::{Account, Admin, Channel, Config, Errors, Key, Model, Provider, Retry, Server};
use crate::core::limits::Limited;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

/// The differences between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is in force with the new one, a sentence each.
    pub made: Vec<String>,
    /// What a running process cannot change; it is in force after a restart.
    pub after_restart: Vec<&'static str>,
}

/// Compares `new` with `old`, and with what the process was `started` with: what takes a restart stays what that says,
/// however often others are loaded.
#[must_use]
pub fn changes(started: &Config, old: &Config, new: &Config) -> Changes {
    // Listed whole; what is left out here takes a restart, and is told there.
    let Config {
        server,
        errors,
        cors,
        models,
        channels,
        accounts,
        keys,
        classify,
        retry,
        limits,
        admin,
        store: _,
        sandbox: _,
    } = new;
    let mut made = Vec::new();
    things("model", (&old.models, models), |model| &model.id, of_model, &mut made);
    things("channel", (&old.channels, channels), |channel| &channel.id, of_channel, &mut made);
    things("account", (&old.accounts, accounts), |account| &account.id, of_account, &mut made);
    things("key", (&old.keys, keys), |key| &key.id, of_key, &mut made);
    for (what, told) in [
        ("limits", of_limits(&old.limits, limits)),
        ("defaults", of_retry(&old.retry, retry)),
        ("errors", of_errors(&old.errors, errors)),
        ("server", of_server(&old.server, server)),
        ("admin", of_admin(&old.admin, admin)),
    ] {
        if !told.is_empty() {
            made.push(format!("{what}: {}", told.join(", ")));
        }
    }
    for (what, same) in [("cors", old.cors == *cors), ("classify", old.classify == *classify)] {
        if !same {
            made.push(format!("{what}: changed"));
        }
    }
    Changes { made, after_restart: after_restart(started, new) }
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
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("store.path", old.store != new.store),
        ("sandbox", old.sandbox != new.sandbox),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// Says of each thing whether it came, went or changed.
fn things<T: PartialEq>(
    kind: &str,
    (old, new): (&[T], &[T]),
    name: impl Fn(&T) -> &String,
    of: impl Fn(&T, &T) -> Vec<String>,
    made: &mut Vec<String>,
) {
    let known: HashSet<&String> = new.iter().map(&name).collect();
    for thing in old.iter().filter(|thing| !known.contains(name(thing))) {
        made.push(format!("{kind} {}: removed", name(thing)));
    }
    let before: HashMap<&String, &T> = old.iter().map(|thing| (name(thing), thing)).collect();
    for thing in new {
        match before.get(name(thing)) {
            None => made.push(format!("{kind} {}: added", name(thing))),
            Some(before) if *before == thing => {}
            Some(before) => made.push(format!("{kind} {}: {}", name(thing), of(before, thing).join(", "))),
        }
    }
}

/// What is told of each member of a thing that has changed; all of its members have to be there.
macro_rules! told {
    ($thing:ident, $old:ident, $new:ident, { $($member:ident: $tell:ident $name:literal),* $(,)? }) => {{
        let $thing { $($member: _),* } = $new;
        let told: [Option<String>; _] = [$($tell($name, &$old.$member, &$new.$member)),*];
        told.into_iter().flatten().collect()
    }};
}

fn of_server(old: &Server, new: &Server) -> Vec<String> {
    told!(Server, old, new, {
        health_path: optional "health_path",
        body_max: shown "body_max (bytes)",
        body_total_max: optional "body_total_max (bytes)",
        inflation_max: shown "inflation_max",
        body_timeout: time "body_timeout",
        header_max: shown "header_max (bytes)",
        header_timeout: time "header_timeout",
        hold_max: shown "hold_max (bytes)",
        replay_max: shown "replay_max (bytes)",
        max_connections: shown "max_connections",
        keepalive: time "keepalive",
        connection_age: time "connection_age",
        connections_per_address: optional "connections_per_address",
        overload: named "overload",
        write_timeout: time "write_timeout",
        trusted_proxies: named "trusted_proxies",
        tls: certificate "tls",
        listen: elsewhere "",
        listen_h2c: elsewhere "",
        threads: elsewhere "",
        seal_key: elsewhere "",
        drain: elsewhere "",
        grace: elsewhere "",
    })
}

fn of_admin(old: &Admin, new: &Admin) -> Vec<String> {
    told!(Admin, old, new, {
        listen: elsewhere "",
        token: named "token",
        allowed_hosts: named "allowed_hosts",
    })
}

fn of_errors(old: &Errors, new: &Errors) -> Vec<String> {
    told!(Errors, old, new, {
        unknown_model: shown "unknown_model",
        stream_overflow_clients: named "stream_overflow_clients",
    })
}

fn of_retry(old: &Retry, new: &Retry) -> Vec<String> {
    told!(Retry, old, new, {
        budget_ratio: shown "retry.budget_ratio",
        failover_wait: time "retry.failover_wait",
        times: named "how long what fails rests",
    })
}

fn of_limits(old: &Limited, new: &Limited) -> Vec<String> {
    told!(Limited, old, new, {
        rpm: optional "rpm",
        tpm: optional "tpm",
        concurrency: optional "concurrency",
        shadow: shown "shadow",
    })
}

fn of_model(old: &Model, new: &Model) -> Vec<String> {
    told!(Model, old, new, {
        id: named "id",
        kind: named "kind",
        tariff: named "price",
        limits: named "limits",
        images: named "rules of images",
        unsupported: named "unsupported",
        context_window: optional "context_window",
        output_max: optional "output_max",
        choices_max: optional "choices_max",
        seconds_default: shown "seconds_default",
        seconds_max: optional "seconds_max",
        hedge: shown "hedge",
        verification: shown "verification",
        created: named "created",
        tokenizer: named "tokenizer",
        image_tokens: named "image_tokens",
    })
}

fn of_channel(old: &Channel, new: &Channel) -> Vec<String> {
    told!(Channel, old, new, {
        id: named "id",
        enabled: shown "enabled",
        weight: shown "weight",
        priority: shown "priority",
        provider: provider "provider",
        base_url: named "base_url",
        api_version: optional "api_version",
        credentials: named "credentials",
        models: named "models",
        apis: named "apis",
        groups: named "groups",
        unsupported: named "unsupported",
        limits: named "limits",
        timeouts: named "timeouts",
        attempts: shown "attempts",
        context_window: optional "context_window",
        stream_usage: shown "stream_usage",
        status_map: named "status_map",
        trusted: shown "trusted",
        pass_headers: named "pass_headers",
        pass_members: named "pass_members",
        http2: shown "http2",
        ca: named "ca",
        sni: optional "sni",
        video: named "video",
    })
}

fn of_account(old: &Account, new: &Account) -> Vec<String> {
    told!(Account, old, new, {
        id: named "id",
        verified: shown "verified",
        group: optional "group",
        limits: named "limits",
        billing: named "billing",
        credit: named "credit (which is booked once, and has no effect)",
    })
}

fn of_key(old: &Key, new: &Key) -> Vec<String> {
    told!(Key, old, new, {
        id: named "id",
        account: shown "account",
        name: named "name",
        enabled: shown "enabled",
        expires: named "expires",
        digest: named "digest",
        minted: named "how it is made",
        models: named "models",
        group: optional "group",
        quota: optional "quota",
        ips: named "ips",
        limits: named "limits",
    })
}

/// A change of which the values are not shown.
fn named<T: PartialEq>(name: &str, old: &T, new: &T) -> Option<String> {
    (old != new).then(|| name.to_owned())
}

fn shown<T: PartialEq + Display>(name: &str, old: &T, new: &T) -> Option<String> {
    (old != new).then(|| format!("{name} {old} → {new}"))
}

fn optional<T: PartialEq + Display>(name: &str, old: &Option<T>, new: &Option<T>) -> Option<String> {
    let text = |value: &Option<T>| value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    (old != new).then(|| format!("{name} {} → {}", text(old), text(new)))
}

fn time(name: &str, old: &Duration, new: &Duration) -> Option<String> {
    let text = |time: &Duration| humantime::format_duration(*time).to_string();
    shown(name, &text(old), &text(new))
}

/// A certificate that was renewed in its place, or is taken from other files.
fn certificate(name: &str, old: &Option<Tls>, new: &Option<Tls>) -> Option<String> {
    let changed = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| old != new);
    changed.then(|| format!("{name} (certificate and key are read anew)"))
}

/// What is told among the changes that take a restart.
fn elsewhere<T>(_: &str, _: &T, _: &T) -> Option<String> {
    None
}

fn provider(name: &str, old: &Provider, new: &Provider) -> Option<String> {
    shown(name, &old.as_str(), &new.as_str())
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
        assert_eq!(changes(&old, &old, &old), Changes::default());
        let new = config(
            "# heavy\nserver: { threads: 63, body_max: 1MiB, keepalive: 7s }\nlimits: { rpm: 9 }\nerrors: { unknown_model: 404 }\n\
             admin: { token: { value: t }, listen: \"127.0.0.1:1\" }\ndefaults: { retry: { failover_wait: 3s } }\ncors: { origins: [\"https://a.example\"] }\nmodels: [{ id: m/x, price: { input: \"1\", output: \"2\" }, output_max: 9, hedge: true }, { id: m/new, free: true }]",
        );
        let Changes { made, after_restart } = changes(&old, &old, &new);
        let expected = [
            "model m/old: removed",
            "model m/x: price, output_max none → 9, hedge false → true",
            "model m/new: added",
            "channel c: weight 1 → 7",
            "limits: rpm none → 9",
            "defaults: retry.failover_wait 1s → 3s",
            "errors: unknown_model 503 → 404",
            "server: body_max (bytes) 33554432 → 1048576, keepalive 1m 15s → 7s",
            "admin: token",
            "cors: changed",
        ];
        let restarts = vec!["server.threads", "admin.listen"];
        assert_eq!((made, after_restart), (expected.map(str::to_owned).to_vec(), restarts.clone()));
        let again = changes(&old, &new, &new);
        assert_eq!((again.made, again.after_restart), (vec![], restarts), "it still takes a restart");
        assert_eq!(changes(&old, &new, &old).after_restart, Vec::<&str>::new());
    }
}
