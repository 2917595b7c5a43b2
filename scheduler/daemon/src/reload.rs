//! Files that are read again when they change. A bad file keeps the old one.

use std::path::{Path, PathBuf};

use sterna_core::difference::{self, Difference};
use sterna_policies::diagnose::{Invalid, Loaded, Report};
use thiserror::Error;

/// Reads a file's text, given the file's name for reports.
pub type Parse<T> = dyn Fn(&str, &str) -> Result<Loaded<T>, Invalid> + Send + Sync;

/// A file and what it last meant.
pub struct Watched<T> {
    path: PathBuf,
    parse: Box<Parse<T>>,
    /// What was last looked at, good or bad: the same content is not reported twice.
    seen: Result<String, String>,
    /// The text that is in force, and what it means.
    text: String,
    value: T,
}

/// A file that can't be used.
#[derive(Debug, Clone, Error)]
pub enum FileError {
    /// It could not be read.
    #[error("can't read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is wrong; the report says where, what, and what would be right.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It is right by itself but does not fit what runs.
    #[error("{path} can't be taken over: {reason}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What a look at a file came to.
#[derive(Debug, Clone)]
pub enum Look<T> {
    /// Nothing new.
    Same,
    /// A new content is in force.
    Changed {
        /// Its warnings.
        warnings: Report,
        /// What was in force before.
        before: T,
    },
    /// The new content can't be used; the old one stays in force.
    Refused(Refused),
}

/// A new content that can't be used.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub error: FileError,
    /// What is written otherwise in it than in the content in force, key by key; `None` where that can't be told, because it
    /// can't be read at all or is no TOML.
    pub written: Option<Vec<Difference>>,
}

impl<T> Watched<T> {
    /// Reads the file for the first time. Gives its warnings too.
    ///
    /// # Errors
    /// When it can't be read or is invalid.
    pub fn open(
        path: &Path,
        parse: impl Fn(&str, &str) -> Result<Loaded<T>, Invalid> + Send + Sync + 'static,
    ) -> Result<(Self, Report), FileError> {
        let text = read(path).map_err(|reason| FileError::Unreadable { path: path.to_owned(), reason })?;
        let Loaded { value, warnings } = parse(&path.to_string_lossy(), &text)?;
        let (path, seen) = (path.to_owned(), Ok(text.clone()));
        Ok((Self { path, parse: Box::new(parse), seen, text, value }, warnings))
    }

    /// What is in force.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file again. `accept` may refuse a valid content that does not fit what runs.
    ///
    /// The content is compared, not the time of the file: times are too coarse for two quick edits, and a mounted folder
    /// that is swapped as a whole may bring an older time.
    pub fn look(&mut self, accept: impl FnOnce(&T, &T) -> Result<(), String>) -> Look<T> {
        let text = read(&self.path);
        if text == self.seen {
            return Look::Same;
        }
        self.seen = text;
        let path = self.path.clone();
        let text = match &self.seen {
            Ok(text) => text,
            Err(reason) => {
                let error = FileError::Unreadable { path, reason: reason.clone() };
                return Look::Refused(Refused { error, written: None });
            }
        };
        let refused = |error| Look::Refused(Refused { error, written: differences(&self.text, text) });
        match (self.parse)(&path.to_string_lossy(), text) {
            Err(invalid) => refused(FileError::Invalid(invalid)),
            Ok(Loaded { value, warnings }) => match accept(&self.value, &value) {
                Err(reason) => refused(FileError::Unfit { path, reason }),
                Ok(()) => {
                    self.text.clone_from(text);
                    Look::Changed { warnings, before: std::mem::replace(&mut self.value, value) }
                }
            },
        }
    }
}

/// Where two texts differ, if both are TOML at all. It is told of what is written and not of what it means: a text that is refused
/// may mean nothing.
fn differences(old: &str, new: &str) -> Option<Vec<Difference>> {
    let table = |text: &str| toml::from_str::<toml::Table>(text).ok();
    difference::between(&table(old)?, &table(new)?).ok()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use sterna_policies::diagnose::Findings;

    use super::*;

    fn number(name: &str, text: &str) -> Result<Loaded<u32>, Invalid> {
        let mut findings = Findings::new(name, text);
        let value = text.trim().parse();
        if value.is_err() {
            findings.error("F0000", 0..1, "not a number");
        }
        if matches!(value, Ok(101..)) {
            findings.warning("W0000", 0..1, "large");
        }
        findings.finish(value.unwrap_or(0))
    }

    #[test]
    fn a_bad_file_keeps_the_old_value_and_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let (mut file, warnings) = Watched::open(&path, number).unwrap();
        assert_eq!(*file.value(), 1);
        assert!(warnings.is_empty());
        let any = |_: &u32, _: &u32| Ok(());
        assert!(matches!(file.look(any), Look::Same));

        std::fs::write(&path, "x").unwrap();
        assert!(matches!(
            file.look(any),
            Look::Refused(Refused { error: FileError::Invalid { .. }, written: None })
        ));
        assert!(matches!(file.look(any), Look::Same));
        assert_eq!(*file.value(), 1);

        std::fs::write(&path, "200").unwrap();
        assert!(
            matches!(file.look(any), Look::Changed { warnings, before: 1 } if warnings.lines().contains("large"))
        );
        assert_eq!(*file.value(), 200);

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            file.look(any),
            Look::Refused(Refused { error: FileError::Unreadable { .. }, written: None })
        ));
        assert!(matches!(file.look(any), Look::Same));
        assert_eq!(*file.value(), 200);
        // The good content again counts as a change: it ends the state of error.
        std::fs::write(&path, "200").unwrap();
        assert!(matches!(file.look(any), Look::Changed { .. }));

        std::fs::write(&path, "3").unwrap();
        assert!(matches!(
            file.look(|_, _| Err("no".to_owned())),
            Look::Refused(Refused { error: FileError::Unfit { .. }, .. })
        ));
        assert_eq!(*file.value(), 200);
    }

    #[test]
    fn a_file_that_is_bad_at_first_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        assert!(matches!(Watched::open(&path, number), Err(FileError::Unreadable { .. })));
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Watched::open(&path, number), Err(FileError::Invalid { .. })));
    }

    #[test]
    fn of_a_text_that_is_refused_it_is_told_what_is_written_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        let table = |name: &str, text: &str| {
            let mut findings = Findings::new(name, text);
            if text.contains("-1") {
                findings.error("F0000", 0..1, "less than nothing");
            }
            findings.finish(text.len())
        };
        std::fs::write(&path, "a = 1\n[t]\nb = \"80ms\"\n").unwrap();
        let (mut file, _) = Watched::open(&path, table).unwrap();
        let mut told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let Look::Refused(refused) = file.look(|_, _| Ok(())) else { panic!("not refused") };
            refused.written.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let of = |lines: &[&str]| Some(lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            told("a = -1\n[t]\nb = \"80ms\"\nc = true\n"),
            of(&["a: 1 -> -1", "t.c: nothing -> true"])
        );
        // Against what is in force, not against what was refused before.
        assert_eq!(told("a = -1\n[t]\nb = \"90ms\"\n"), of(&["a: 1 -> -1", "t.b: 80ms -> 90ms"]));
        assert_eq!(told("a = -1 [t"), None);
    }
}
