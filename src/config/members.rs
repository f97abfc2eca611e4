//! What operators are told of each member of the configuration: what it is, and what happens where it is left out.
//!
//! The words stand in one file beside this one, by path, and nowhere in the code that reads the members: one sentence often
//! serves five places. Tests hold them to the reader: no member without a description, no description without a member, and
//! every default is what the reader makes of a file that leaves the member out.

use super::tree::{self, Node, Value};

/// The descriptions.
const MEMBERS: &str = include_str!("members.yaml");

/// One member as operators are told of it.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its path, `[]` for any element; after `*` the end of any path.
    pub(super) path: String,
    /// What it is and what it is good for.
    pub(super) about: String,
    /// What it is where it is left out, as it would be written.
    pub(super) default: Option<String>,
    /// What happens where it is left out and no value says it.
    pub(super) otherwise: Option<String>,
    /// The unit of a number.
    pub(super) unit: Option<String>,
    /// What a text has to be.
    pub(super) bounds: Option<String>,
}

/// All members, in the order of a file.
pub(super) struct Members(Vec<Member>);

impl Members {
    /// Those that are described; tests know that the file can be read.
    pub(super) fn known() -> Self {
        let Ok(Node { value: Value::Map(entries), .. }) = tree::parse(MEMBERS) else {
            return Self(Vec::new());
        };
        Self(entries.iter().map(|(_, path, node)| member(path, node)).collect())
    }

    /// The member at a path, or the one that stands for all that end like it.
    pub(super) fn find(&self, path: &str) -> Option<&Member> {
        self.0.get(self.position(path)?)
    }

    /// Where a path stands in the order of a file: the places of what is above it, from the outermost on, and its own.
    pub(super) fn place(&self, path: &str) -> Vec<usize> {
        let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
        let plain = ends.filter_map(|end| path.get(..end)).map(|path| path.trim_end_matches("[]"));
        plain.map(|path| self.position(path).unwrap_or(usize::MAX)).collect()
    }

    fn position(&self, path: &str) -> Option<usize> {
        let ends_like =
            |member: &Member| member.path.strip_prefix('*').is_some_and(|end| path.ends_with(end));
        let exact = self.0.iter().position(|member| member.path == path);
        exact.or_else(|| self.0.iter().position(ends_like))
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }
}

impl Member {
    /// The default as a value.
    pub(super) fn default_value(&self) -> Option<serde_json::Value> {
        tree::parse(self.default.as_deref()?).ok().map(|node| json(&node))
    }
}

fn member(path: &str, node: &Node) -> Member {
    let text = |name: &str| match &node.value {
        Value::Map(parts) => parts.iter().find(|(_, part, _)| **part == *name).and_then(|(_, _, node)| {
            let Value::Text(text) = &node.value else { return None };
            Some(text.to_string())
        }),
        _ => None,
    };
    Member {
        path: path.to_owned(),
        about: text("about").unwrap_or_default(),
        default: text("default"),
        otherwise: text("otherwise"),
        unit: text("unit"),
        bounds: text("bounds"),
    }
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Integer(number) => (*number).into(),
        Value::Fraction(number) => (*number).into(),
        Value::Text(text) => (**text).into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(members) => members.iter().map(|(_, name, node)| (name.to_string(), json(node))).collect(),
    }
}
