//! Documents that repeat what the code's tables say (spec 2.2, 3.2). `UPDATE_DOCS=1` writes the generated parts anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use tidegate::core::failure::{Class, Effect, Next, Verdict};
use tidegate::core::refusal::Failure;
use tidegate::wire::error::{CATALOGUE, PublicError};

const END: &str = "<!-- end of generated part -->";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Holds the part of a file that begins with the marker of `name` to `expected`.
fn hold(path: &Path, name: &str, expected: &str) {
    let marker = format!("<!-- generated: {name} -->");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (before, rest) =
        text.split_once(&marker).unwrap_or_else(|| panic!("{}: no {marker}", path.display()));
    let (found, after) = rest.split_once(END).unwrap_or_else(|| panic!("{}: no {END}", path.display()));
    let expected = format!("\n{expected}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{marker}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "{}: {name}; write it anew with UPDATE_DOCS=1", path.display());
    }
}

/// The error table of the README, from the catalogue.
fn errors() -> String {
    let mut table = String::from("| status | type | codes |\n|---|---|---|\n");
    let mut statuses: Vec<_> = CATALOGUE.iter().map(|entry| (entry.status, entry.kind)).collect();
    statuses.dedup();
    for (status, kind) in statuses {
        let of_status = CATALOGUE.iter().filter(|entry| entry.status == status);
        let codes: Vec<_> = of_status.map(|entry| format!("`{}`", entry.name)).collect();
        writeln!(table, "| {status} | `{kind}` | {} |", codes.join(", ")).unwrap();
    }
    table
}

/// What the client reads of a class.
fn face(class: Class) -> String {
    if class == Class::BrokenMidStream {
        return "an error inside the stream".to_owned();
    }
    let failure = match class {
        Class::ModelMissing => Failure::NowhereServed("X".into()),
        _ => Failure::Upstream(Verdict::new(class, "rule")),
    };
    let error = PublicError::of(&failure, 503);
    let only = if class == Class::ModelMissing { ", if every channel that was tried says so" } else { "" };
    format!("{} `{}`{only}", error.status(), error.code.entry().name)
}

fn next(class: Class) -> &'static str {
    match class.next() {
        Next::Stop => "no",
        Next::LargerContext => "one with a larger context window",
        Next::Any => "yes",
    }
}

fn effect(class: Class) -> &'static str {
    match class.effect() {
        Effect::None => "none",
        Effect::CountsTowardEjection => "counts toward ejection of the channel",
        Effect::ModelRests => "the model rests on this channel",
        Effect::CredentialRests => "the credential rests",
        Effect::ChannelRests => "the channel rests",
        Effect::CredentialOut => "the credential is out",
        Effect::ChannelOut => "the channel is out",
    }
}

/// The table of classes.
fn classes() -> String {
    let mut table =
        String::from("| class | the client reads | another channel? | effect |\n|---|---|---|---|\n");
    for class in Class::ALL {
        let (name, face) = (class.as_str(), face(class));
        let row = format!(
            "| [`{name}`](deploy/runbooks/{name}.md) | {face} | {} | {} |",
            next(class),
            effect(class)
        );
        writeln!(table, "{row}").unwrap();
    }
    table
}

/// The facts at the head of a runbook page.
fn facts(class: Class) -> String {
    let name = class.as_str();
    format!(
        "| | |\n|---|---|\n| The client reads | {} |\n| Another channel is tried | {} |\n| Effect | {} |\n\
         | Metric | `tidegate_attempts_total{{outcome=\"{name}\"}}` |\n| Log | `attempts[].outcome` is `{name}` |\n",
        face(class),
        next(class),
        effect(class),
    )
}

/// Goal: the README's references say what the tables of the code say.
#[test]
fn the_readme_agrees_with_the_tables() {
    hold(&file("README.md"), "errors", &errors());
    hold(&file("README.md"), "classes", &classes());
}

/// Goal: every class of failure has a runbook page with the facts of the code and the four sections that an operator
/// looks for, and there is no page of anything else.
#[test]
fn every_class_has_a_runbook() {
    let folder = file("deploy/runbooks");
    for class in Class::ALL {
        let path = folder.join(format!("{}.md", class.as_str()));
        hold(&path, "facts", &facts(class));
        let text = std::fs::read_to_string(&path).unwrap();
        for section in ["## Meaning", "## Impact", "## Diagnosis", "## Remedy"] {
            assert!(text.contains(section), "{}: no {section}", path.display());
        }
    }
    let pages =
        std::fs::read_dir(&folder).unwrap().filter(|page| page.as_ref().unwrap().path().is_file()).count();
    assert_eq!(pages, Class::ALL.len() + 1, "a page for each class, and an index");
}
