//! Walking the tree: typed access to members that collects problems instead of stopping at the first.
//!
//! An [`Object`] knows which members were asked for; what is left over is unknown, or known for later. So a section of
//! the configuration reads as the list of its members, and strictness needs no list of its own.

use super::mint;
use super::not_yet;
use super::problem::{Position, Problem, Severity};
use super::quantity;
use super::tree::{Node, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// What all parts of one reading share.
pub(super) struct Reader<'a> {
    /// The environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative files of secrets are.
    pub(super) folder: &'a Path,
    /// Whether secrets of the environment and of files are left unread, with a placeholder in their place.
    pub(super) without_secrets: bool,
    /// Digests of keys that were revoked at run time.
    revoked: RefCell<HashSet<[u8; 32]>>,
    problems: RefCell<Vec<Problem>>,
    /// What was asked for, and as what: what the schema is made of. `None` where no schema is.
    forms: Option<RefCell<BTreeMap<String, BTreeSet<Form>>>>,
}

/// As what a value is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Text,
    Flag,
    Number(i128, i128),
    Ratio,
    /// A decimal number in quotes.
    Decimal,
    Duration,
    /// A duration of more than zero.
    TimeLimit,
    Size,
    /// The word `false`, where something else can be switched off by it.
    Off,
    OneOf(Vec<&'static str>),
    List,
    /// A mapping with free names.
    Entries,
    /// A mapping with known names.
    Object,
    /// A member that has to be there.
    Required,
}

/// A value with its path.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) path: String,
    pub(super) node: &'a Node,
}

/// A mapping whose members are being read.
pub(super) struct Object<'a> {
    item: Item<'a>,
    members: &'a [(Position, Box<str>, Node)],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Self {
        Self {
            env,
            folder,
            without_secrets: false,
            revoked: RefCell::default(),
            problems: RefCell::default(),
            forms: None,
        }
    }

    /// A reader for another file of the same configuration, which has no secrets.
    pub(super) fn sharing_revoked<'b>(&self, env: &'b dyn Fn(&str) -> Option<String>) -> Reader<'b> {
        Reader { revoked: self.revoked.clone(), ..Reader::new(env, Path::new("")) }
    }

    /// A reader that also notes what is asked for, for [`Self::forms`].
    pub(super) fn noting_forms(env: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Self {
        Self { forms: Some(RefCell::default()), ..Self::new(env, folder) }
    }

    /// Everything that was asked for so far, by its path: `[]` for any element, `{}` for any name.
    pub(super) fn forms(&self) -> BTreeMap<String, BTreeSet<Form>> {
        self.forms.as_ref().map(|forms| forms.borrow().clone()).unwrap_or_default()
    }

    fn note_form(&self, path: &str, form: Option<Form>) {
        if let Some(forms) = &self.forms {
            forms.borrow_mut().entry(without_names(path)).or_default().extend(form);
        }
    }

    /// Notes which keys are revoked, as the list in the folder of the store has it; without a list none is.
    pub(super) fn note_revoked(&self, store: &Path) {
        let list = std::fs::read_to_string(store.join(super::REVOKED_FILE)).unwrap_or_default();
        let digests = list.lines().filter_map(|line| line.split(' ').next().and_then(mint::parse_digest));
        self.revoked.borrow_mut().extend(digests);
    }

    /// Whether the key with this digest was revoked at run time.
    pub(super) fn is_revoked(&self, digest: &[u8; 32]) -> bool {
        self.revoked.borrow().contains(digest)
    }

    /// Notes an error at a place that no value has.
    pub(super) fn refuse_at(&self, at: Position, message: String) {
        self.problems.borrow_mut().push(Problem::new(at, String::new(), message));
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Errors and warnings in the order of the file, each once.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.at);
        problems.dedup();
        problems
    }
}

impl<'a> Item<'a> {
    /// Notes a problem at this place.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.note(Severity::Error, message.into(), None);
    }

    /// Notes a problem with what to do about it.
    pub(super) fn refuse_with(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Severity::Error, message.into(), Some(hint.into()));
    }

    /// Notes a warning.
    pub(super) fn warn(&self, message: impl Into<String>) {
        self.note(Severity::Warning, message.into(), None);
    }

    /// Notes a warning with what to do about it.
    pub(super) fn warn_with(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Severity::Warning, message.into(), Some(hint.into()));
    }

    fn note(&self, severity: Severity, message: String, hint: Option<String>) {
        let problem = Problem { severity, at: self.node.at, path: self.path.clone(), message, hint };
        self.reader.problems.borrow_mut().push(problem);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(format!("must be {what}, not {}", self.node.value.kind()));
        None
    }

    /// Notes as what this value is read, where no accessor does.
    pub(super) fn as_form(&self, form: Form) {
        self.reader.note_form(&self.path, Some(form));
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.as_form(Form::Text);
        let text = self.plain_text()?;
        if let Some(name) = variable(text) {
            let hint = if self.path.ends_with(".value") {
                format!("write {{env: {name}}}")
            } else {
                "write the value itself".to_owned()
            };
            self.warn_with("looks like a variable of the environment, and is taken as it stands", hint);
        }
        Some(text)
    }

    fn plain_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Fraction(_) | Value::Bool(_) => {
                self.refuse_with(
                    format!("must be a text, not {}", self.node.value.kind()),
                    "put it in quotes",
                );
                None
            }
            _ => self.expected("a text"),
        }
    }

    /// A text that is a decimal number, for whoever parses it.
    pub(super) fn decimal(&self) -> Option<&'a str> {
        self.as_form(Form::Decimal);
        self.plain_text()
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.as_form(Form::Flag);
        match self.node.value {
            Value::Bool(flag) => Some(flag),
            _ => self.expected("true or false"),
        }
    }

    pub(super) fn number<T: TryFrom<i128>>(&self, range: RangeInclusive<i128>) -> Option<T> {
        self.as_form(Form::Number(*range.start(), *range.end()));
        let (least, most) = (*range.start(), *range.end());
        let expected = match self.node.value {
            Value::Integer(number) if range.contains(&number.into()) => {
                return T::try_from(number.into()).ok();
            }
            _ if least == most => least.to_string(),
            Value::Integer(number) if i128::from(number) > most => format!("between {least} and {most}"),
            // Beyond what a whole number of the file can be, it is read as a fraction.
            Value::Fraction(number) if number >= i64::MAX as f64 => format!("between {least} and {most}"),
            _ => format!("a whole number of {least} or more"),
        };
        match self.node.value {
            Value::Integer(_) | Value::Fraction(_) => self.refuse(format!("must be {expected}")),
            _ => return self.expected(&expected),
        }
        None
    }

    /// One of a few numbers.
    pub(super) fn one_of_numbers(&self, numbers: &[u16]) -> Option<u16> {
        let ends = numbers.iter().min().zip(numbers.iter().max());
        self.as_form(
            ends.map_or(Form::Number(0, 0), |(least, most)| {
                Form::Number(i128::from(*least), i128::from(*most))
            }),
        );
        let found = numbers.iter().copied().find(|one| Value::Integer((*one).into()) == self.node.value);
        if found.is_none() {
            let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            self.refuse(format!("must be {}", words.join(" or ")));
        }
        found
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.as_form(Form::Duration);
        self.any_duration()
    }

    fn any_duration(&self) -> Option<Duration> {
        if let Value::Integer(number) = self.node.value {
            self.refuse_with("has no unit", format!("write {number}s or {number}ms"));
            return None;
        }
        let text = self.plain_text()?;
        let parsed = quantity::duration(text);
        if parsed.is_none() {
            self.refuse_with(format!("is no duration: {text:?}"), "such as 500ms, 2s, 10m");
        }
        parsed
    }

    /// A duration of more than zero.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.as_form(Form::TimeLimit);
        let duration = self.any_duration()?;
        if duration.is_zero() {
            self.refuse("must be more than zero");
            return None;
        }
        Some(duration)
    }

    pub(super) fn size(&self) -> Option<usize> {
        self.as_form(Form::Size);
        if let Value::Integer(number) = self.node.value {
            self.refuse_with("has no unit", format!("write {number}B or {number}MiB"));
            return None;
        }
        let text = self.plain_text()?;
        let parsed = quantity::size(text).filter(|size| *size > 0);
        if parsed.is_none() {
            self.refuse_with(format!("is no size: {text:?}"), "such as 64KiB, 32MiB");
        }
        parsed
    }

    /// One of a closed list of words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        self.as_form(Form::OneOf(words.iter().map(|(word, _)| *word).collect()));
        self.word_of(words)
    }

    /// The same, where not all of the words may be written, and the caller says which.
    pub(super) fn word_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.plain_text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.refuse_with(format!("is unknown: {text:?}"), suggestion(text, &names));
        }
        found
    }

    /// A number from 0 to 10, as a part of something.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.as_form(Form::Ratio);
        let ratio = match self.node.value {
            Value::Integer(0..=10) | Value::Fraction(0.0..=10.0) => self.node.value.as_f64(),
            Value::Integer(_) | Value::Fraction(_) => None,
            _ => return self.expected("a number"),
        };
        if ratio.is_none() {
            self.refuse("must be between 0 and 10");
        }
        ratio
    }

    pub(super) fn list(&self) -> Vec<Item<'a>> {
        self.as_form(Form::List);
        let Value::List(items) = &self.node.value else {
            return self.expected("a list").unwrap_or_default();
        };
        let child =
            |(index, node)| Item { reader: self.reader, path: format!("{}[{index}]", self.path), node };
        items.iter().enumerate().map(child).collect()
    }

    /// A list that has to name something.
    pub(super) fn filled_list(&self) -> Vec<Item<'a>> {
        if matches!(&self.node.value, Value::List(items) if items.is_empty()) {
            self.refuse("must not be empty");
        }
        self.list()
    }

    /// The members of a mapping with free names; a name that is there twice is a problem.
    pub(super) fn entries(&self) -> Vec<(&'a str, Item<'a>)> {
        self.as_form(Form::Entries);
        let Value::Map(members) = &self.node.value else {
            return self.expected("a mapping").unwrap_or_default();
        };
        report_repeated(self, members);
        let child = |(_, name, node): &'a (Position, Box<str>, Node)| {
            let path = format!("{}[{name:?}]", self.path);
            (&**name, Item { reader: self.reader, path, node })
        };
        members.iter().map(child).collect()
    }

    /// The mapping with known names.
    pub(super) fn object(&self) -> Option<Object<'a>> {
        self.as_form(Form::Object);
        let Value::Map(members) = &self.node.value else { return self.expected("a mapping") };
        report_repeated(self, members);
        Some(Object { item: self.clone(), members, asked: RefCell::default() })
    }
}

/// Above so many members a mapping is searched by a table.
const MANY_MEMBERS: usize = 32;

fn report_repeated(item: &Item<'_>, members: &[(Position, Box<str>, Node)]) {
    let report = |at: Position, name: &str, first: Position| {
        let message = format!("is there twice, first in line {}", first.line);
        item.reader.problems.borrow_mut().push(Problem::new(at, joined(&item.path, name), message));
    };
    if members.len() > MANY_MEMBERS {
        let mut seen = HashMap::with_capacity(members.len());
        for (at, name, _) in members {
            let first = *seen.entry(name).or_insert(*at);
            if first != *at {
                report(*at, name, first);
            }
        }
        return;
    }
    for (index, (at, name, _)) in members.iter().enumerate() {
        if let Some((first, _, _)) = members.iter().take(index).find(|(_, earlier, _)| earlier == name) {
            report(*at, name, *first);
        }
    }
}

impl<'a> Object<'a> {
    /// A member that may be missing; null counts as missing.
    pub(super) fn get(&self, name: &'static str) -> Option<Item<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&name) {
            asked.push(name);
            if self.item.reader.forms.is_some() {
                self.item.reader.note_form(&joined(&self.item.path, name), None);
            }
        }
        let (_, _, node) = self.members.iter().find(|(_, member, _)| **member == *name)?;
        let path = joined(&self.item.path, name);
        (!matches!(node.value, Value::Null)).then_some(Item { reader: self.item.reader, path, node })
    }

    /// The reader of the whole file.
    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.item.reader
    }

    /// The folder that relative paths start from.
    pub(super) fn folder(&self) -> &'a Path {
        self.item.reader.folder
    }

    /// A member that has to be there.
    pub(super) fn required(&self, name: &'static str) -> Option<Item<'a>> {
        let found = self.get_required(name);
        if found.is_none() {
            self.item.refuse(format!("has no {name}"));
        }
        found
    }

    /// The same with a hint on what to write.
    pub(super) fn required_with(&self, name: &'static str, hint: &str) -> Option<Item<'a>> {
        let found = self.get_required(name);
        if found.is_none() {
            self.item.refuse_with(format!("has no {name}"), hint);
        }
        found
    }

    fn get_required(&self, name: &'static str) -> Option<Item<'a>> {
        if self.item.reader.forms.is_some() {
            self.item.reader.note_form(&joined(&self.item.path, name), Some(Form::Required));
        }
        self.get(name)
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (at, name, node) in self.members.iter().filter(|(_, name, _)| !asked.contains(&&**name)) {
            let path = joined(&self.item.path, name);
            let off = matches!(&node.value, Value::Null | Value::Bool(false))
                || matches!(&node.value, Value::List(list) if list.is_empty());
            let reader = self.item.reader;
            let note = |message: &str, hint: Option<String>| {
                let problem = Problem { hint, ..Problem::new(*at, path.clone(), message.into()) };
                reader.problems.borrow_mut().push(problem);
            };
            match not_yet::is_planned(&path) {
                true if off => {}
                true => note("not available yet", None),
                false => {
                    let known: Vec<_> =
                        asked.iter().copied().chain(not_yet::names_under(&self.item.path)).collect();
                    note("is unknown", Some(suggestion(name, &known)));
                }
            }
        }
    }
}

/// The name in a text that is written as shells, compose files and templates write a variable: `${NAME}`, or `$NAME`,
/// `$(NAME)`, `{{NAME}}` or `%NAME%` alone.
fn variable(text: &str) -> Option<&str> {
    let is_name = |name: &&str| {
        let mut letters = name.bytes();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    let within = |open: &str, close: &str| text.strip_prefix(open)?.strip_suffix(close);
    let whole = within("$(", ")").or_else(|| within("{{", "}}")).or_else(|| within("%", "%"));
    if let Some(name) = whole.map(|name| name.trim().trim_start_matches(['.', '$'])).filter(is_name) {
        return Some(name);
    }
    let start = memchr::memchr(b'$', text.as_bytes())?;
    let rest = text.get(start + 1..)?;
    match rest.strip_prefix('{') {
        // What stands behind the name in the braces is a default.
        Some(inside) => inside.split_once('}')?.0.split([':', '-']).next().filter(is_name),
        None => Some(rest).filter(|_| start == 0).filter(is_name),
    }
}

/// A path with `[]` for its indices and `{}` for its free names, which stand in brackets and quotes.
fn without_names(path: &str) -> String {
    let mut plain = String::new();
    let mut rest = path;
    while let Some((before, inside)) = rest.split_once('[') {
        plain.push_str(before);
        let quoted = inside.starts_with('"');
        plain.push_str(if quoted { "{}" } else { "[]" });
        let end =
            if quoted { inside.find("\"]").map(|at| at + 2) } else { inside.find(']').map(|at| at + 1) };
        rest = end.and_then(|end| inside.get(end..)).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

fn joined(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// "did you mean …", or the list of what there is.
fn suggestion(word: &str, known: &[&str]) -> String {
    let closest = known.iter().map(|name| (distance(word, name), name)).min();
    match closest {
        Some((distance, name)) if distance <= 2 && distance < name.len() => format!("did you mean {name}?"),
        _ => format!("known: {}", known.join(", ")),
    }
}

/// Levenshtein's distance, bounded by the length of what people write.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: typing errors are recognised, other words are not.
    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in
            [("listen", "listen", 0), ("lisetn", "listen", 2), ("", "abc", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected);
        }
        assert_eq!(suggestion("wieght", &["weight", "id"]), "did you mean weight?");
        assert_eq!(suggestion("zzz", &["weight", "id"]), "known: weight, id");
    }
}
