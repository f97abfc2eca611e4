//! The JSON schema of the configuration (spec 12.1), made by reading one.
//!
//! A file that has every member is read, and the reader notes what it asks for and as what. So the schema says what the code
//! does, and no list of members has to be kept beside it; a member that the file lacks has no form, which a test finds.
//! Descriptions and defaults are those of [`Members`], which tests hold to the reader.

use super::members::Members;
use super::reader::{Form, Item, Reader};
use super::{root_section, tree};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A configuration that has every member once.
const COMPLETE: &str = include_str!("complete.yaml");

/// Members by their path, `[]` for any element and `{}` for any name, with what they are read as.
pub(super) type Forms = BTreeMap<String, BTreeSet<Form>>;

/// What a schema is made of.
struct Source {
    forms: Forms,
    members: Members,
}

/// The schema, in JSON Schema 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut root = of("", &Source { forms: forms(), members: Members::known() });
    if let Some(members) = root.as_object_mut() {
        members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("title".into(), "Configuration of Tidegate".into());
    }
    root
}

/// What the reader asks for.
pub(super) fn forms() -> Forms {
    // Secrets are read from wherever the file says, and there is no such place.
    let secret = |_: &str| Some("secret".to_owned());
    let reader = Reader::noting_forms(&secret, Path::new(""));
    if let Ok(root) = tree::parse(COMPLETE) {
        let root = Item { reader: &reader, path: String::new(), node: &root };
        root.object().and_then(root_section);
    }
    reader.forms()
}

/// The schema of what stands at a path.
fn of(path: &str, source: &Source) -> Value {
    let read_as = source.forms.get(path).into_iter().flatten().filter(|form| **form != Form::Required);
    let mut kinds: Vec<Value> = read_as.map(|form| kind(path, form, source)).collect();
    let mut schema = match (kinds.pop(), kinds.is_empty()) {
        (None, _) => json!({}),
        (Some(only), true) => only,
        (Some(last), false) => {
            kinds.push(last);
            json!({ "anyOf": kinds })
        }
    };
    if let (Some(keywords), Some(member)) = (schema.as_object_mut(), source.members.find(path)) {
        keywords.insert("description".into(), member.about.clone().into());
        keywords.extend(member.default_value().map(|value| ("default".into(), value)));
    }
    schema
}

fn kind(path: &str, form: &Form, source: &Source) -> Value {
    match form {
        Form::Text => json!({ "type": "string" }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Off => json!({ "const": false }),
        Form::Number(least, most) => json!({
            "type": "integer",
            "minimum": i64::try_from(*least).unwrap_or(i64::MIN),
            "maximum": i64::try_from(*most).unwrap_or(i64::MAX),
        }),
        Form::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 10 }),
        Form::Decimal => json!({ "type": "string", "examples": ["1.25"] }),
        Form::Duration | Form::TimeLimit => {
            json!({ "type": "string", "examples": ["500ms", "2s", "10m"] })
        }
        Form::Size => json!({ "type": "string", "examples": ["64KiB", "32MiB"] }),
        Form::OneOf(words) => json!({ "enum": words }),
        Form::List => json!({ "type": "array", "items": of(&format!("{path}[]"), source) }),
        Form::Entries => {
            json!({ "type": "object", "additionalProperties": of(&format!("{path}{{}}"), source) })
        }
        Form::Object => object(path, source),
        Form::Required => Value::Null,
    }
}

fn object(path: &str, source: &Source) -> Value {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let members = source.forms.iter().filter_map(|(member, of_member)| {
        let name = member.strip_prefix(&prefix)?;
        let is_own = !name.is_empty() && !name.contains(['.', '[', '{']);
        is_own.then_some((member, name, of_member.contains(&Form::Required)))
    });
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (member, name, is_required) in members {
        properties.insert(name.to_owned(), of(member, source));
        required.extend(is_required.then(|| name.to_owned()));
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let (Some(members), false) = (schema.as_object_mut(), required.is_empty()) {
        members.insert("required".into(), required.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every member that the code asks for has a form, so that the schema is whole.
    #[test]
    fn every_member_has_a_form() {
        let forms = forms();
        let bare = |forms: &BTreeSet<Form>| forms.iter().all(|form| *form == Form::Required);
        let formless: Vec<&String> = forms.iter().filter(|(_, of)| bare(of)).map(|(path, _)| path).collect();
        assert!(formless.is_empty(), "not in complete.yaml: {formless:?}");
        assert!(forms.len() > 100, "{}", forms.len());
    }

    /// Goal: the schema that is kept is the one that is made. `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn the_kept_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/tidegate.schema.json");
        let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), made);
    }
}
