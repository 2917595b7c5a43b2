//! Where two values of one kind differ, key by key.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One place at which two values differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The way to it: keys with dots between them, places in lists in brackets from 0.
    pub path: String,
    /// What stands there in the older value; `None` for nothing.
    pub old: Option<Value>,
    /// What stands there in the newer one.
    pub new: Option<Value>,
}

/// All places at which two values differ, in the order of their keys.
///
/// # Errors
/// When one of them can't be put into JSON.
pub fn between<T: Serialize>(old: &T, new: &T) -> Result<Vec<Difference>, serde_json::Error> {
    let (old, new) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
    let mut found = Vec::new();
    walk(String::new(), Some(&old), Some(&new), &mut found);
    Ok(found)
}

fn walk(path: String, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    // A key without a value says as much as no key.
    let (old, new) = (old.filter(|value| !value.is_null()), new.filter(|value| !value.is_null()));
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => objects(&path, old, new, found),
        (Some(Value::Array(old)), Some(Value::Array(new))) if tables(old) && tables(new) => {
            for index in 0..old.len().max(new.len()) {
                walk(format!("{path}[{index}]"), old.get(index), new.get(index), found);
            }
        }
        (old, new) => found.push(Difference { path, old: old.cloned(), new: new.cloned() }),
    }
}

fn objects(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<Difference>) {
    let only_new = new.keys().filter(|key| !old.contains_key(*key));
    let mut keys: Vec<&String> = old.keys().chain(only_new).collect();
    keys.sort();
    for key in keys {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        walk(inner, old.get(key), new.get(key), found);
    }
}

/// Lists of names and numbers are told as a whole.
fn tables(list: &[Value]) -> bool {
    list.iter().all(Value::is_object)
}

/// `path: old -> new`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(old: Value, new: Value) -> Vec<String> {
        between(&old, &new).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_place_is_told_once_with_its_way() {
        let old =
            json!({"a": {"b": "1ms", "c": 2}, "list": ["x"], "terms": [{"m": "p"}, {"m": "q"}], "gone": 1});
        let new = json!({"a": {"b": "2ms", "c": 2}, "list": ["x", "y"], "terms": [{"m": "r"}], "come": {"k": true}});
        assert_eq!(
            lines(old, new),
            [
                "a.b: 1ms -> 2ms",
                "come: nothing -> {\"k\":true}",
                "gone: 1 -> nothing",
                "list: [\"x\"] -> [\"x\",\"y\"]",
                "terms[0].m: p -> r",
                "terms[1]: {\"m\":\"q\"} -> nothing",
            ]
        );
    }

    #[test]
    fn nothing_differs_between_equals_and_between_nothing_and_null() {
        assert_eq!(lines(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]})), Vec::<String>::new());
        assert_eq!(lines(json!({"a": null}), json!({})), Vec::<String>::new());
    }
}
