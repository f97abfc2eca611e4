//! What has changed between two configurations, in an operator's words (spec 12.3).
//!
//! Secrets are compared and never shown. Whoever adds a member to the configuration has to say here how its change is told:
//! without that nothing compiles.

use super::types::{Account, Channel, Config, Key, Model, Provider, Server};
use std::fmt::Display;

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
        admin: _,
        store: _,
        sandbox: _,
    } = new;
    let mut made = Vec::new();
    things("model", (&old.models, models), |model| &model.id, of_model, &mut made);
    things("channel", (&old.channels, channels), |channel| &channel.id, of_channel, &mut made);
    things("account", (&old.accounts, accounts), |account| &account.id, of_account, &mut made);
    things("key", (&old.keys, keys), |key| &key.id, of_key, &mut made);
    for (what, same) in [
        ("limits", old.limits == *limits),
        ("defaults", old.retry == *retry),
        ("errors", old.errors == *errors),
        ("cors", old.cors == *cors),
        ("classify", old.classify == *classify),
        ("server", in_place(&old.server) == in_place(server)),
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
    // Listed whole, as above.
    let Server {
        health_path,
        body_max,
        body_timeout,
        header_max,
        header_timeout,
        hold_max,
        replay_max,
        max_connections,
        keepalive,
        write_timeout,
        trusted_proxies,
        tls,
        listen: _,
        listen_h2c: _,
        threads: _,
        seal_key: _,
        drain: _,
        grace: _,
    } = server;
    let bounds = (
        *body_max,
        *body_timeout,
        *header_max,
        *header_timeout,
        *hold_max,
        *replay_max,
        *max_connections,
        *keepalive,
        *write_timeout,
    );
    (bounds, health_path.clone(), trusted_proxies.clone(), tls.clone())
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
        assert_eq!(changes(&old, &old), Changes::default());
        let new = config(
            "# heavy\nserver: { threads: 63, body_max: 1MiB }\ncors: { origins: [\"https://a.example\"] }\nmodels: [{ id: m/x, price: { input: \"1\", output: \"2\" }, output_max: 9, hedge: true }, { id: m/new, free: true }]",
        );
        let Changes { made, after_restart } = changes(&old, &new);
        let expected = [
            "model m/old: removed",
            "model m/x: price, output_max none → 9, hedge false → true",
            "model m/new: added",
            "channel c: weight 1 → 7",
            "cors: changed",
            "server: changed",
        ];
        assert_eq!((made, after_restart), (expected.map(str::to_owned).to_vec(), vec!["server.threads"]));
    }
}
