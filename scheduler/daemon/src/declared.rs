//! Services that are declared elsewhere than in the inventory, kept in a file beside the history and read with the inventory.
//!
//! So they are there from the start, also while whoever declared them is away, and every command that looks at the inventory sees
//! them. They go into decisions as any other service.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sterna_core::continuum::inventory::{self, written};
use sterna_core::continuum::{Continuum, Service, ServiceName};
use sterna_policies::diagnose::Invalid;

use crate::reload;

const FILE: &str = "declared.toml";
const HEAD: &str =
    "# Services declared as objects in Kubernetes. Written by `sterna run`, and read with the inventory.\n";

/// The file.
#[derive(Debug, Clone)]
pub struct Declared {
    path: PathBuf,
}

impl Declared {
    /// That of the state folder of a continuum.
    pub fn of(state: &Path) -> Self {
        Self { path: state.join(FILE) }
    }

    /// What is in it; nothing where there is none.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text(&self) -> Result<String, String> {
        match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| format!("{}: {error}", self.path.display())),
        }
    }

    /// The names of the services in its text.
    pub fn names(text: &str) -> BTreeSet<ServiceName> {
        let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
        let services = table.get("service").and_then(toml::Value::as_array).into_iter().flatten();
        services.filter_map(|one| one.get("name")?.as_str().map(ServiceName::from)).collect()
    }

    /// An inventory's text together with it.
    ///
    /// # Errors
    /// When either can't be read.
    pub fn with(&self, inventory: &Path) -> Result<String, String> {
        Ok(written::together(&reload::read(inventory)?, &self.text()?))
    }

    /// Writes these services, if it does not hold them already; whether it did.
    ///
    /// # Errors
    /// When it can't be written. What it held before then stays.
    pub fn write(&self, services: &BTreeMap<ServiceName, Service>) -> io::Result<bool> {
        let tables = written::services(services).map_err(io::Error::other)?;
        let text = if tables.is_empty() { String::new() } else { format!("{HEAD}{tables}") };
        if self.text().is_ok_and(|before| before == text) {
            return Ok(false);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(true)
    }
}

/// The services of an inventory, and those of these tables that it can have beside them.
///
/// # Errors
/// All that is wrong with both together.
pub fn beside(
    name: &str,
    inventory: &str,
    services: &BTreeMap<ServiceName, Service>,
) -> Result<Continuum, Invalid> {
    // What has no form in TOML is read as nothing, and found to be missing.
    let tables = written::services(services).unwrap_or_default();
    Ok(inventory::load(name, &written::together(inventory, &tables))?.value)
}

#[cfg(test)]
mod tests {
    use sterna_core::continuum::Run;

    use super::*;

    #[test]
    fn what_is_declared_is_read_with_the_inventory_and_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let inventory = folder.path().join("inventory.toml");
        std::fs::write(&inventory, "schema_version = 1\n").unwrap();
        let declared = Declared::of(&folder.path().join("state"));
        assert_eq!(declared.with(&inventory).unwrap(), "schema_version = 1\n");
        let run = Run { image: "x".into(), on: "n1".into(), ..Run::default() };
        let service = Service {
            cpu: "1".parse().unwrap(),
            memory: "1MiB".parse().unwrap(),
            pinned: false,
            labels: BTreeMap::new(),
            run: Some(run),
        };
        let services = BTreeMap::from([("shop".into(), service)]);
        assert!(declared.write(&services).unwrap());
        assert!(!declared.write(&services).unwrap());
        assert_eq!(Declared::names(&declared.text().unwrap()), BTreeSet::from(["shop".into()]));
        assert!(Declared::names("no [ toml").is_empty());
        let text = declared.with(&inventory).unwrap();
        assert!(
            text.starts_with("schema_version = 1\n\n# Services") && text.contains("name = \"shop\""),
            "{text}"
        );
        assert!(declared.write(&BTreeMap::new()).unwrap());
        assert_eq!(declared.with(&inventory).unwrap(), "schema_version = 1\n");
        assert!(declared.with(&folder.path().join("none")).is_err());
    }
}
