//! Policies for tests and demo: the presets as they are shipped, with the few keys changed that must differ.

use std::path::Path;

use anyhow::{Context as _, bail};

/// A preset's text, with values set by key path: `("hysteresis.min_gain", "20%")`. Only keys that the preset has.
///
/// # Errors
/// When there is no such preset, or it has no such key.
pub fn preset(name: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../policies/presets/{name}.toml"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    changed(&text, changes).with_context(|| format!("preset {name}"))
}

fn changed(text: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut whole: toml::Table = toml::from_str(text)?;
    for (path, value) in changes {
        let (tables, key) = path.rsplit_once('.').map_or((None, *path), |(tables, key)| (Some(tables), key));
        let mut table = &mut whole;
        for name in tables.into_iter().flat_map(|tables| tables.split('.')) {
            table = match table.get_mut(name) {
                Some(toml::Value::Table(inner)) => inner,
                _ => bail!("there is no table `{name}` on the way to `{path}`"),
            };
        }
        match table.get_mut(key) {
            Some(old @ toml::Value::String(_)) => *old = (*value).into(),
            _ => bail!("there is no text at `{path}`"),
        }
    }
    Ok(toml::to_string(&whole)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_changed() {
        let text = "mode = \"recommend\"\n[hysteresis]\nmin_gain = \"20%\"\ncooldown = \"2m\"\n";
        let new = changed(text, &[("mode", "auto"), ("hysteresis.min_gain", "99%")]).unwrap();
        let new: toml::Table = toml::from_str(&new).unwrap();
        assert_eq!(new["mode"].as_str(), Some("auto"));
        assert_eq!(new["hysteresis"]["min_gain"].as_str(), Some("99%"));
        assert_eq!(new["hysteresis"]["cooldown"].as_str(), Some("2m"));
        for wrong in ["moed", "hysteresis.min_gian", "histeresis.min_gain", "hysteresis"] {
            assert!(changed(text, &[(wrong, "x")]).is_err(), "{wrong}");
        }
    }
}
