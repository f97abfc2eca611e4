//! Members of the configuration that this version knows but does not act upon yet, as one table.
//!
//! Leaving one of them out of effect would be dangerous, so a file that uses one is refused.

/// Paths without indices.
const TABLE: &[&str] = &["store.postgres", "store.redis"];

/// Whether the member at `path` (with indices) is in the table.
pub(super) fn is_planned(path: &str) -> bool {
    TABLE.contains(&&*without_indices(path))
}

/// The names that the table knows under `parent`, for suggestions.
pub(super) fn names_under(parent: &str) -> impl Iterator<Item = &'static str> {
    let parent = without_indices(parent);
    TABLE.iter().filter_map(move |path| {
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
        assert!(is_planned("store.postgres") && is_planned("store.redis"));
        assert!(!is_planned("server.http2"));
        assert!(names_under("store").eq(["postgres", "redis"]));
    }
}
