//! Settings of the service, in layers: defaults, below the TOML file, below the environment.
//!
//! Variables are `STERNA__` and the key, with `__` between its parts: `STERNA__PROMETHEUS__URL`. Relative paths, also those
//! from the environment, are relative to the folder of the settings file.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use sterna_policies::quantity::Millis;
use thiserror::Error;

const PREFIX: &str = "STERNA";
const SEPARATOR: &str = "__";

/// Settings of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The inventory file.
    pub inventory: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// The metrics store.
    pub prometheus: PrometheusSettings,
    /// Folder of the state; each continuum has a folder of its own in it.
    pub state: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// Seed of every random choice.
    pub seed: u64,
    /// Cycles after which the service ends; `None` for never.
    pub cycles: Option<u64>,
}

/// The metrics store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// Its address.
    pub url: String,
    /// Longest time that one query may take.
    pub timeout: Millis,
}

/// Settings that can't be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("can't read the settings file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the settings file {path} is invalid:\n{report}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, what, and what would be right.
        report: String,
    },
    /// All layers together don't make settings.
    #[error("the settings of {path} with the environment (STERNA__…) are invalid: {reason}")]
    Layers {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key.
        reason: String,
    },
}

/// The file by itself, read strictly: `config` turns texts into numbers and rounds without a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read only to be checked; the values are taken from all layers together")]
struct Strict {
    inventory: Option<PathBuf>,
    policy: Option<PathBuf>,
    prometheus: Option<StrictPrometheus>,
    state: Option<PathBuf>,
    listen: Option<SocketAddr>,
    seed: Option<u64>,
    cycles: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read only to be checked; the values are taken from all layers together")]
struct StrictPrometheus {
    url: Option<String>,
    timeout: Option<Millis>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    inventory: PathBuf,
    policy: PathBuf,
    prometheus: PrometheusSettings,
    state: Option<PathBuf>,
    listen: SocketAddr,
    seed: Whole<u64>,
    cycles: Option<Whole<u64>>,
}

/// A whole number that is not rounded on the way: from the environment it comes as text.
struct Whole<T>(T);

impl<'de, T: FromStr + TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strictly<T>(PhantomData<T>);
        impl<T: FromStr + TryFrom<i128>> Visitor<'_> for Strictly<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
                T::try_from(i128::from(value))
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
                T::try_from(i128::from(value))
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
        }
        deserializer.deserialize_any(Strictly(PhantomData)).map(Whole)
    }
}

impl Settings {
    /// Reads the settings: defaults, the file, and the process's environment.
    ///
    /// # Errors
    /// When the file can't be read or is invalid by itself, or when all layers together are.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        Self::load_with(path, std::env::vars().collect())
    }

    /// As [`Settings::load`], with `environment` for the process's.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(path: &Path, environment: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        toml::from_str::<Strict>(&text)
            .map_err(|error| SettingsError::Invalid { path: path.to_owned(), report: error.to_string() })?;

        let layers_error = |error: config::ConfigError| SettingsError::Layers {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let default_state = default_state(&environment);
        let variables = environment.into_iter().collect();
        let layers: Layers = config::Config::builder()
            .set_default("listen", "127.0.0.1:7400")
            .and_then(|builder| builder.set_default("seed", 0))
            .and_then(|builder| builder.set_default("prometheus.url", "http://127.0.0.1:9090"))
            .and_then(|builder| builder.set_default("prometheus.timeout", "10s"))
            .map_err(layers_error)?
            .add_source(config::File::from_str(&text, config::FileFormat::Toml))
            .add_source(
                config::Environment::with_prefix(PREFIX)
                    .prefix_separator(SEPARATOR)
                    .separator(SEPARATOR)
                    .source(Some(variables)),
            )
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(layers_error)?;

        let invalid =
            |reason: &str| SettingsError::Layers { path: path.to_owned(), reason: reason.to_owned() };
        if layers.prometheus.timeout < Millis::from_micros(1_000_000) {
            return Err(invalid("`prometheus.timeout` must be at least \"1ms\""));
        }
        if layers.cycles.as_ref().is_some_and(|cycles| cycles.0 == 0) {
            return Err(invalid("`cycles` must be at least 1; leave it out to run until stopped"));
        }
        let state = match (layers.state, default_state) {
            (Some(state), _) => state,
            (None, Some(state)) => state,
            (None, None) => return Err(invalid("neither `state`, nor HOME, nor XDG_STATE_HOME is set")),
        };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self {
            inventory: folder.join(layers.inventory),
            policy: folder.join(layers.policy),
            prometheus: layers.prometheus,
            state: folder.join(state),
            listen: layers.listen,
            seed: layers.seed.0,
            cycles: layers.cycles.map(|cycles| cycles.0),
        })
    }

    /// Folder of one continuum's state.
    pub fn state_of(&self, continuum: &str) -> PathBuf {
        self.state.join(continuum)
    }

    /// Folder of one continuum's certificate authority.
    pub fn authority_of(&self, continuum: &str) -> PathBuf {
        self.state_of(continuum).join("authority")
    }
}

/// `$XDG_STATE_HOME/sterna`, or `$HOME/.local/state/sterna`.
fn default_state(environment: &[(String, String)]) -> Option<PathBuf> {
    let absolute = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| PathBuf::from(value))
            // The XDG rules have relative paths ignored.
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("sterna"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sterna.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load_with(&path, environment).map(|mut settings| {
            for path in [&mut settings.inventory, &mut settings.policy, &mut settings.state] {
                if let Ok(rest) = path.strip_prefix(folder.path()) {
                    *path = Path::new("/here").join(rest);
                }
            }
            settings
        })
    }

    const LEAST: &str = "inventory = \"inventory.toml\"\npolicy = \"p/latency.toml\"\n";
    const HOME: (&str, &str) = ("HOME", "/home/op");

    #[test]
    fn defaults_lie_below_the_file_and_the_environment_above() {
        let settings = load(LEAST, &[HOME]).unwrap();
        assert_eq!(settings.inventory, Path::new("/here/inventory.toml"));
        assert_eq!(settings.policy, Path::new("/here/p/latency.toml"));
        assert_eq!(settings.state, Path::new("/home/op/.local/state/sterna"));
        assert_eq!(settings.authority_of("demo"), Path::new("/home/op/.local/state/sterna/demo/authority"));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
        assert_eq!((settings.seed, settings.cycles), (0, None));

        let text =
            format!("{LEAST}seed = 7\nstate = \"s\"\n[prometheus]\nurl = \"http://a:1\"\ntimeout = \"3s\"\n");
        let settings = load(&text, &[HOME, ("XDG_STATE_HOME", "/x")]).unwrap();
        assert_eq!((settings.seed, settings.state.as_path()), (7, Path::new("/here/s")));
        assert_eq!(settings.prometheus.url, "http://a:1");

        let over =
            [("STERNA__PROMETHEUS__URL", "http://b:2"), ("STERNA__SEED", "9"), ("STERNA__CYCLES", "2"), HOME];
        let settings = load(&text, &over).unwrap();
        assert_eq!(settings.prometheus.url, "http://b:2");
        assert_eq!(settings.prometheus.timeout.as_f64(), 3000.0);
        assert_eq!((settings.seed, settings.cycles), (9, Some(2)));
    }

    #[test]
    fn a_mistake_in_the_file_is_shown_with_its_line() {
        for (line, expected) in [
            ("polcy = \"x\"", "polcy"),
            ("seed = \"5\"", "expected"),
            ("seed = 5.7", "expected"),
            ("listen = \"nowhere\"", "listen"),
            ("prometheus = { timeout = 5 }", "timeout"),
        ] {
            let error = load(&format!("{LEAST}{line}\n"), &[HOME]).unwrap_err();
            let SettingsError::Invalid { report, .. } = &error else { panic!("{error}") };
            assert!(report.contains("line 3") && report.contains(expected), "{report}");
        }
    }

    #[test]
    fn the_environment_is_read_as_strictly() {
        for (variable, expected) in [
            (("STERNA__SEED", "5.7"), "5.7"),
            (("STERNA__CYCLES", "0"), "at least 1"),
            (("STERNA__SEEED", "5"), "seeed"),
            (("STERNA__PROMETHEUS__TIMEOUT", "5"), "timeout"),
            (("STERNA__PROMETHEUS__TIMEOUT", "0s"), "timeout"),
            (("STERNA__LISTEN", "x"), "x"),
        ] {
            let error = load(LEAST, &[HOME, variable]).unwrap_err();
            assert!(matches!(error, SettingsError::Layers { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        // Other variables of the program don't get in the way.
        assert!(load(LEAST, &[HOME, ("STERNA_LOG", "debug")]).is_ok());
        assert!(load("inventory = \"i\"\n", &[HOME]).unwrap_err().to_string().contains("policy"));
        assert!(load(LEAST, &[]).is_err());
    }
}
