//! The JSON Schema of policy files, for editors. Loading checks files by the very same one.

use crate::load::policy_schema;

/// The schema as text.
pub fn text() -> String {
    let mut text = format!("{:#}", policy_schema().as_value());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `STERNA_UPDATE_SCHEMA=1` writes the file anew.
    #[test]
    fn the_file_in_the_repository_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policy.schema.json");
        if std::env::var_os("STERNA_UPDATE_SCHEMA").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap();
        assert!(
            file == text(),
            "run this test with STERNA_UPDATE_SCHEMA=1 and commit policies/policy.schema.json"
        );
    }

    #[test]
    fn no_value_may_be_null() {
        assert!(!text().contains("null"));
    }

    /// Every table refuses unknown keys: else a misspelt key would be silence.
    #[test]
    fn every_table_is_closed() {
        fn walk(schema: &serde_json::Value, path: &str) {
            if schema.get("properties").is_some() {
                assert_eq!(
                    schema.get("additionalProperties"),
                    Some(&serde_json::Value::Bool(false)),
                    "{path}"
                );
            }
            match schema {
                serde_json::Value::Object(parts) => {
                    parts.iter().for_each(|(key, part)| walk(part, &format!("{path}/{key}")));
                }
                serde_json::Value::Array(parts) => parts.iter().for_each(|part| walk(part, path)),
                _ => {}
            }
        }
        walk(policy_schema().as_value(), "");
    }
}
