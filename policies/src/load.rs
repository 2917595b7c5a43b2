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

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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
pub fn toml_document<T>(file_name: &str, text: &str) -> Result<T, Invalid>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let mut findings = Findings::new(file_name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        shape::syntax(&error, text, &mut findings);
    }
    let mut findings = findings.refuse_errors()?;
    shape::check(&made_once::<T>(), &table, &mut findings);
    let mut findings = findings.refuse_errors()?;
    match T::deserialize(Deserializer::from(table)) {
        Ok(value) => Ok(value),
        Err(error) => {
            findings.error("F0006", error.span().unwrap_or(0..0), error.message());
            Err(findings.into_invalid())
        }
    }
}

/// A file type's schema, made when it is first asked for: that takes longer than to read most files.
fn made_once<T: JsonSchema + 'static>() -> Arc<schemars::Schema> {
    static MADE: Mutex<BTreeMap<TypeId, Arc<schemars::Schema>>> = Mutex::new(BTreeMap::new());
    // Whoever panicked meanwhile has put in a whole schema or none.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(made.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(schema_of::<T>())))
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
