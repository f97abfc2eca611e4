//! Members of the configuration that this version knows but does not act upon yet, as one table.
//!
//! Where leaving one out of effect would be dangerous (a limit that does not limit, a certificate that is not used), it
//! is a problem; where the gateway merely does not count or price something yet, it is a warning.

/// What becomes of a file that uses a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The file is refused.
    Refused,
    /// The member has no effect, and the operator is told.
    NoEffect,
}

use Severity::{NoEffect, Refused};

/// Paths without indices, and what becomes of them.
const TABLE: &[(&str, Severity)] = &[
    ("store.postgres", Refused),
    ("store.redis", Refused),
    ("models[].sizes", NoEffect),
    ("channels[].api_version", Refused),
];

/// What becomes of the member at `path` (with indices), if it is in the table.
pub(super) fn severity(path: &str) -> Option<Severity> {
    let plain = without_indices(path);
    TABLE.iter().find(|(known, _)| *known == plain).map(|(_, severity)| *severity)
}

/// The names that the table knows under `parent`, for suggestions.
pub(super) fn names_under(parent: &str) -> impl Iterator<Item = &'static str> {
    let parent = without_indices(parent);
    TABLE.iter().filter_map(move |(path, _)| {
        let (head, name) = path.rsplit_once('.').unwrap_or(("", path));
        (head == parent).then_some(name)
    })
}

fn without_indices(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: members are found whatever their index, and only where they belong.
    #[test]
    fn paths_are_matched_without_indices() {
        assert_eq!(severity("channels[12].api_version"), Some(Refused));
        assert_eq!(severity("models[0].sizes"), Some(NoEffect));
        assert_eq!(severity("server.http2"), None);
        assert!(names_under("models[3]").eq(["sizes"]));
    }
}
