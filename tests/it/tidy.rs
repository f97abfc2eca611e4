//! The rings and the measures of the house, held by reading the sources.

use std::path::{Path, PathBuf};

const FUNCTION_MAX: usize = 70;
const FILE_MAX: usize = 700;

/// The ring of a module at the top of the crate.
fn ring(module: &str) -> Option<u8> {
    match module {
        "core" => Some(1),
        "config" | "wire" | "store" | "telemetry" => Some(2),
        "proxy" | "admin" | "runtime" | "sandbox" => Some(3),
        "cli" | "main" => Some(4),
        _ => None,
    }
}

fn sources(of: &str) -> Vec<(PathBuf, String)> {
    fn visit(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join(of), &mut found);
    found
}

/// The module at the top of the crate to which a file belongs.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The lines of a file that are neither comment nor test.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with("tests.rs") || path.contains("test_client"))
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Goal: imports point inward only.
#[test]
fn imports_point_inward() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        let Some(own) = ring(&module(&path)) else { continue };
        for (line, code) in code(&text) {
            for imported in code.split("crate::").skip(1) {
                let name: String =
                    imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if ring(&name).is_some_and(|ring| ring > own) {
                    complaints.push(format!(
                        "{}:{}: imports {name} of an outer ring",
                        path.display(),
                        line + 1
                    ));
                }
            }
        }
    }
    complain(&complaints);
}

/// Goal: only ring 3 and above know Pingora, tokio and the clocks; the core knows no serialisation and no log either.
#[test]
fn inner_rings_are_pure() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        let Some(own) = ring(&module(&path)).filter(|ring| *ring < 3) else { continue };
        let outside = ["pingora", "tokio::", "Instant::now", "SystemTime::now", "async fn", ".await"];
        let serial = ["serde", "log::", "std::fs", "std::net", "std::env"];
        let forbidden = outside.iter().chain(serial.iter().filter(|_| own == 1));
        for (line, code) in code(&text).filter(|_| !is_test(&path)) {
            for word in forbidden.clone().filter(|word| has_word(code, word)) {
                complaints.push(format!("{}:{}: {word} in ring {own}", path.display(), line + 1));
            }
        }
    }
    complain(&complaints);
}

/// Whether a line names `word`, not merely a name that ends like it.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(inside))
}

/// Goal: functions of at most 70 lines, files of at most 700, no drawer for leftovers, no promise without a number.
#[test]
fn measures_are_kept() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        let lines = text.lines().count();
        if lines > FILE_MAX {
            complaints.push(format!("{}: {lines} lines", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["common", "util", "utils", "helper", "helpers", "misc"].contains(&stem) {
            complaints.push(format!("{}: a drawer for leftovers", path.display()));
        }
        for (line, length) in functions(&text).into_iter().filter(|(_, length)| *length > FUNCTION_MAX) {
            complaints.push(format!("{}:{line}: a function of {length} lines", path.display()));
        }
        for (line, text) in text.lines().enumerate() {
            let promise = text.find("TODO").or_else(|| text.find("FIXME"));
            if promise.is_some_and(|at| !text[at..].contains('#')) {
                complaints.push(format!("{}:{}: a promise without a number", path.display(), line + 1));
            }
        }
    }
    complain(&complaints);
}

/// The first line and the length of every function, by indentation, which rustfmt guarantees.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let words =
            words.trim_start_matches("pub ").trim_start_matches("const ").trim_start_matches("async ");
        words.starts_with("fn ")
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let length = |start: usize| {
        let end = format!("{}}}", " ".repeat(indent(lines[start])));
        lines[start..].iter().position(|line| *line == end).map_or(1, |length| length + 1)
    };
    (0..lines.len()).filter(|start| begins(lines[*start])).map(|start| (start + 1, length(start))).collect()
}

/// Goal: nothing that a test starts writes between the lines of the tests: whoever spawns a process says where its
/// diagnostics go.
#[test]
fn processes_of_tests_are_captured() {
    for (path, text) in sources("tests/it") {
        for (at, _) in text.match_indices(concat!(".spawn", "()")) {
            let start = text.floor_char_boundary(at.saturating_sub(800));
            let command = &text[start..at];
            let command = command.rfind("Command").map_or(command, |from| &command[from..]);
            let line = text[..at].lines().count();
            assert!(command.contains("stderr("), "{}:{line} lets a process write anywhere", path.display());
        }
    }
}
