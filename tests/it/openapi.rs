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
            assert!(method != "post" || statuses == all, "{} {method}: {statuses:?}", line.path);
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
