use super::super::{Config, parse};
use super::*;
use serde_json::{Value, json};
use std::path::Path;

/// The configuration that explains every member.
const EXPLAINED: &str = include_str!("../../conf/tidegate.yaml");

/// The paths of all members; elements of lists and mappings are none.
fn paths() -> Vec<String> {
    schema::forms().into_keys().filter(|path| !path.is_empty() && !path.ends_with([']', '}'])).collect()
}

/// A configuration that says as little as it may, in which every list of things has one.
fn least() -> Value {
    json!({
        "version": 1,
        "sandbox": {},
        "cors": { "origins": ["*"] },
        "models": [{ "id": "a/b", "price": { "input": "1", "output": "1" }, "long_context": { "from": 1 } }],
        "channels": [{
            "id": "c", "provider": "openai", "base_url": "http://a/v1", "credentials": [{ "value": "x" }], "models": { "a/b": "x" },
            "video": {},
        }],
        "accounts": [{ "id": "a" }],
        "keys": [{ "id": "k", "account": "a", "digest": format!("sha256:{}", "0".repeat(64)) }],
    })
}

/// The place of a path in a configuration, made if it is not there; `[]` is the first element.
fn place<'a>(config: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(config, |at, name| match name.strip_suffix("[]") {
        Some(list) => &mut at[list][0],
        None => &mut at[name],
    })
}

fn read(config: &Value) -> Config {
    let text = config.to_string();
    parse(&text, Path::new("t.yaml"), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .config
}

/// Goal: no member without a description, none with less than a sentence, and nothing is described that is no member.
#[test]
fn every_member_is_described() {
    let (members, paths) = (Members::known(), paths());
    assert!(paths.len() > 150, "{}", paths.len());
    let poor = |path: &&String| members.find(path).is_none_or(|member| !member.about.ends_with('.'));
    let poor: Vec<_> = paths.iter().filter(poor).collect();
    assert!(poor.is_empty(), "without a sentence in members.yaml: {poor:?}");
    let is_member = |member: &Member| match member.path.strip_prefix('*') {
        Some(end) => paths.iter().any(|path| path.ends_with(end)),
        None => paths.contains(&member.path),
    };
    let foreign: Vec<_> =
        members.iter().filter(|member| !is_member(member)).map(|member| &member.path).collect();
    assert!(foreign.is_empty(), "in members.yaml and nowhere else: {foreign:?}");
    for member in members.iter() {
        assert!(!format!("{member:?}").contains('|'), "{} would break its table", member.path);
    }
}

/// Goal: of each member that may be left out it is said what happens then, once, and of no other.
#[test]
fn what_is_left_out_is_told() {
    let (members, forms) = (Members::known(), schema::forms());
    for path in paths() {
        let member = members.find(&path).unwrap();
        let told = usize::from(member.default.is_some()) + usize::from(member.otherwise.is_some());
        let required = forms[&path].contains(&Form::Required);
        assert_eq!(told, usize::from(!required), "{path}");
    }
}

/// Goal: a file that writes a default down means the same as one that leaves the member out, for every default.
#[test]
fn defaults_are_those_of_the_reader() {
    let members = Members::known();
    let mut tried = 0;
    for path in paths() {
        let Some(value) = members.find(&path).and_then(Member::default_value) else { continue };
        let mut without = least();
        // What the member is in has to be there in both.
        let (above, name) = path.rsplit_once('.').unwrap();
        let inside = place(&mut without, above);
        if inside.is_null() {
            *inside = json!({});
        }
        let mut with = without.clone();
        place(&mut with, above)[name] = value.clone();
        assert_eq!(read(&with), read(&without), "{path}: {value}");
        tried += 1;
    }
    assert!(tried > 60, "{tried}");
}

/// Goal: what takes a restart is said of exactly those members whose change is only in force after one.
#[test]
fn restarts_are_told() {
    let code = include_str!("diff.rs").split_once("fn after_restart").unwrap().1.split_once("];").unwrap().0;
    let mut expected: Vec<_> = code.split('"').skip(1).step_by(2).collect();
    let (members, mut told) = (Members::known(), Vec::new());
    let takes_one = |member: &&Member| member.about.to_lowercase().contains("takes a restart");
    told.extend(members.iter().filter(takes_one).map(|member| member.path.as_str()));
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
}

/// The part of the explained file that is about a section, which may be a comment as a whole.
fn explained(section: &str) -> &'static str {
    let text = EXPLAINED;
    let begins = |line: &str, name: &str| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
    };
    let offset = |line: &str| line.as_ptr() as usize - text.as_ptr() as usize;
    let top: Vec<String> = schema::forms().into_keys().filter(|path| !path.contains(['.', '['])).collect();
    let start = text.lines().find(|line| begins(line, section)).map(offset).unwrap_or(text.len());
    let rest = text[start..].lines().skip(1);
    let end = rest.into_iter().find(|line| top.iter().any(|name| !name.is_empty() && begins(line, name)));
    &text[start..end.map_or(text.len(), offset)]
}

/// Goal: the configuration file that explains every member names every member in the part about its section, as such or in
/// a comment; what is the same wherever it stands is named once.
#[test]
fn the_explained_file_names_every_member() {
    let members = Members::known();
    let named = |path: &str| {
        let same_everywhere = members.find(path).is_some_and(|member| member.path.starts_with('*'));
        let section = path.split(['.', '[']).next().unwrap();
        let text = if same_everywhere { EXPLAINED } else { explained(section) };
        let name = path.rsplit('.').next().unwrap();
        let whole = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        text.match_indices(&format!("{name}:")).any(|(at, _)| whole(at))
    };
    let missing: Vec<_> = paths().into_iter().filter(|path| !named(path)).collect();
    assert!(missing.is_empty(), "not in conf/tidegate.yaml: {missing:?}");
    assert!(explained("server").contains("body_max") && !explained("server").contains("allowed_hosts"));
}

/// Goal: digits are grouped from their end.
#[test]
fn digits_are_grouped() {
    assert_eq!(
        ["7", "128", "1,024", "10,000,000"],
        [7, 128, 1024, 10_000_000].map(grouped).each_ref().map(String::as_str)
    );
}
