//! Documents that repeat what the code's tables say (spec 2.2, 3.2). `UPDATE_DOCS=1` writes the generated parts anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::core::failure::{Class, Effect, Next, Verdict};
use tidegate::core::refusal::Failure;
use tidegate::telemetry::series;
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

/// The bound on series, and what it is for gateways of some sizes.
fn series() -> String {
    let mut table = format!(
        "    {}\n\n| models | channels | credentials | series at most |\n|---|---|---|---|\n",
        series::bound()
    );
    for (models, channels, credentials) in [(10, 5, 5), (50, 20, 40), (200, 50, 100)] {
        let max = series::series_max(models, channels, credentials);
        writeln!(table, "| {models} | {channels} | {credentials} | {max} |").unwrap();
    }
    table
}

/// Goal: the bound on series that operators read is the one that the tests hold the gateway to (spec 13.2).
#[test]
fn the_bound_on_series_is_stated() {
    hold(&file("docs/operations.md"), "series", &series());
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

/// Goal: the kept reference of the configuration is the one that the program prints, and what it says of bounds names members
/// and reasons that there are.
#[test]
fn the_reference_is_the_printed_one() {
    let printed = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["schema", "--format", "markdown"])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let (made, path) = (String::from_utf8(printed.stdout).unwrap(), file("docs/configuration.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        kept == made,
        "docs/configuration.md is not what the program prints; write it anew with UPDATE_DOCS=1"
    );
    let (members, bounds) = kept.split_once("## Bounds").unwrap();
    let words = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let named: Vec<_> =
        words(bounds).into_iter().filter(|word| word.contains('.') && !word.contains(' ')).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(members.contains(&format!("| `{name}` |")), "{name} is no member");
    }
    let refusals = std::fs::read_to_string(file("src/core/refusal.rs")).unwrap();
    let reasons: Vec<_> =
        bounds.lines().filter_map(|line| line.rsplit(" | ").next()).flat_map(words).collect();
    let plain = |word: &&String| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let of_rejections = |word: &&String| {
        !word.starts_with("tidegate_") && !word.starts_with("broken") && *word != "not_understood"
    };
    let reasons: Vec<_> = reasons.iter().filter(plain).filter(of_rejections).collect();
    assert!(reasons.len() > 25, "{reasons:?}");
    for reason in reasons {
        assert!(refusals.contains(&format!("\"{reason}\"")), "{reason} is no stage and no reason");
    }
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
