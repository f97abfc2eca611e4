//! The reference of the configuration for operators, in Markdown (spec 12.1, 15.1): each member with its type, default and
//! bounds as the reader has them, and what it is as [`Members`] says.

use super::members::{Member, Members};
use super::reader::Form;
use super::schema::{self, Forms};
use std::collections::BTreeSet;
use std::fmt::Write;

const HEAD: &str = "\
A configuration is one YAML file. Unknown and repeated members are errors, and `tidegate check -c FILE` tells all problems at
once. [conf/tidegate.yaml](../conf/tidegate.yaml) has the same members as a file to begin with, and `tidegate schema` prints
them as a JSON schema for editors.

- A **duration** has its unit: `500ms`, `2s`, `10m`, `1h 30m`; at most seven days. A **size** has one, too: `64KiB`, `32MiB`, `1GB`.
- An **amount** is a decimal number in quotes, so that nothing makes a binary fraction of it.
- A **secret** is `{env: NAME}`, `{file: PATH}` or `{value: …}`, exactly one of them, and must not be a plain word. A
  reload reads variables and files again.
- Paths of files and folders begin at the folder of the configuration, if they are not absolute.
- `[]` stands for each element of a list. A member of `null` counts as left out.
- A reload puts everything into force that does not say that it takes a restart; `tidegate reload` tells what does.
";

/// The members of a configuration, a table for each section.
#[must_use]
pub fn markdown() -> String {
    let page = Page { forms: schema::forms(), members: Members::known() };
    let mut text = String::from(HEAD);
    page.overview(&mut text);
    for section in page.sections() {
        page.section(section, &mut text);
    }
    text
}

/// What a member is where it is left out, as it would be written; `None` where no value says it.
#[must_use]
pub fn default_of(path: &str) -> Option<String> {
    Members::known().find(path)?.default.clone()
}

struct Page {
    forms: Forms,
    members: Members,
}

impl Page {
    /// The members at the top that have members of their own, in the order of a file.
    fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<&str> = self.top().filter(|path| !self.below(path).is_empty()).collect();
        sections.sort_by_key(|path| self.members.place(path));
        sections
    }

    fn top(&self) -> impl Iterator<Item = &str> {
        self.forms
            .keys()
            .map(String::as_str)
            .filter(|path| !path.is_empty() && !path.contains(['.', '[', '{']))
    }

    /// The members of a section, in the order of a file; elements of lists and mappings are no members.
    fn below(&self, section: &str) -> Vec<&str> {
        let inside = |path: &&str| {
            let rest = path.strip_prefix(section).map(|rest| rest.trim_start_matches("[]"));
            rest.is_some_and(|rest| rest.starts_with('.')) && !path.ends_with(['}', ']'])
        };
        let mut paths: Vec<&str> = self.forms.keys().map(String::as_str).filter(inside).collect();
        paths.sort_by_key(|path| self.members.place(path));
        paths
    }

    fn overview(&self, text: &mut String) {
        text.push_str(
            "\n## Sections\n\n| member | type | where it is left out | what it is |\n|---|---|---|---|\n",
        );
        let mut top: Vec<&str> = self.top().collect();
        top.sort_by_key(|path| self.members.place(path));
        for path in top {
            let name = if self.below(path).is_empty() {
                format!("`{path}`")
            } else {
                format!("[`{path}`](#{path})")
            };
            let (kind, default, about) = (self.kind(path), self.default(path), self.about(path));
            let _ = writeln!(text, "| {name} | {kind} | {default} | {about} |");
        }
    }

    fn section(&self, section: &str, text: &mut String) {
        let _ = writeln!(text, "\n## {section}\n\n{}\n", self.about(section));
        text.push_str("| member | type, unit | default | bounds | what it is |\n|---|---|---|---|---|\n");
        for path in self.below(section) {
            let (kind, default) = (self.kind(path), self.default(path));
            let (bounds, about) = (self.bounds(path), self.about(path));
            let _ = writeln!(text, "| `{path}` | {kind} | {default} | {bounds} | {about} |");
        }
    }

    fn about(&self, path: &str) -> &str {
        self.members.find(path).map_or("", |member| &member.about)
    }

    fn forms_of(&self, path: &str) -> impl Iterator<Item = &Form> {
        self.forms.get(path).into_iter().flatten().filter(|form| **form != Form::Required)
    }

    /// What a value is, with its unit.
    fn kind(&self, path: &str) -> String {
        let kinds: Vec<String> = self.forms_of(path).map(|form| self.form(path, form)).collect();
        let unit = self.members.find(path).and_then(|member| member.unit.as_deref());
        kinds.join(" or ") + &unit.map(|unit| format!(", {unit}")).unwrap_or_default()
    }

    fn form(&self, path: &str, form: &Form) -> String {
        match form {
            Form::Text => "text".to_owned(),
            Form::Flag => "`true` or `false`".to_owned(),
            Form::Off => "`false`".to_owned(),
            Form::Number(..) => "whole number".to_owned(),
            Form::Ratio => "number".to_owned(),
            Form::Decimal => "amount".to_owned(),
            Form::Duration | Form::TimeLimit => "duration".to_owned(),
            Form::Size => "size".to_owned(),
            Form::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Form::List => format!("list: {}", self.kind(&format!("{path}[]"))),
            Form::Entries => format!("mapping of names: {}", self.kind(&format!("{path}{{}}"))),
            Form::Object if self.forms.contains_key(&format!("{path}.env")) => "secret".to_owned(),
            Form::Object => "mapping".to_owned(),
            Form::Required => String::new(),
        }
    }

    fn default(&self, path: &str) -> String {
        let required = self.forms.get(path).is_some_and(|forms| forms.contains(&Form::Required));
        match self.members.find(path) {
            Some(Member { default: Some(value), .. }) => format!("`{value}`"),
            Some(Member { otherwise: Some(words), .. }) => words.clone(),
            _ if required => "required".to_owned(),
            _ => String::new(),
        }
    }

    /// What a value has to be, in the words of its description or by what it is read as.
    fn bounds(&self, path: &str) -> String {
        if let Some(Member { bounds: Some(words), .. }) = self.members.find(path) {
            return words.clone();
        }
        let element = format!("{path}[]");
        let bounds: BTreeSet<String> =
            self.forms_of(path).chain(self.forms_of(&element)).filter_map(bounds_of).collect();
        bounds.into_iter().collect::<Vec<_>>().join("; ")
    }
}

fn bounds_of(form: &Form) -> Option<String> {
    match form {
        Form::Number(least, most) if least == most => Some(least.to_string()),
        Form::Number(least, most) => Some(format!("{} to {}", grouped(*least), grouped(*most))),
        Form::Ratio => Some("0 to 10".to_owned()),
        Form::Duration => Some("`0s` or more".to_owned()),
        Form::TimeLimit | Form::Size => Some("more than zero".to_owned()),
        _ => None,
    }
}

/// A number with a comma after each three digits.
#[must_use]
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
