//! Whether a TOML table has the shape that a JSON Schema asks for; finds every unknown key, missing key and wrong type.

use std::ops::Range;

use schemars::Schema;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnose::{Findings, closest, quoted};

/// Takes `null` out of a schema: TOML has none, a key is there or not.
#[derive(Debug, Clone)]
pub(super) struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(words)) = object.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
            alternatives.retain(|alternative| alternative.get("type").is_none_or(|name| name != "null"));
            if let [Value::Object(only)] = alternatives.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
}

/// Reports an error of TOML's own grammar.
pub(super) fn syntax(error: &toml::de::Error, text: &str, findings: &mut Findings) {
    let span = error.span().unwrap_or(text.len()..text.len());
    if error.message() == "duplicate key" {
        let key = findings.text_at(&span).to_owned();
        findings.error("F0001", span, format!("the key `{key}` is given twice")).label("again");
        return;
    }
    findings.error("F0001", span, format!("this is not TOML: {}", error.message())).label("here");
}

/// Reports where the table differs from the schema.
pub(super) fn check(schema: &Schema, table: &Spanned<DeTable<'_>>, findings: &mut Findings) {
    let root = schema.as_value();
    let mut walk = Walk { root, findings };
    walk.table(root, table.get_ref(), &table.span(), "");
}

struct Walk<'a> {
    root: &'a Value,
    findings: &'a mut Findings,
}

impl<'a> Walk<'a> {
    /// Follows references; gives the schema and the description of the last one referred to.
    fn resolve(&self, mut schema: &'a Value) -> (&'a Value, Option<&'a str>) {
        let mut description = None;
        // A reference leads to a definition; more than a few in a row would be a circle.
        for _ in 0..8 {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(target) = self.root.pointer(reference.trim_start_matches('#')) else { break };
            description = target.get("description").and_then(Value::as_str);
            schema = target;
        }
        (schema, description)
    }

    fn value(&mut self, schema: &'a Value, value: &Spanned<DeValue<'_>>, path: &str) {
        let (schema, meaning) = self.resolve(schema);
        let span = value.span();
        if let Some(words) = words(schema) {
            self.word(&words, value, path);
            return;
        }
        if let Some(alternatives) =
            schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
        {
            self.alternatives(alternatives, value, path);
            return;
        }
        let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return };
        if !fits(wanted, value.get_ref()) {
            self.wrong_type(wanted, meaning, value, path);
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => self.table(schema, table, &span, path),
            DeValue::Array(array) => self.array(schema, array, &span, path),
            DeValue::Integer(number) => {
                let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
                self.range(schema, number, &span, path);
            }
            _ => {}
        }
    }

    fn table(&mut self, schema: &'a Value, table: &DeTable<'_>, span: &Range<usize>, path: &str) {
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let inner = join(path, name);
            match (known.and_then(|known| known.get(name)), others) {
                (Some(schema), _) => self.value(schema, value, &inner),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known.unwrap_or(&none).keys().map(String::as_str).collect();
                    self.unknown(name, &key.span(), &names, table, path);
                }
                (None, Some(schema @ Value::Object(_))) => self.value(schema, value, &inner),
                (None, _) => {}
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            // Of a misspelt key the misspelling is reported, which says enough.
            let misspelt = |key: &str| {
                let candidates = || known.unwrap_or(&none).keys().map(String::as_str);
                !candidates().any(|known| known == key)
                    && closest(key, candidates().filter(|known| table.get(*known).is_none())) == Some(name)
            };
            if table.get(name).is_none() && !table.keys().any(|key| misspelt(key.get_ref())) {
                self.missing(name, known.and_then(|known| known.get(name)), span, path);
            }
        }
    }

    fn array(&mut self, schema: &'a Value, array: &[Spanned<DeValue<'_>>], span: &Range<usize>, path: &str) {
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = array.len() as u64;
        let (least, most) = (count("minItems").unwrap_or(0), count("maxItems").unwrap_or(u64::MAX));
        if length < least || length > most {
            let wanted = match (least, most) {
                (least, most) if least == most => format!("exactly {least}"),
                (least, u64::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            let entries = if length == 1 { "entry" } else { "entries" };
            let message = format!("`{path}` has {length} {entries}");
            self.findings.error("F0007", span.clone(), message).label(format!("expected {wanted}"));
        }
        let first = schema.get("prefixItems").and_then(Value::as_array);
        for (index, value) in array.iter().enumerate() {
            let of_place = first.and_then(|schemas| schemas.get(index));
            if let Some(schema) = of_place.or_else(|| schema.get("items")) {
                self.value(schema, value, path);
            }
        }
    }

    fn alternatives(&mut self, alternatives: &'a [Value], value: &Spanned<DeValue<'_>>, path: &str) {
        let resolved: Vec<&'a Value> = alternatives.iter().map(|schema| self.resolve(schema).0).collect();
        let wanted = |schema: &&'a Value| schema.get("type").and_then(Value::as_str);
        let mut fitting =
            resolved.iter().filter(|schema| wanted(schema).is_none_or(|name| fits(name, value.get_ref())));
        match (fitting.next(), fitting.next()) {
            (Some(schema), None) => self.value(schema, value, path),
            (None, _) => {
                let names: Vec<&str> = resolved.iter().filter_map(wanted).map(spoken).collect();
                let found = found(value.get_ref());
                let message = format!("`{path}` is {found}");
                let label = format!("expected {}", names.join(" or "));
                self.findings.error("F0004", value.span(), message).label(label);
            }
            // More than one could be meant: the deserializer decides.
            (Some(_), Some(_)) => {}
        }
    }

    fn word(&mut self, words: &[&str], value: &Spanned<DeValue<'_>>, path: &str) {
        let Some(word) = value.get_ref().as_str() else {
            let message = format!("`{path}` is {}", found(value.get_ref()));
            self.findings.error("F0004", value.span(), message).label(format!("expected {}", quoted(words)));
            return;
        };
        if !words.contains(&word) {
            let diagnostic =
                self.findings.error("F0005", value.span(), format!("`{path}` can't be `{word}`"));
            diagnostic.label(format!("expected {}", quoted(words)));
            if let Some(closest) = closest(word, words.iter().copied()) {
                diagnostic.help(format!("did you mean `{closest}`?"));
            }
        }
    }

    fn wrong_type(&mut self, wanted: &str, meaning: Option<&str>, value: &Spanned<DeValue<'_>>, path: &str) {
        let message = format!("`{path}` is {}", found(value.get_ref()));
        let header = self.findings.text_at(&value.span()).starts_with('[');
        let diagnostic = self.findings.error("F0004", value.span(), message);
        match (wanted, value.get_ref()) {
            ("object", DeValue::Array(_)) if header => {
                diagnostic.help(format!("write [{path}], with single brackets"));
            }
            ("array", DeValue::Table(_)) if header => {
                diagnostic.help(format!("write [[{path}]], with double brackets: one for each"));
            }
            _ => {}
        }
        match (wanted, meaning) {
            ("string", Some(meaning)) => {
                diagnostic.label(format!("expected {meaning}"));
                if matches!(value.get_ref(), DeValue::Integer(_) | DeValue::Float(_)) {
                    diagnostic.help("a quantity is text with its unit, in quotes");
                }
            }
            _ => {
                diagnostic.label(format!("expected {}", spoken(wanted)));
            }
        }
    }

    fn range(&mut self, schema: &Value, number: Option<i128>, span: &Range<usize>, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_i64).map(i128::from);
        let Some(number) = number else { return };
        let label = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) if number < least || number > most => {
                format!("expected {least} to {most}")
            }
            (Some(least), _) if number < least => format!("expected {least} or more"),
            (_, Some(most)) if number > most => format!("expected {most} or less"),
            _ => return,
        };
        self.findings.error("F0008", span.clone(), format!("`{path}` can't be {number}")).label(label);
    }

    fn unknown(&mut self, name: &str, span: &Range<usize>, known: &[&str], table: &DeTable<'_>, path: &str) {
        let free: Vec<&str> = known.iter().copied().filter(|known| table.get(*known).is_none()).collect();
        let place = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
        self.findings
            .error("F0002", span.clone(), format!("there is no key `{name}` {place}"))
            .label("unknown key")
            .suggest(name, "keys that are free here", free);
    }

    fn missing(&mut self, name: &str, schema: Option<&'a Value>, span: &Range<usize>, path: &str) {
        let meaning =
            schema.map(|schema| (schema.get("description").and_then(Value::as_str), self.resolve(schema)));
        let place = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
        let description = meaning.and_then(|(own, (_, of_type))| own.or(of_type));
        let diagnostic =
            self.findings.error("F0003", span.clone(), format!("the key `{name}` is missing {place}"));
        diagnostic.label(format!("expected `{name} = …`"));
        if let Some(description) = description {
            diagnostic.help(format!("{name}: {}", description.replace('\n', " ")));
        }
    }
}

/// The words that a schema allows, where it is an enumeration.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(Value::as_str).collect();
    }
    let alternatives = schema.get("oneOf").and_then(Value::as_array)?;
    let words: Option<Vec<Vec<&str>>> = alternatives.iter().map(words).collect();
    words.map(|words| words.concat())
}

fn fits(wanted: &str, value: &DeValue<'_>) -> bool {
    match wanted {
        "string" => value.is_str(),
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "boolean" => value.is_bool(),
        "array" => value.is_array(),
        "object" => value.is_table(),
        _ => true,
    }
}

/// A JSON type's name in the words of TOML.
fn spoken(wanted: &str) -> &str {
    match wanted {
        "string" => "text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list `[ … ]`",
        "object" => "a table",
        other => other,
    }
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
