//! The OpenAPI document of the public surface, held to the route table and the catalogue of errors.

use crate::support::{Config, Upstream, http};
use serde_json::Value;
use std::collections::BTreeSet;
use tidegate::wire::endpoint::TABLE;
use tidegate::wire::error::CATALOGUE;

/// The document as it is kept.
pub(crate) const TEXT: &str = include_str!("../../conf/openapi.json");

pub(crate) fn document() -> Value {
    serde_json::from_str(TEXT).unwrap()
}

/// Where a JSON pointer of the document leads, references followed.
fn follow<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        Some(target) => {
            let found = document.pointer(target.strip_prefix('#').unwrap());
            follow(document, found.unwrap_or_else(|| panic!("{target} leads nowhere")))
        }
        None => node,
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every object and list of the document.
fn visit<'a>(node: &'a Value, see: &mut impl FnMut(&'a Value)) {
    see(node);
    match node {
        Value::Object(members) => members.values().for_each(|node| visit(node, see)),
        Value::Array(items) => items.iter().for_each(|node| visit(node, see)),
        _ => {}
    }
}

/// Goal: the document has every path of the route table with each of its methods, and nothing else.
#[test]
fn paths_are_those_of_the_route_table() {
    let document = document();
    let listed: BTreeSet<_> = TABLE.iter().map(|line| line.path).collect();
    assert_eq!(keys(&document["paths"]), listed);
    for line in TABLE {
        let methods = line.methods.to_lowercase();
        let mut described = keys(&document["paths"][line.path]);
        described.remove("parameters");
        assert_eq!(described, methods.split(", ").collect(), "{}", line.path);
    }
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Goal: every call can end with each status of the catalogue, reads with some of them, and nothing with another; each
/// status has the types and codes of the catalogue, in the shape of its path.
#[test]
fn errors_are_those_of_the_catalogue() {
    let document = document();
    let all: BTreeSet<String> = CATALOGUE.iter().map(|entry| entry.status.to_string()).collect();
    for line in TABLE {
        for method in line.methods.to_lowercase().split(", ") {
            let responses = &document["paths"][line.path][method]["responses"];
            let mut statuses: BTreeSet<String> = keys(responses).into_iter().map(str::to_owned).collect();
            assert!(statuses.remove("200"), "{} {method}", line.path);
            assert!(statuses.is_subset(&all), "{} {method}: {statuses:?}", line.path);
            // An upgrade to WebSocket is a GET.
            let mut of_posts = all.clone();
            of_posts.remove("426");
            assert!(method != "post" || statuses == of_posts, "{} {method}: {statuses:?}", line.path);
            assert_eq!(method == "get", statuses.contains("426"), "{} {method}: {statuses:?}", line.path);
            let shape = if line.path.starts_with("/messages") { "MessagesError" } else { "Error" };
            for status in statuses.iter().filter(|_| method != "head") {
                let expected = format!("#/components/responses/{shape}{status}");
                assert_eq!(responses[status]["$ref"], expected, "{} {method}", line.path);
            }
        }
    }
    for status in &all {
        let of_status = || CATALOGUE.iter().filter(|entry| entry.status.to_string() == *status);
        let error = &document["components"]["responses"][&format!("Error{status}")]["content"]["application/json"]
            ["schema"]["allOf"][1]["properties"]["error"]["properties"];
        let codes: Vec<_> = of_status().map(|entry| entry.name).collect();
        assert_eq!(error["code"]["enum"], serde_json::json!(codes), "{status}");
        assert_eq!(error["type"]["const"], of_status().next().unwrap().kind, "{status}");
        assert_eq!(error["status"]["const"].to_string(), *status);
    }
}

/// Goal: every reference leads somewhere, every component is used, and every schema is one.
#[test]
fn the_document_is_sound() {
    let document = document();
    let mut targets = BTreeSet::new();
    visit(&document, &mut |node| {
        if let Some(target) = node["$ref"].as_str() {
            follow(&document, node);
            targets.insert(target.to_owned());
        }
        if let Some(schema) = node.get("schema") {
            assert!(jsonschema::draft202012::meta::is_valid(schema), "{schema}");
        }
    });
    for kind in ["headers", "responses", "schemas"] {
        for name in keys(&document["components"][kind]) {
            assert!(targets.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
    }
}

/// Goal: the admin listener shows the document as it is kept, to whom it shows other things that can be read (spec 13.1).
#[test]
fn the_admin_listener_shows_it() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("a/b", "chat").channel("c", upstream.addr, &[("a/b", "x")], "").start();
    let shown = http::get(gateway.admin, "/openapi.json").unwrap();
    assert_eq!((shown.status, shown.header("content-type")), (200, Some("application/json")));
    assert_eq!(shown.text(), TEXT);
    let foreign = http::exchange(gateway.admin, b"GET /openapi.json HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert_eq!(foreign.unwrap().status, 403);
    gateway.finish();
}

/// The description of the admin listener as it is kept.
const ADMIN_TEXT: &str = include_str!("../../conf/admin-openapi.json");

/// Checks a value against a schema of the description, whose references lead into it.
fn admin_schema(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Goal: the description of the admin listener has the paths that the listener answers, is shown by it, and says of JSON answers
/// what they are like.
/// Method: every path and method of it is asked; a change needs the token, so that without one nothing happens.
#[test]
fn the_admin_listener_is_described() {
    let document: Value = serde_json::from_str(ADMIN_TEXT).unwrap();
    let upstream = Upstream::start();
    let gateway = Config { admin: ", token: { value: the-token }".into(), ..Config::default() }
        .model("a/b", "chat")
        .channel("c", upstream.addr, &[("a/b", "x")], "")
        .account("credit: \"1\"")
        .start();
    assert_eq!(http::get(gateway.admin, "/admin-openapi.json").unwrap().text(), ADMIN_TEXT);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in document["paths"].as_object().unwrap() {
        let asked = path.replace("/accounts/{id}", "/accounts/acme").replace("/keys/{id}", "/keys/tests");
        let asked = asked.replace("{id}", "c").replace("{action}", "readmit");
        let asked = match path.as_str() {
            "/explain" => "/explain?model=a/b".to_owned(),
            "/failures" => "/failures?format=json".to_owned(),
            _ => asked,
        };
        for method in keys(item).into_iter().filter(|method| *method != "parameters") {
            let token = if method == "get" { "the-token" } else { "" };
            let answer = gateway.operate(&method.to_uppercase(), &asked, token, "");
            let expected = if method == "get" { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
            let content = &item[method]["responses"]["200"]["content"]["application/json"]["schema"];
            if method == "get" && !content.is_null() {
                let validator = admin_schema(&document, content);
                let found: Vec<_> = validator.iter_errors(&answer.json()).map(|e| e.to_string()).collect();
                assert!(found.is_empty(), "{path}: {found:?} {}", answer.text());
            }
        }
    }
    gateway.finish();
}

/// Goal: what is sent as described is taken, and what is answered is as described.
#[test]
fn changes_are_as_described() {
    let document: Value = serde_json::from_str(ADMIN_TEXT).unwrap();
    let upstream = Upstream::start();
    let gateway = Config { admin: ", token: { value: the-token }".into(), ..Config::default() }
        .model("a/b", "chat")
        .channel("c", upstream.addr, &[("a/b", "x")], "")
        .start();
    for (template, path, body) in [
        ("/accounts", "/accounts", r#"{"id":"n","billing":"prepaid","limits":{"rpm":9}}"#),
        ("/accounts/{id}/credit", "/accounts/n/credit", r#"{"amount":"1.50","idempotency_key":"a"}"#),
        (
            "/keys",
            "/keys",
            r#"{"id":"k","account":"n","expires":"2100-01-31","metadata":{"a":"b"},"ips":["10.0.0.0/8"]}"#,
        ),
        ("/keys/{id}/rotate", "/keys/k/rotate", r#"{"overlap":"1h"}"#),
        ("/keys/{id}/revoke", "/keys/k/revoke", ""),
        ("/keys/{id}/restore", "/keys/k/restore", ""),
        ("/channels/{id}/{action}", "/channels/c/readmit", ""),
        ("/reload", "/reload", ""),
    ] {
        let operation = &document["paths"][template]["post"];
        if !body.is_empty() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let sent = serde_json::from_str(body).unwrap();
            assert!(admin_schema(&document, schema).is_valid(&sent), "{path} {body}");
        }
        let answer = gateway.operate("POST", path, "the-token", body);
        let described = &operation["responses"][&answer.status.to_string()];
        assert!(answer.status < 300 && !described.is_null(), "{path}: {}", answer.text());
        let schema = &described["content"]["application/json"]["schema"];
        assert!(admin_schema(&document, schema).is_valid(&answer.json()), "{path}: {}", answer.text());
    }
    let listed = gateway.operate("GET", "/accounts/n", "the-token", "").json();
    let schema = &document["paths"]["/accounts/{id}"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    assert!(admin_schema(&document, schema).is_valid(&listed), "{listed}");
    gateway.finish();
}
