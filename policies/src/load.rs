//! Reading files: TOML into typed values, with every mistake found and placed.
//!
//! Three steps. The text must be TOML; its shape must be that of the file type's JSON Schema (the very one that editors
//! are given), which finds all unknown keys, missing keys and wrong types at once; then the values are read and checked
//! against each other, which every file type does for itself with [`Findings`].

mod budget;
mod file;
mod names;
mod objective;
mod policy;
mod query;
mod shape;
mod source;
mod timing;
mod window;
mod written;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, Deserializer};

pub use crate::diagnose::{Findings, Invalid, Loaded};
pub use names::{Names, is_name, name};
pub use policy::policy;
pub use written::{At, Written};

/// Reads a TOML file into its raw form, which derives `Deserialize` and `JsonSchema`, has `deny_unknown_fields`
/// everywhere, and holds [`At`] and [`Written`] values, so that what is checked afterwards can point at its place.
///
/// # Errors
/// All that is wrong with the file's form: syntax, unknown and missing keys, wrong types, words that are not among those
/// allowed.
pub fn toml_document<T: DeserializeOwned + JsonSchema>(file_name: &str, text: &str) -> Result<T, Invalid> {
    let mut findings = Findings::new(file_name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        shape::syntax(&error, text, &mut findings);
    }
    let mut findings = findings.refuse_errors()?;
    shape::check(&schema_of::<T>(), &table, &mut findings);
    let mut findings = findings.refuse_errors()?;
    match T::deserialize(Deserializer::from(table)) {
        Ok(value) => Ok(value),
        Err(error) => {
            findings.error("F0006", error.span().unwrap_or(0..0), error.message());
            Err(findings.into_invalid())
        }
    }
}

/// The JSON Schema of a file type, as [`toml_document`] checks it and as editors want it.
pub fn schema_of<T: JsonSchema>() -> schemars::Schema {
    SchemaSettings::draft2020_12()
        .with_transform(shape::WithoutNull)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// The JSON Schema of policy files.
pub(crate) fn policy_schema() -> schemars::Schema {
    schema_of::<file::PolicyFile>()
}

/// Reports a format version that this program doesn't read.
pub fn schema_version(version: &At<u32>, known: u32, findings: &mut Findings) {
    if version.value != known {
        let newer = version.value > known;
        findings
            .error("F0020", version.span(), format!("format version {} is not known", version.value))
            .label(format!("expected {known}"))
            .help(if newer { "a newer sterna wrote this file" } else { "versions count from 1" });
    }
}
