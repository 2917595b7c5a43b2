//! The OCI runtime shim: what the nested engine calls in place of `runc`.
//!
//! It passes everything on to `runc`, but for a container that the agent has left a [`Note`] for. For that one, `create`
//! becomes a restore whose processes stay stopped, and `start` has nothing left to do: the agent lets the processes run when
//! it holds the commit certificate. The engine may be asked to start it before the image is there; then the restore waits for
//! the agent's word, and fails when it is given up or its time is over.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Millis;

use super::processes::Descendants;

/// Where notes lie. On a file system that does not survive the node: neither do the processes.
pub const NOTES: &str = "/run/sterna/restore";

/// The runtime that does the work.
const RUNC: &str = "runc";

/// The agent's word that a container is to be restored and not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Folder of the memory image. CRIU's `restore.log` is written there too.
    pub image: PathBuf,
    /// Set by the shim when `create` has restored the container: the proof that it was not started cold.
    pub restored: bool,
    /// Time for the restore; then it is ended, with all that it has made. CRIU has no limit of its own.
    #[serde(default)]
    pub limit: Option<Millis>,
    /// While the image is not here yet: how long the restore waits for a note that says that it is.
    #[serde(default)]
    pub awaited: Option<Millis>,
    /// Nothing is to be restored any more, and nothing to be started either: the engine was asked to before that was known.
    #[serde(default)]
    pub given_up: bool,
}

impl Note {
    fn path(folder: &Path, container: &str) -> PathBuf {
        folder.join(container)
    }

    /// Leaves the note for a container.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn leave(&self, folder: &Path, container: &str) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = Self::path(folder, container);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }

    /// Reads the note for a container; `None` where there is none.
    ///
    /// # Errors
    /// When there is one that can't be read.
    pub fn read(folder: &Path, container: &str) -> io::Result<Option<Self>> {
        match std::fs::read(Self::path(folder, container)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives up what was begun. Taken away instead, a note that the runtime has not read yet would have the container started cold.
    ///
    /// # Errors
    /// When the note can't be read or written.
    pub fn give_up(folder: &Path, container: &str) -> io::Result<()> {
        match Self::read(folder, container)? {
            Some(note) => Self { given_up: true, ..note }.leave(folder, container),
            None => Ok(()),
        }
    }

    /// Gives up whatever waits for an image: who was to bring it is gone.
    ///
    /// # Errors
    /// When a note can't be read or written.
    pub fn give_up_awaited(folder: &Path) -> io::Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(container) = name.to_str() else { continue };
            if Self::read(folder, container)?.is_some_and(|note| note.awaited.is_some()) {
                Self::give_up(folder, container)?;
            }
        }
        Ok(())
    }

    /// Waits until the image is here.
    ///
    /// # Errors
    /// When it was given up, or the time is over.
    fn once_here(self, folder: &Path, container: &str) -> io::Result<Self> {
        let (start, mut note) = (Instant::now(), self);
        while let Some(limit) = note.awaited.filter(|_| !note.given_up) {
            if start.elapsed() > limit.to_duration() {
                let message = format!("no image to restore from came within {limit}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(LOOK);
            note = Self::read(folder, container)?.ok_or_else(given_up)?;
        }
        if note.given_up { Err(given_up()) } else { Ok(note) }
    }

    /// Takes the note away; there need not be one.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub fn remove(folder: &Path, container: &str) -> io::Result<()> {
        match std::fs::remove_file(Self::path(folder, container)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the restore was given up")
}

/// What a call of the engine comes down to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Hand it to `runc` as it is.
    Pass,
    /// Restore with these arguments in place of a `create`.
    Restore(Vec<OsString>),
    /// Nothing: the container runs already.
    Nothing,
    /// Refuse: what was begun is given up.
    Refuse,
}

/// Options of `create` that take a value in an argument of their own.
const CREATE_OPTIONS: [&str; 6] =
    ["--bundle", "-b", "--console-socket", "--pid-file", "--pidfd-socket", "--preserve-fds"];

/// The runtime's command and the container that a call is about.
pub fn parse(arguments: &[OsString]) -> Option<(&str, &str)> {
    let (container, before) = arguments.split_last()?;
    let command = before.get(command_position(before)?)?;
    Some((command.to_str()?, container.to_str()?))
}

/// Position of the command: the first argument that is neither an option nor an option's value.
fn command_position(arguments: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let text = argument.to_str()?;
        match text {
            "--root" | "--log" | "--log-format" | "--rootless" | "--criu" => at += 2,
            _ if text.starts_with('-') => at += 1,
            _ => return Some(at),
        }
    }
    None
}

/// Decides what a call comes down to, given the note for its container.
pub fn decide(arguments: &[OsString], note: Option<&Note>) -> Call {
    let (Some(note), Some((command, container))) = (note, parse(arguments)) else {
        return Call::Pass;
    };
    match command {
        "create" | "start" if note.given_up => Call::Refuse,
        "create" if !note.restored => {
            let Some(at) = command_position(arguments) else { return Call::Pass };
            let mut rest: Vec<OsString> = arguments[..at].to_vec();
            rest.push("restore".into());
            rest.extend(["--detach", "--no-subreaper", "--file-locks", "--ext-unix-sk"].map(OsString::from));
            for option in ["--image-path", "--work-path"] {
                rest.push(option.into());
                rest.push(note.image.clone().into());
            }
            let mut options = arguments[at + 1..arguments.len() - 1].iter();
            while let Some(option) = options.next() {
                match option.to_str() {
                    // `restore` knows these two of `create`'s flags by no name.
                    Some("--no-new-keyring") => {}
                    Some("--pidfd-socket" | "--preserve-fds") => drop(options.next()),
                    Some(text) if CREATE_OPTIONS.contains(&text) => {
                        rest.push(option.clone());
                        rest.extend(options.next().cloned());
                    }
                    _ => rest.push(option.clone()),
                }
            }
            rest.push(container.into());
            Call::Restore(rest)
        }
        "start" if note.restored => Call::Nothing,
        _ => Call::Pass,
    }
}

/// Does what the engine asks, and returns the exit code. Passing on to `runc` replaces this process and never returns.
///
/// # Errors
/// When a note can't be read or `runc` can't be run.
pub fn run(arguments: &[OsString], notes: &Path) -> io::Result<u8> {
    let note = match parse(arguments) {
        Some((_, container)) if !container.contains('/') => Note::read(notes, container)?,
        _ => None,
    };
    match decide(arguments, note.as_ref()) {
        Call::Pass => Err(Command::new(RUNC).args(arguments).exec()),
        Call::Nothing => Ok(0),
        Call::Refuse => Err(given_up()),
        Call::Restore(rest) => {
            let (Some(note), Some((_, container))) = (note, parse(arguments)) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let note = note.once_here(notes, container)?;
            let limit = note.limit.map(Millis::to_duration);
            let status = finish_within(Command::new(RUNC).args(&rest).spawn()?, limit)?;
            if status.success() {
                Note { restored: true, ..note }.leave(notes, container)?;
            }
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
    }
}

/// How often it is looked whether a restore has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Waits for a program. When its time is over it is ended, with everything that it has started.
fn finish_within(mut child: Child, limit: Option<Duration>) -> io::Result<ExitStatus> {
    let Some(limit) = limit else { return child.wait() };
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Descendants::of(pid)?.kill()?;
    child.wait()?;
    let message = format!("the restore did not end within {limit:?}");
    Err(io::Error::new(io::ErrorKind::TimedOut, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    const CREATE: &str = "--root /run/r --log /l --log-format json create --bundle /b --pid-file /b/init.pid \
                          --no-new-keyring abc";

    fn note(restored: bool) -> Note {
        Note { image: "/i".into(), restored, limit: None, awaited: None, given_up: false }
    }

    #[test]
    fn without_a_note_everything_is_passed_on() {
        assert_eq!(decide(&words(CREATE), None), Call::Pass);
    }

    #[test]
    fn a_command_without_a_container_is_passed_on() {
        assert_eq!(parse(&words("create")), None);
        assert_eq!(decide(&words("--root /run/r create"), Some(&note(false))), Call::Pass);
    }

    #[test]
    fn create_becomes_a_restore() {
        let expected = "--root /run/r --log /l --log-format json restore --detach --no-subreaper --file-locks \
                        --ext-unix-sk --image-path /i --work-path /i --bundle /b --pid-file /b/init.pid abc";
        assert_eq!(decide(&words(CREATE), Some(&note(false))), Call::Restore(words(expected)));
    }

    #[test]
    fn start_of_a_restored_container_does_nothing_and_kill_is_passed_on() {
        let start = words("--root /run/r start abc");
        assert_eq!(decide(&start, Some(&note(true))), Call::Nothing);
        assert_eq!(decide(&start, Some(&note(false))), Call::Pass);
        assert_eq!(decide(&words("--root /run/r kill --all abc 9"), Some(&note(true))), Call::Pass);
    }

    #[test]
    fn a_container_is_restored_only_once() {
        assert_eq!(decide(&words(CREATE), Some(&note(true))), Call::Pass);
    }

    #[test]
    fn notes_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(folder.path(), "abc").unwrap(), None);
        note(false).leave(folder.path(), "abc").unwrap();
        assert_eq!(Note::read(folder.path(), "abc").unwrap(), Some(note(false)));
        Note::remove(folder.path(), "abc").unwrap();
        Note::remove(folder.path(), "abc").unwrap();
        assert_eq!(Note::read(folder.path(), "abc").unwrap(), None);
    }

    #[test]
    fn a_restore_waits_for_its_image_until_it_is_there_or_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let minute = Some(Millis::from_micros(60_000_000_000));
        let awaited = Note { awaited: minute, ..note(false) };
        let wait = |before: &Note| {
            before.leave(folder.path(), "abc").unwrap();
            let (before, folder) = (before.clone(), folder.path().to_owned());
            std::thread::spawn(move || before.once_here(&folder, "abc"))
        };
        let waiting = wait(&awaited);
        std::thread::sleep(LOOK * 10);
        assert!(!waiting.is_finished());
        note(false).leave(folder.path(), "abc").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), note(false));

        let waiting = wait(&awaited);
        note(false).leave(folder.path(), "other").unwrap();
        Note::give_up_awaited(folder.path()).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(Note::read(folder.path(), "other").unwrap(), Some(note(false)));

        let waiting = wait(&Note { awaited: Some(Millis::from_micros(20_000_000)), ..note(false) });
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        Note::give_up_awaited(&folder.path().join("nothing")).unwrap();
    }

    #[test]
    fn what_was_given_up_is_not_started_cold() {
        let folder = tempfile::tempdir().unwrap();
        Note::give_up(folder.path(), "abc").unwrap();
        assert_eq!(Note::read(folder.path(), "abc").unwrap(), None);
        note(false).leave(folder.path(), "abc").unwrap();
        Note::give_up(folder.path(), "abc").unwrap();
        let given_up = Note::read(folder.path(), "abc").unwrap().unwrap();
        assert_eq!(decide(&words(CREATE), Some(&given_up)), Call::Refuse);
        assert_eq!(decide(&words("--root /run/r start abc"), Some(&given_up)), Call::Refuse);
        assert_eq!(decide(&words("--root /run/r delete abc"), Some(&given_up)), Call::Pass);
        assert!(run(&words(CREATE), folder.path()).is_err());
    }

    #[test]
    fn a_restore_that_does_not_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        // A child, and one that its parent has left behind in a session of its own.
        let script = "sleep 60 & echo $! >>$0; setsid sh -c 'sleep 61 & echo $! >>$0; wait' $0 & wait";
        let start = |script: &str| Command::new("sh").arg("-c").arg(script).arg(&pids).spawn().unwrap();
        let child = start(script);
        let error = finish_within(child, Some(Duration::from_millis(500))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let pids = std::fs::read_to_string(&pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        std::thread::sleep(Duration::from_millis(50));
        for pid in pids.lines() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        }
        let status = finish_within(start("exit 3"), Some(Duration::from_secs(60))).unwrap();
        assert_eq!(status.code(), Some(3));
    }
}
