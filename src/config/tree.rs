//! The YAML text as a tree in which every value knows its place.

use super::problem::{Position, Problem};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Budget, DuplicateKeyPolicy, Error, Location, Options, Spanned};
use std::fmt;

/// The largest text, in bytes: a million keys with limits of their own take a third of it.
pub(crate) const TEXT_BYTES_MAX: usize = 512 << 20;
/// The deepest nesting of lists and mappings.
pub(crate) const DEPTH_MAX: usize = 64;

/// One value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What a value is, before anyone asks what it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// Beyond what fits the nearest number that does, which is out of every range.
    Integer(i64),
    Fraction(f64),
    Text(Box<str>),
    List(Box<[Node]>),
    /// Members in the order of the file, repeated ones included.
    Map(Box<[(Position, Box<str>, Node)]>),
}

impl Value {
    /// A number as a fraction.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            Self::Fraction(number) => Some(*number),
            _ => None,
        }
    }

    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Fraction(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads a text.
///
/// # Errors
///
/// The first fault of syntax, which ends the reading.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(too_large(Position::default()));
    }
    match serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options()) {
        Ok(root) => Ok(node(root)),
        Err(e) => Err(fault(&e)),
    }
}

/// Strict options, in which only bytes, depth and what aliases repeat are bounded: counts of nodes, events and scalars follow
/// from the bytes.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_reader_input_bytes = Some(TEXT_BYTES_MAX);
    budget.max_total_scalar_bytes = TEXT_BYTES_MAX;
    budget.max_depth = DEPTH_MAX;
    budget.max_events = usize::MAX;
    budget.max_nodes = usize::MAX;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options
}

/// The problem of a text that is over the bound.
pub(super) fn too_large(at: Position) -> Problem {
    let message = format!("is larger than {} MiB ({TEXT_BYTES_MAX} bytes)", TEXT_BYTES_MAX >> 20);
    Problem {
        hint: Some("keys can be in a keys_file".to_owned()),
        ..Problem::new(at, String::new(), message)
    }
}

/// The error itself, where it was met in something that is repeated.
fn without_alias(mut e: &Error) -> &Error {
    while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = e {
        e = error;
    }
    e
}

/// What is wrong with a text that cannot be read, in the words of its author where it is over one of the bounds.
fn fault(e: &Error) -> Problem {
    let at = e.location().map(position).unwrap_or_default();
    let message = match without_alias(e) {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("lists and mappings are nested more than {DEPTH_MAX} deep")
        }
        Error::Budget { breach: BudgetBreach::ScalarBytes { .. }, .. } => return too_large(at),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "anchors and aliases (& and *) repeat too much: write the values out".to_owned()
        }
        other => format!("not valid YAML: {}", first_line(&other.to_string())),
    };
    Problem::new(at, String::new(), message)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn position(location: Location) -> Position {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position { line: small(location.line()), column: small(location.column()) }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { at: position(spanned.referenced), value: spanned.value }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.try_into().unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Value>>()? {
            members.push((position(name.referenced), name.value.into(), node(value)));
        }
        Ok(Value::Map(members.into()))
    }
}
