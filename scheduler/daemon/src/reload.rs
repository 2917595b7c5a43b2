//! Files that are read again when they change. A bad file keeps the old one.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sterna_core::difference::{self, Difference};
use sterna_policies::diagnose::{Invalid, Loaded, Report};
use thiserror::Error;

/// Gives the text of a file, or why it can't be read.
pub type Read = dyn Fn(&Path) -> Result<String, String> + Send + Sync;

/// Reads a file's text, given the file's name for reports.
pub type Parse<T> = dyn Fn(&str, &str) -> Result<Loaded<T>, Invalid> + Send + Sync;

/// A file and what it last meant.
pub struct Watched<T> {
    path: PathBuf,
    read: Box<Read>,
    parse: Box<Parse<T>>,
    /// What was last looked at, good or bad: the same content is not reported twice.
    seen: Result<String, String>,
    /// Whether that is what is in force.
    as_written: bool,
    /// Good by itself, and not in force.
    candidate: Option<Loaded<T>>,
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
pub enum Look {
    /// A new content is in force.
    Changed {
        /// Its warnings.
        warnings: Report,
        /// What it says otherwise than the content before.
        differences: Vec<Difference>,
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

/// What was found in a file.
#[derive(Debug)]
pub enum Found {
    /// Nothing new.
    Same,
    /// A content that is good by itself: the [candidate](Watched::candidate), until it is [taken over](Watched::take_over).
    Candidate,
    /// A content that can't be used.
    Bad(Refused),
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
        Self::open_with(path, self::read, parse)
    }

    /// As above, of a file whose text is `read` in a way of its own, such as with something beside it.
    ///
    /// # Errors
    /// As above.
    pub fn open_with(
        path: &Path,
        read: impl Fn(&Path) -> Result<String, String> + Send + Sync + 'static,
        parse: impl Fn(&str, &str) -> Result<Loaded<T>, Invalid> + Send + Sync + 'static,
    ) -> Result<(Self, Report), FileError> {
        let text = read(path).map_err(|reason| FileError::Unreadable { path: path.to_owned(), reason })?;
        let Loaded { value, warnings } = parse(&path.to_string_lossy(), &text)?;
        let watched = Self {
            path: path.to_owned(),
            read: Box::new(read),
            parse: Box::new(parse),
            seen: Ok(text.clone()),
            as_written: true,
            candidate: None,
            text,
            value,
        };
        Ok((watched, warnings))
    }

    /// What is in force.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Whether what was last looked at is in force.
    pub fn is_as_written(&self) -> bool {
        self.as_written
    }

    /// Looks at the file again.
    ///
    /// The content is compared, not the time of the file: times are too coarse for two quick edits, and a mounted folder
    /// that is swapped as a whole may bring an older time.
    pub fn read_again(&mut self) -> Found {
        let text = (self.read)(&self.path);
        if text == self.seen {
            return Found::Same;
        }
        self.seen = text;
        self.as_written = false;
        self.candidate = None;
        let path = self.path.clone();
        let text = match &self.seen {
            Ok(text) => text,
            Err(reason) => {
                let error = FileError::Unreadable { path, reason: reason.clone() };
                return Found::Bad(Refused { error, written: None });
            }
        };
        match (self.parse)(&path.to_string_lossy(), text) {
            Err(invalid) => Found::Bad(self.refused(FileError::Invalid(invalid))),
            Ok(candidate) => {
                self.candidate = Some(candidate);
                Found::Candidate
            }
        }
    }

    /// A content that is good by itself and waits to be taken over: it may not fit what else there is.
    pub fn candidate(&self) -> Option<&T> {
        self.candidate.as_ref().map(|candidate| &candidate.value)
    }

    /// The candidate, or what is in force where there is none.
    pub fn newest(&self) -> &T {
        self.candidate().unwrap_or(&self.value)
    }

    /// That what is in the file now can't be used.
    fn refused(&self, error: FileError) -> Refused {
        let written = self.seen.as_ref().ok().and_then(|text| differences(&self.text, text));
        Refused { error, written }
    }

    /// That the candidate does not fit what runs.
    pub fn unfit(&self, reason: String) -> Refused {
        self.refused(FileError::Unfit { path: self.path.clone(), reason })
    }
}

impl<T: Serialize> Watched<T> {
    /// Puts the candidate in force. `None` where there is none.
    pub fn take_over(&mut self) -> Option<Look> {
        let Loaded { value, warnings } = self.candidate.take()?;
        let differences = difference::between(&self.value, &value).unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "what differs can't be told");
            Vec::new()
        });
        self.value = value;
        self.as_written = true;
        if let Ok(text) = &self.seen {
            self.text.clone_from(text);
        }
        Some(Look::Changed { warnings, differences })
    }
}

/// Where two texts differ, if both are TOML at all. It is told of what is written and not of what it means: a text that is refused
/// may mean nothing.
fn differences(old: &str, new: &str) -> Option<Vec<Difference>> {
    let table = |text: &str| toml::from_str::<toml::Table>(text).ok();
    difference::between(&table(old)?, &table(new)?).ok()
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, String> {
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
        assert!(matches!(file.read_again(), Found::Same));

        std::fs::write(&path, "x").unwrap();
        assert!(matches!(
            file.read_again(),
            Found::Bad(Refused { error: FileError::Invalid { .. }, written: None })
        ));
        assert!(matches!(file.read_again(), Found::Same));
        assert_eq!((*file.value(), file.candidate(), file.is_as_written()), (1, None, false));

        std::fs::write(&path, "200").unwrap();
        assert!(matches!(file.read_again(), Found::Candidate));
        assert_eq!((*file.value(), *file.newest()), (1, 200));
        let Some(Look::Changed { warnings, differences }) = file.take_over() else { panic!() };
        assert!(warnings.lines().contains("large"));
        assert_eq!((differences.len(), differences[0].new.as_ref()), (1, Some(&200.into())));
        assert_eq!((*file.value(), file.is_as_written()), (200, true));

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            file.read_again(),
            Found::Bad(Refused { error: FileError::Unreadable { .. }, written: None })
        ));
        assert!(matches!(file.read_again(), Found::Same));
        assert_eq!(*file.value(), 200);
        // The good content again counts as a change: it ends the state of error.
        std::fs::write(&path, "200").unwrap();
        assert!(matches!(file.read_again(), Found::Candidate));
        assert!(file.take_over().is_some());

        std::fs::write(&path, "3").unwrap();
        assert!(matches!(file.read_again(), Found::Candidate));
        assert!(matches!(file.read_again(), Found::Same));
        // It waits, until something better is written.
        assert_eq!((*file.value(), file.candidate()), (200, Some(&3)));
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(file.read_again(), Found::Bad(_)));
        assert!(file.take_over().is_none());
    }

    /// As the kubelet writes a ConfigMap into a folder: each file is a link into `..data`, which is a link to a folder that is
    /// never changed. Another content is another folder, and the link to it takes the old one's place.
    #[test]
    fn a_mounted_folder_that_is_swapped_as_a_whole_is_seen() {
        use std::os::unix::fs::symlink;

        let mounted = tempfile::tempdir().unwrap();
        let at = |name: &str| mounted.path().join(name);
        let swap = |folder: &str, content: &str| {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("n"), content).unwrap();
            // As old as any, as it may be where it comes from an archive.
            let file = std::fs::File::options().write(true).open(at(folder).join("n")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            symlink(folder, at("..data_tmp")).unwrap();
            std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..1", "1");
        symlink("..data/n", at("n")).unwrap();
        let (mut file, _) = Watched::open(&at("n"), number).unwrap();

        swap("..2", "2");
        std::fs::remove_dir_all(at("..1")).unwrap();
        assert!(matches!(file.read_again(), Found::Candidate));
        assert!(file.take_over().is_some());
        assert_eq!(*file.value(), 2);

        swap("..3", "x");
        assert!(matches!(file.read_again(), Found::Bad(_)));
        assert!(matches!(file.read_again(), Found::Same));
        assert_eq!(*file.value(), 2);
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
            let Found::Bad(refused) = file.read_again() else { panic!("not refused") };
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
