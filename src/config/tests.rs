use super::*;
use crate::core::api::Api;
use crate::core::limits::Limited;
use crate::core::money::Money;
use crate::core::parameters::Treatment;
use proptest::prelude::*;
use std::time::Duration;

const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

fn env(name: &str) -> Option<String> {
    (name.contains("KEY") || name.contains("TOKEN")).then(|| "secret-of-a-channel".to_owned())
}

fn read(text: &str) -> Result<Loaded, Problems> {
    parse(text, Path::new("t.yaml"), &env)
}

fn problems(text: &str) -> String {
    read(text).map(|_| String::new()).unwrap_or_else(|problems| problems.to_string())
}

/// The sample of spec 12.1 with its digest filled in.
fn sample() -> String {
    format!(
        r#"
version: 1
server:
  listen: ["127.0.0.1:8080"]
  threads: 2
  body_max: 32MiB
  max_connections: 20000
  drain: 5s
  grace: 60s
  trusted_proxies: []
admin:
  listen: "127.0.0.1:9090"
  token: {{ env: TIDEGATE_ADMIN_TOKEN }}
store:
  path: ./data
errors: {{ unknown_model: 503 }}
defaults:
  timeouts: {{ connect: 2s, first_byte: 60s, idle: 120s, total: 10m }}
  retry: {{ attempts: 3, budget_ratio: 0.1 }}
models:
  - id: openai/gpt-5.5
    kind: chat
    context_window: 400000
    output_max: 128000
    price: {{ input: "1.25", output: "10", cache_read: "0.125" }}
channels:
  - id: east
    provider: openai
    base_url: http://127.0.0.1:9000/v1
    credentials: [ {{ env: EAST_KEY }} ]
    models: {{ "openai/gpt-5.5": gpt-5.5 }}
    priority: 0
    weight: 1
    limits: {{ concurrency: 64, rpm: 600, tpm: 300000 }}
accounts:
  - {{ id: acme, verified: true, credit: "25.00" }}
keys:
  - {{ id: acme-prod, account: acme, digest: "{ZERO}", models: ["*"], limits: {{ rpm: 600, tpm: 200000, concurrency: 20 }} }}
"#
    )
}

/// Goal: the sample of the contract is read as it is meant; what has no effect yet is said.
#[test]
fn the_sample_is_read() {
    let loaded = read(&sample()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    let channel = &config.channels[0];
    assert_eq!((channel.base_url.port, channel.base_url.path.as_str()), (9000, "/v1"));
    assert_eq!(channel.credentials[0].expose(), "secret-of-a-channel");
    assert_eq!(channel.models, [("openai/gpt-5.5".to_owned(), "gpt-5.5".to_owned())]);
    let limits = Limited { rpm: Some(600), tpm: Some(200_000), concurrency: Some(20), shadow: false };
    assert_eq!(config.keys[0].limits, limits);
    assert_eq!(config.channels[0].limits.tpm, Some(300_000));
    assert_eq!(config.accounts[0].credit, Money::parse("25"));
    assert_eq!(config.store.path, Path::new("./data"));
    let Tariff::Priced(price) = config.models[0].tariff else { panic!("a price") };
    assert_eq!((price.output.picos(), price.long_context.map(|long| long.from)), (10_000_000, Some(272_000)));
    assert_eq!(config.server.body_max, 32 << 20);
    assert!(!format!("{config:?}").contains("secret-of-a-channel"));
}

/// Goal: every problem of a file is told at once, with its place, path and hint.
#[test]
fn all_problems_at_once() {
    let text = r#"version: 2
sever: {}
server:
  listen: "127.0.0.1:8080"
  body_max: 32
  drain: soon
  drain: 5s
  trusted_proxies: [10.0.0.1, 10.0.0.300]
errors: { unknown_model: 500 }
models:
  - { id: a/b, kind: chta, price: { input: 1.25 } }
  - { id: a/b, price: { input: "1", request: "1e3" }, free: true }
channels:
  - id: east
    provider: azur
    base_url: ftp://x
    credentials: [plain, { env: NOPE }, { env: A_KEY, file: b }]
    models: { c/d: x }
    wieght: 1
    pass_headers: [Authorization]
keys:
  - { id: "k k", account: nobody, digest: "sha256:12", models: ["a*b"] }
  - { id: g, account: nobody, generate: true, expires: never }
"#;
    let expected = r#"t.yaml:1:10: version: must be 1
t.yaml:2:1: sever: is unknown (did you mean server?)
t.yaml:4:11: server.listen: must be a list, not a text
t.yaml:5:13: server.body_max: has no unit (write 32B or 32MiB)
t.yaml:6:10: server.drain: is no duration: "soon" (such as 500ms, 2s, 10m)
t.yaml:7:3: server.drain: is there twice, first in line 6
t.yaml:8:31: server.trusted_proxies[1]: is no address or network (such as 192.0.2.7 or 10.0.0.0/8)
t.yaml:9:26: errors.unknown_model: must be 503 or 404
t.yaml:11:22: models[0].kind: is unknown: "chta" (did you mean chat?)
t.yaml:11:44: models[0].price.input: must be a text, not a number (put it in quotes)
t.yaml:12:11: models[1].id: is there twice: a/b
t.yaml:12:61: models[1].free: is at odds with a price
t.yaml:15:15: channels[0].provider: is unknown: "azur" (did you mean azure?)
t.yaml:16:15: channels[0].base_url: must begin with http:// or https:// (such as https://api.provider.example/v1)
t.yaml:17:19: channels[0].credentials[0]: is a secret in plain text (write {env: NAME}, {file: PATH} or {value: "…"})
t.yaml:17:33: channels[0].credentials[1].env: the environment has no NOPE
t.yaml:17:41: channels[0].credentials[2]: needs exactly one source (env, file or value)
t.yaml:18:20: channels[0].models["c/d"]: is not under models
t.yaml:19:5: channels[0].wieght: is unknown (did you mean weight?)
t.yaml:20:20: channels[0].pass_headers[0]: is a field that is never passed on
t.yaml:22:11: keys[0].id: must be 1 to 64 letters, digits, '.', '_' or '-'
t.yaml:22:27: keys[0].account: is not under accounts: nobody
t.yaml:22:43: keys[0].digest: is no digest (sha256: and 64 hexadecimal digits, as printed by: tidegate keys hash)
t.yaml:22:65: keys[0].models[0]: is no pattern (*, or prefix/*, or an id)
t.yaml:23:23: keys[1].account: is not under accounts: nobody
t.yaml:23:41: keys[1].generate: is for trials with the sandbox only (make a key with: tidegate keys new)
t.yaml:23:56: keys[1].expires: is no date (such as 2027-01-31T12:00:00Z, in UTC)"#;
    let told = problems(text);
    assert_eq!(told, expected, "told:\n{told}");
}

/// The sample with another channel; `members` stand where its dialect and base URL are said.
fn with_channel(members: &str) -> String {
    sample().replace("    provider: openai\n    base_url: http://127.0.0.1:9000/v1\n", members)
}

/// Goal: what a dialect cannot have is told, with what to do about it (spec 12.1).
#[test]
fn dialects_are_checked() {
    let azure = "https://r.openai.azure.com";
    let google = "https://generativelanguage.googleapis.com";
    for (provider, base, more, told) in [
        (
            "azure",
            azure,
            "",
            "provider: needs an api_version (such as api_version: \"2024-10-21\", or a base_url that ends in /openai/v1)",
        ),
        ("azure", azure, "api_version: \"2023-05-15\"", "api_version: is too old (\"2024-10-21\" or newer)"),
        ("azure", azure, "api_version: 2024-10-21", ""),
        ("azure", azure, "api_version: preview", ""),
        ("azure", "https://r.openai.azure.com/openai/v1/", "", ""),
        (
            "azure",
            "https://r.openai.azure.com/openai/v1",
            "api_version: \"2024-10-21\"",
            "api_version: is for deployments, not for a base_url that ends in /openai/v1 (leave it out, or preview)",
        ),
        (
            "azure",
            "https://r.openai.azure.com/openai/deployments/d",
            "api_version: v1",
            "base_url: must end before /deployments (the deployment is the upstream's name of a model, under models)",
        ),
        (
            "azure",
            azure,
            "api_version: v1\n    apis: [chat, messages]",
            "apis[1]: is not spoken by azure (known: chat, completions, responses, embeddings, images)",
        ),
        (
            "openai",
            "https://x/v1",
            "api_version: v1",
            "api_version: is for provider azure alone (leave it out)",
        ),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "", ""),
        (
            "gemini",
            google,
            "",
            "base_url: must be the base of Google's OpenAI-compatible endpoint (https://generativelanguage.googleapis.com/v1beta/openai)",
        ),
        ("gemini", "https://relay.example/google", "", ""),
        (
            "anthropic",
            "https://x/v1",
            "apis: [chat]",
            "apis[0]: is not spoken by anthropic (known: messages)",
        ),
    ] {
        let members = format!("    provider: {provider}\n    base_url: {base}\n    {more}\n");
        let found = problems(&with_channel(&members));
        let message = found.split_once("channels[0].").map_or(&*found, |(_, message)| message);
        assert_eq!(message, told, "{members}");
    }
}

/// Goal: a dialect speaks what it can, unless the channel says otherwise; what then cannot be called is told (12.1).
#[test]
fn channels_speak_what_their_dialect_can() {
    use crate::core::api::Api::{Chat, Completions, Embeddings, Images, Messages, Responses, Video};
    for (members, apis) in [
        (
            "provider: openai\n    base_url: https://x/v1",
            &[Chat, Completions, Responses, Embeddings, Images, Video][..],
        ),
        (
            "provider: openai_compatible\n    base_url: https://x/v1",
            &[Chat, Completions, Responses, Messages, Embeddings, Images, Video],
        ),
        ("provider: anthropic\n    base_url: https://x/v1", &[Messages]),
        ("provider: gemini\n    base_url: https://x/v1", &[Chat, Embeddings, Images]),
        (
            "provider: azure\n    base_url: https://x\n    api_version: \"2024-10-21\"",
            &[Chat, Completions, Embeddings, Images],
        ),
        (
            "provider: azure\n    base_url: https://x\n    api_version: \"2025-03-01-preview\"",
            &[Chat, Completions, Responses, Embeddings, Images],
        ),
        (
            "provider: azure\n    base_url: https://x/openai/v1",
            &[Chat, Completions, Responses, Embeddings, Images],
        ),
        ("provider: azure\n    base_url: https://x/openai/v1\n    apis: [chat]", &[Chat]),
    ] {
        let loaded = read(&with_channel(&format!("    {members}\n"))).unwrap();
        assert_eq!(loaded.config.channels[0].apis, apis, "{members}");
        assert!(loaded.warnings.is_empty());
    }
    let text = with_channel("    provider: gemini\n    base_url: https://x/v1\n    apis: [embeddings]\n");
    let warnings = read(&text).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().contains("speaks no API of such a model"), "{}", warnings[0]);
}

/// Goal: what is no YAML is told with its place; what is not a mapping, too.
#[test]
fn syntax_is_told() {
    assert!(
        problems("version: 1\nserver: [").starts_with("t.yaml:"),
        "{}",
        problems("version: 1\nserver: [")
    );
    assert!(problems("- 1").contains("must be a mapping, not a list"));
    assert!(problems("").contains("must be a mapping"));
    let missing = load(Path::new("does/not/exist.yaml")).unwrap_err();
    assert_eq!(missing.to_string(), "does/not/exist.yaml: no such file");
}

/// Goal: numbers say what they must be, in words that hold for every wrong one.
#[test]
fn numbers_say_what_they_must_be() {
    let weight = |value: &str| problems(&sample().replace("weight: 1", &format!("weight: {value}")));
    for value in ["-1", "1.5", "-0.5"] {
        let told = weight(value);
        assert!(told.ends_with("channels[0].weight: must be a whole number of 0 or more"), "{value}: {told}");
    }
    assert!(
        weight("many").ends_with("must be a whole number of 0 or more, not a text"),
        "{}",
        weight("many")
    );
    for value in ["1000001", "99999999999999999999"] {
        assert!(weight(value).ends_with("must be between 0 and 1000000"), "{value}: {}", weight(value));
    }
    let version = |value: &str| problems(&sample().replace("version: 1", &format!("version: {value}")));
    assert!(version("0").ends_with("version: must be 1") && version("2").ends_with("version: must be 1"));
    assert!(version("\"1\"").ends_with("version: must be 1, not a text"));
}

/// The warnings about a text without problems, as lines.
fn warnings(text: &str) -> Vec<String> {
    let loaded = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    let lines = loaded.warnings.iter().map(|warning| warning.in_file(Path::new("t.yaml")));
    lines.collect()
}

/// The sample with another base URL.
fn base(url: &str) -> String {
    sample().replace("http://127.0.0.1:9000/v1", url)
}

/// Goal: what is legal and rarely meant is a warning at its own place, with the word in it.
#[test]
fn warnings_stand_at_their_place() {
    let credential =
        |value: &str| sample().replace("{ env: EAST_KEY }", &format!("{{ value: \"{value}\" }}"));
    for (value, name) in [
        ("${EAST}", "EAST"),
        ("$EAST_2", "EAST_2"),
        ("Bearer-${A:-b}", "A"),
        ("${A-b}", "A"),
        ("$(A)", "A"),
        ("{{.A}}", "A"),
        ("%A%", "A"),
    ] {
        let told = warnings(&credential(value));
        let expected = format!(
            "t.yaml:30:29: warning: channels[0].credentials[0].value: looks like a variable of the environment, and is taken \
             as it stands (write {{env: {name}}})"
        );
        assert_eq!(told, [expected]);
    }
    for value in ["sk-abc", "a$b", "$", "${", "${}", "$1", "a$B", "%%", "{{}}", "$()", "100%"] {
        assert_eq!(warnings(&credential(value)), Vec::<String>::new(), "{value}");
    }
}

/// Goal: an address at which no API begins is told, as it will be called.
#[test]
fn base_urls_are_looked_at() {
    for (url, told) in [
        ("https://api.example", "has no version: a call goes to https://api.example/chat/completions"),
        (
            "https://api.example/openai",
            "has no version: a call goes to https://api.example/openai/chat/completions",
        ),
        ("http://127.0.0.1:9101/", "a call goes to http://127.0.0.1:9101/chat/completions"),
        ("http://[::1]:80", "a call goes to http://[::1]/chat/completions"),
        ("https://x/v1/chat", "ends with the route /chat, which"),
        ("https://x/V1/Chat/Completions", "ends with the route /chat/completions, which"),
        (
            "https://x/v1/chat/completions",
            "ends with the route /chat/completions, which the gateway appends itself",
        ),
        ("https://x/v1/images/edits/", "ends with the route /images/edits, which the gateway appends itself"),
        ("https://x/v1/models", "ends with the route /models, which"),
    ] {
        let found = warnings(&base(url));
        assert!(
            found.len() == 1 && found[0].starts_with("t.yaml:29:15: warning: channels[0].base_url: "),
            "{found:?}"
        );
        assert!(found[0].contains(told), "{found:?}");
    }
    for url in ["https://x/v1", "https://x/api/v3/", "https://x/v1beta/openai", "https://x/a/v1.1/b"] {
        assert_eq!(warnings(&base(url)), Vec::<String>::new(), "{url}");
    }
    for url in ["https://x/v1#a", "https://x/v1?a=b"] {
        let told = problems(&base(url));
        assert!(told.contains("base_url: must be scheme, host and path, and nothing else"), "{told}");
    }
}

/// Goal: models that nobody can call are warned of, and warnings stand between errors.
#[test]
fn warnings_stand_between_errors() {
    let idle = sample().replace("channels:\n", "  - { id: a/b }\nchannels:\n");
    assert_eq!(
        warnings(&idle),
        [
            "t.yaml:26:5: warning: models[1]: no enabled channel serves the model a/b",
            "t.yaml:26:5: warning: models[1]: the model a/b has no price and is not offered (price: {…}, or free: true)",
        ]
    );
    let both = base("https://x").replace("weight: 1", "weight: -1");
    assert_eq!(
        problems(&both).lines().map(|line| line.contains("warning: ")).collect::<Vec<_>>(),
        [true, false],
        "warnings stand between errors"
    );
}

/// Goal: an upstream that asks for no key is said in a word, and forgetting its credentials is told with that word.
#[test]
fn an_upstream_may_ask_for_no_credentials() {
    let with = |credentials: &str| sample().replace("[ { env: EAST_KEY } ]", credentials);
    let loaded = read(&with("none")).unwrap();
    assert!(loaded.config.channels[0].credentials.is_empty() && loaded.warnings.is_empty());
    assert!(
        problems(&with("[]")).ends_with("must not be empty (write none for an upstream that asks for none)")
    );
    assert!(problems(&with("nothing")).ends_with("channels[0].credentials: must be a list, not a text"));
    let without = sample().replace("    credentials: [ { env: EAST_KEY } ]\n", "");
    let told =
        "channels[0]: has no credentials (a list of secrets, or none for an upstream that asks for none)";
    assert!(problems(&without).ends_with(told), "{}", problems(&without));
}

/// Goal: a file is checked where its secrets are not at hand, and everything else of it is still held to the rules.
#[test]
fn secrets_can_be_left_out_of_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    let text = sample()
        .replace("env: EAST_KEY", "file: not/there")
        .replace("TIDEGATE_ADMIN_TOKEN", "NO_SUCH_VARIABLE");
    let tls = text.replace("  threads: 2\n", "  threads: 2\n  tls: { cert: a.pem, key: a.key }\n");
    std::fs::write(&path, &tls).unwrap();
    let told = load(&path).unwrap_err();
    assert_eq!(told.list.len(), 3);
    let missing = format!("server.tls: {}: no such file", folder.path().join("a.pem").display());
    assert!(told.to_string().contains(&missing), "{told}");
    assert!(load_without_secrets(&path).is_ok());
    std::fs::write(&path, tls.replace("weight: 1", "weight: x")).unwrap();
    assert!(load_without_secrets(&path).unwrap_err().to_string().contains("weight"));
    std::fs::write(&path, tls.replace("{ file: not/there }", "{ file: not/there, env: B }")).unwrap();
    assert!(load_without_secrets(&path).unwrap_err().to_string().contains("needs exactly one source"));
}

/// Goal: files that cannot be read are told in the words of a shell.
#[test]
fn unreadable_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| load(path).unwrap_err().list[0].message.clone();
    assert_eq!(told(&folder.path().join("none.yaml")), "no such file");
    assert_eq!(told(folder.path()), "is a folder");
    std::fs::write(folder.path().join("latin.yaml"), b"version: \xe9").unwrap();
    assert_eq!(told(&folder.path().join("latin.yaml")), "is no text in UTF-8");
}

/// Goal: bounds of the reader are those of bytes and depth, told in plain words; counts are not bounded.
#[test]
fn bounds_of_the_reader_are_told() {
    let deep = format!("version: 1\nserver: {}{}", "[".repeat(90), "]".repeat(90));
    assert!(
        problems(&deep).ends_with("lists and mappings are nested more than 64 deep"),
        "{}",
        problems(&deep)
    );
    let mut bomb = String::from("version: 1\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(",")));
    }
    assert!(!problems(&bomb).contains("udget"), "{}", problems(&bomb));
    let nodes = format!("version: [{}]", "1,".repeat(400_000));
    assert!(problems(&nodes).contains("version: must be 1, not a list"));
}

/// A digest that ends like the number.
fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

/// Goal: keys come from a file of their own, as words or as JSON, with everything that keys of the configuration have; what is
/// wrong there is told by its line.
#[test]
fn keys_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let read = |keys: &str, text: &str| {
        std::fs::write(folder.path().join("keys.txt"), keys).unwrap();
        parse(&format!("{text}keys_file: keys.txt\n"), &folder.path().join("t.yaml"), &env)
    };
    let json = format!(
        r#"{{"id":"b","account":"acme","digest":"{}","models":["openai/*"],"expires":"2027-01-31","limits":{{"rpm":5}},"quota":"1.5"}}"#,
        digest(3)
    );
    let keys = format!("# made by a script\n\n{} a\n{json}\r\n  {} c acme", digest(2), digest(4));
    let config = read(&keys, &sample()).unwrap().config;
    let ids: Vec<_> = config.keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, ["acme-prod", "a", "b", "c"]);
    assert_eq!(
        (config.keys[1].account.as_str(), config.keys[1].models.as_slice()),
        ("acme", &["*".to_owned()][..])
    );
    assert_eq!((config.keys[2].limits.rpm, config.keys[2].expires), (Some(5), Some(1_801_353_600)));
    assert_eq!(config.keys[2].quota, Money::parse("1.5"));

    let wrong = format!(
        "{} a\nsha256:12 b\n{}\n{} acme-prod\n{} d nobody\n{} e acme f\n{ZERO} g\n{{\"id\":1}}\n{{\n{} h{}\n",
        digest(2),
        digest(3),
        digest(4),
        digest(5),
        digest(6),
        digest(7),
        " ".repeat(70_000),
    );
    let told = read(&wrong, &sample()).unwrap_err().to_string();
    for (line, what) in [
        (2, "does not begin with a digest"),
        (3, "has no id behind its digest"),
        (4, "has the id of another key: acme-prod"),
        (5, "names an account that is not under accounts: \"nobody\""),
        (6, "has one word too many: \"f\""),
        (7, "has the digest of another key"),
        (8, "id: must be a text, not a number"),
        (9, "is no JSON"),
        (10, "is longer than 65536 bytes"),
    ] {
        assert!(told.contains(&format!("keys_file: keys.txt:{line}: {what}")), "{line}: {told}");
    }
    assert!(!told.contains("keys.txt:1:"), "{told}");
    let two = sample().replace("credit: \"25.00\" }", "credit: \"25.00\" }\n  - { id: other }");
    let told = read(&format!("{} a\n", digest(2)), &two).unwrap_err().to_string();
    assert!(told.contains("keys.txt:1: names no account, and there is more than one"), "{told}");
    let missing = sample() + "keys_file: none.txt\n";
    assert!(problems(&missing).contains("keys_file: none.txt: no such file"), "{}", problems(&missing));
}

/// Goal: a key that was revoked at run time and is still configured is a warning at its place, in both files.
#[test]
fn revoked_keys_are_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(
        folder.path().join("data").join(REVOKED_FILE),
        format!("{ZERO} acme-prod\n{} a\n", digest(2)),
    )
    .unwrap();
    std::fs::write(folder.path().join("keys.txt"), format!("{} a\n{} b\n", digest(2), digest(3))).unwrap();
    let text = format!("{}keys_file: keys.txt\n", sample());
    let loaded = parse(&text, &folder.path().join("t.yaml"), &env).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("warning: keys[0].digest: this key is revoked, and is refused (take it out"),
        "{told:?}"
    );
    assert!(told[1].contains("warning: keys_file: keys.txt:1: key a: is revoked"), "{told:?}");
}

/// Goal: twenty thousand keys and as many nodes of channels are read, which counts of nodes used to refuse.
#[test]
fn large_files_are_read() {
    let keys: String = (2..20_002)
        .map(|n| format!("  - {{ id: k{n}, account: acme, digest: \"{}\" }}\n", digest(n)))
        .collect();
    let channels: String = (0..2_000)
        .map(|n| {
            format!(
                "  - {{ id: c{n}, provider: openai, base_url: \"https://h{n}/v1\", credentials: none, models: {{ openai/gpt-5.5: x }} }}\n"
            )
        })
        .collect();
    let text = (sample() + &keys).replace("channels:\n", &format!("channels:\n{channels}"));
    let config = read(&text).unwrap().config;
    assert_eq!((config.keys.len(), config.channels.len()), (20_001, 2_001));
}

/// Goal: secrets come from all three sources, and a value never shows up in a message.
#[test]
fn secrets_have_sources() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "from-file\n").unwrap();
    let credentials = "[{ file: key }, { value: from-value }, { env: EAST_KEY }]";
    let text = sample().replace("[ { env: EAST_KEY } ]", credentials);
    let loaded = parse(&text, &folder.path().join("t.yaml"), &env).unwrap();
    let values: Vec<_> = loaded.config.channels[0].credentials.iter().map(Secret::expose).collect();
    assert_eq!(values, ["from-file", "from-value", "secret-of-a-channel"]);
    let broken = sample().replace("[ { env: EAST_KEY } ]", "[{ value: \"se cret\" }]");
    assert!(!problems(&broken).contains("se cret"), "{}", problems(&broken));
}

/// Goal: members that are not taken are read as written; what cannot be left out, or is no member, is a problem.
#[test]
fn members_that_are_not_taken() {
    let with =
        |list: &str| sample().replace("    output_max: 128000\n", &format!("    unsupported: {list}\n"));
    let config =
        read(&with("{ logprobs: reject, seed: drop, reasoning.effort: drop, n: reject }")).unwrap().config;
    let unsupported = &config.models[0].unsupported;
    assert_eq!(unsupported.treatment("logprobs"), Some(Treatment::Reject));
    assert_eq!(unsupported.treatment("reasoning.effort"), Some(Treatment::Drop));
    assert_eq!(unsupported.treatment("reasoning"), None);
    for (list, problem) in [
        ("{ seed: ignore }", "reject, drop"),
        ("{ max_tokens: drop }", "cannot be dropped"),
        ("{ durationSeconds: drop }", "cannot be dropped"),
        ("{ stream_options.x: drop }", "needs or sets itself"),
        ("{ model: reject }", "needs or sets itself"),
        ("{ a.b.c: drop }", "is no member of a request"),
        ("{ \"\": drop }", "is no member of a request"),
        ("[seed]", "must be a mapping"),
    ] {
        assert!(problems(&with(list)).contains(problem), "{list}: {}", problems(&with(list)));
    }
}

/// Goal: origins are those that browsers name; there is no CORS without the section.
#[test]
fn pages_are_named_by_their_origin() {
    let with = |cors: &str| sample().replace("errors:", &format!("cors: {cors}\nerrors:"));
    assert_eq!(read(&sample()).unwrap().config.cors, None);
    let text = "{ origins: [\"https://a.example\", \"http://localhost:3000\"], headers: [x-a], max_age: 1h }";
    let cors = read(&with(text)).unwrap().config.cors.unwrap();
    assert_eq!(cors.origins, ["https://a.example".into(), "http://localhost:3000".into()]);
    assert_eq!((cors.headers.len(), cors.max_age.as_secs()), (1, 3600));
    assert!(read(&with("{ origins: [\"*\"] }")).unwrap().config.cors.unwrap().origins.is_empty());
    for origin in [
        "https://a.example/",
        "a.example",
        "https://A.example",
        "ftp://a.example",
        "null",
        "https://u@a.example",
    ] {
        let told = problems(&with(&format!("{{ origins: [{origin:?}] }}")));
        assert!(told.contains("cors.origins[0]: is no origin"), "{origin}: {told}");
    }
    assert!(problems(&with("{ origins: [\"*\", \"https://a.example\"] }")).contains("is no origin"));
    assert!(problems(&with("{ origins: [] }")).contains("must not be empty"));
    assert!(problems(&with("{}")).contains("has no origins"));
}

/// Goal: the files of the repository are right: the quick start without a warning, the others without a problem.
#[test]
fn shipped_files_are_right() {
    for (file, text) in [
        ("quickstart", include_str!("../../conf/quickstart.yaml")),
        ("tidegate", include_str!("../../conf/tidegate.yaml")),
        ("edge", include_str!("../../conf/edge.yaml")),
    ] {
        let loaded = read(text).unwrap_or_else(|problems| panic!("{file}: {problems}"));
        assert_eq!(loaded.warnings, [], "{file}");
        assert_eq!(loaded.minted.len(), usize::from(file == "quickstart"), "{file}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Goal: no text and no damage to a right one makes the reader panic.
    #[test]
    fn never_panics(text in "[ -~\n]{0,200}", cut in 0usize..1200, paste in "[\\[\\]{}:,#&*!|>'\"a-z0-9\n -]{0,12}") {
        let _ = read(&text);
        let sample = sample();
        let at = sample.floor_char_boundary(cut.min(sample.len()));
        let _ = read(&format!("{}{paste}{}", &sample[..at], &sample[at..]));
        let _ = read(&sample[..at]);
    }
}

/// Goal: a channel's way to video is a word or particulars, and its paths are held to what they are for.
#[test]
fn ways_to_video_are_read() {
    let with = |video: &str| {
        sample().replace("    priority: 0\n", &format!("    priority: 0\n    video: {video}\n"))
    };
    let polling = |video: &str| read(&with(video)).unwrap().config.channels[0].video.clone();
    assert_eq!(polling("direct"), None);
    assert_eq!(polling("polling"), Some(Polling::default()));
    let own = polling(r#"{ status: "/jobs/{id}", interval: 1s }"#).unwrap();
    assert_eq!((own.submit.as_str(), own.status.as_str()), ("/videos", "/jobs/{id}"));
    assert_eq!(own.interval, Duration::from_secs(1));
    for (video, problem) in [
        ("pulling", "is unknown"),
        ("{ submit: videos }", "is no path"),
        ("{ submit: \"/videos?x=1\" }", "is no path"),
        ("{ submit: \"/videos/{id}\" }", "must not have an {id}"),
        ("{ content: /file }", "has no {id}"),
        ("{ interval: 0s }", "must be more than zero"),
        ("{ poll: 1s }", "is unknown"),
    ] {
        let told = problems(&with(video));
        assert!(told.contains("channels[0].video") && told.contains(problem), "{video}: {told}");
    }
    let model = sample()
        .replace("    kind: chat\n", "    kind: video\n    seconds_default: 5\n    seconds_max: 12\n");
    let model = read(&model).unwrap().config.models.remove(0);
    assert_eq!((model.seconds_default, model.seconds_max), (5, Some(12)));
    let timeouts = read(&sample()).unwrap().config.channels[0].timeouts;
    assert_eq!(
        (timeouts.total, timeouts.of(Api::Video).total),
        (Duration::from_secs(600), Duration::from_secs(900))
    );
}

/// Goal: what a model accepts of images is read, and a list that says nothing, or something odd, is a problem.
#[test]
fn image_rules_are_read() {
    let with =
        |members: &str| sample().replace("    kind: chat\n", &format!("    kind: image\n    {members}\n"));
    let config = read(&with(r#"sizes: ["1024x1024", auto]"#)).unwrap().config;
    let rules = &config.models[0].images;
    assert_eq!(rules.sizes.as_deref(), Some(&["1024x1024".into(), "auto".into()][..]));
    assert!(rules.are_any() && rules.qualities.is_none());
    let config = read(&with("aspect_ratios: [\"1:1\"]\n    image_sizes: [1K]\n    qualities: [low]"));
    assert_eq!(config.unwrap().config.models[0].images.image_sizes.as_deref(), Some(&["1K".into()][..]));
    for (members, problem) in [
        ("sizes: []", "models[0].sizes: must not be empty"),
        ("sizes: [1024]", "models[0].sizes[0]: must be a text"),
        ("qualities: [\"a b\"]", "models[0].qualities[0]: must be 1 to 32 printable characters"),
        ("size: [auto]", "models[0].size: is unknown (did you mean sizes?)"),
    ] {
        assert!(problems(&with(members)).contains(problem), "{}", problems(&with(members)));
    }
}
