//! The report as files: a page, and a folder of tables.
//!
//! What a path can't take is told before anything is simulated. Everything is written beside its place first and then renamed, so
//! that whoever looks sees a whole file: the new one or the one before.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::{NamedTempFile, TempPath};

/// A file that is written beside its place.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: NamedTempFile,
}

impl Draft {
    /// A draft of a file that may exist already.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            bail!("can't write {}: it is a folder", path.display());
        }
        // Of a link the file is replaced that it leads to, and not the link; devices and pipes are not replaced at all.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            bail!("can't write {}: it is not an ordinary file", path.display());
        }
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".sterna-")
            // As any new file has it, less what the umask takes.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes all of it, still beside its place.
    ///
    /// # Errors
    /// When that fails; then nothing is left.
    pub fn fill(mut self, text: &str) -> anyhow::Result<Filled> {
        let cannot = || format!("can't write {}", self.path.display());
        self.file.write_all(text.as_bytes()).with_context(cannot)?;
        self.file.as_file().sync_all().with_context(cannot)?;
        Ok(Filled { path: self.path, file: self.file.into_temp_path() })
    }
}

/// A file that is whole, beside its place.
#[derive(Debug)]
pub struct Filled {
    path: PathBuf,
    file: TempPath,
}

impl Filled {
    /// Puts it in its place, over what was there.
    ///
    /// # Errors
    /// When that fails.
    pub fn place(self) -> anyhow::Result<()> {
        self.file.persist(&self.path).with_context(|| format!("can't write {}", self.path.display()))
    }
}

/// Makes a folder for tables, where there is none, and sees that files can be made in it.
///
/// # Errors
/// When it can't be made or written to.
pub fn folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("can't make the folder {}", path.display()))?;
    Draft::of(&path.join("totals.csv")).map(drop)
}

/// Writes some files into a folder: all are whole before the first is put in its place.
///
/// # Errors
/// When one can't be written.
pub fn write_all(folder: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    let filled = files
        .iter()
        .map(|(name, text)| Draft::of(&folder.join(name))?.fill(text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    filled.into_iter().try_for_each(Filled::place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_can_be_read_by_others() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("report.html");
        std::fs::write(&path, "older").unwrap();
        let draft = Draft::of(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "older");
        let filled = draft.fill("newer").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "older");
        filled.place().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
        let plain = home.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(names(home.path()), ["plain", "report.html"]);
    }

    #[test]
    fn what_is_not_placed_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        drop(Draft::of(&home.path().join("a")).unwrap());
        drop(Draft::of(&home.path().join("a")).unwrap().fill("text").unwrap());
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn a_path_that_takes_no_file_is_refused_at_once_and_named() {
        let home = tempfile::tempdir().unwrap();
        let refused = format!("{:#}", Draft::of(home.path()).unwrap_err());
        assert!(refused.contains("it is a folder") && refused.contains(&home.path().display().to_string()));
        let missing = home.path().join("nowhere/report.html");
        let refused = format!("{:#}", Draft::of(&missing).unwrap_err());
        assert!(refused.contains("nowhere/report.html") && refused.contains("No such file"), "{refused}");
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = format!("{:#}", folder(&file).unwrap_err());
        assert!(refused.contains("can't make the folder"), "{refused}");
    }

    #[test]
    fn tables_stand_together_in_a_folder_that_is_made_for_them() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("deep/tables");
        folder(&place).unwrap();
        assert!(names(&place).is_empty());
        write_all(&place, &[("a.csv", "1".to_owned()), ("b.csv", "2".to_owned())]).unwrap();
        assert_eq!(names(&place), ["a.csv", "b.csv"]);
        assert_eq!(std::fs::read_to_string(place.join("b.csv")).unwrap(), "2");
        // One that can't be written keeps all others as they were.
        std::fs::create_dir(place.join("c.csv")).unwrap();
        let files = [("a.csv", "new".to_owned()), ("c.csv", "3".to_owned())];
        assert!(write_all(&place, &files).is_err());
        assert_eq!(std::fs::read_to_string(place.join("a.csv")).unwrap(), "1");
        assert_eq!(names(&place), ["a.csv", "b.csv", "c.csv"]);
    }
}
