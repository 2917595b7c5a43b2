//! The processes of a service, as the node's `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use serde::{Deserialize, Serialize};
use sterna_policies::quantity::Bytes;

/// What tells one process from another, and a restored process from one that was started anew.
///
/// The kernel places stack, heap and arguments at random when a program starts, and CRIU puts them back where they were. So
/// equal [`layout`](Self::layout) in every process is proof of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of the program as the kernel keeps it.
    pub name: String,
    /// Addresses of code, data, heap, stack, arguments and environment, from `/proc/PID/stat`.
    pub layout: Vec<u64>,
}

/// Numbers of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid {
    /// On the node.
    pub outer: i32,
    /// Inside its own namespace.
    pub inner: u32,
}

/// The processes of one service, by process number inside its own namespace.
pub type Tree = BTreeMap<i32, Process>;

/// One process with its number on the node and its state letter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    pid: i32,
    parent: i32,
    inner: i32,
    state: char,
    process: Process,
    resident: Bytes,
}

/// The processes under one container's first process.
#[derive(Debug, Clone)]
pub struct Processes {
    init: i32,
    seen: Vec<Seen>,
}

impl Processes {
    /// Reads all processes that share the process namespace of `init`, a process number on the node.
    ///
    /// # Errors
    /// When `/proc` can't be read or `init` is gone.
    pub fn of(init: i32) -> io::Result<Self> {
        let namespace = |pid: i32| std::fs::read_link(proc_file(pid, "ns/pid"));
        let own = namespace(init)?;
        let mut seen = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process may end while it is looked at; then it is not one of them.
            if namespace(pid).is_ok_and(|other| other == own)
                && let (Ok(stat), Ok(status)) = (
                    std::fs::read_to_string(proc_file(pid, "stat")),
                    std::fs::read_to_string(proc_file(pid, "status")),
                )
                && let Some(one) = parse(pid, &stat, &status)
            {
                seen.push(one);
            }
        }
        seen.sort_by_key(|one| one.inner);
        Ok(Self { init, seen })
    }

    /// What can be compared across nodes. Processes that were put in from outside, such as a health check's, are not in it: a
    /// dump leaves them out.
    pub fn tree(&self) -> Tree {
        let own = self.own();
        let seen = self.seen.iter().filter(|one| own.contains(&one.pid));
        seen.map(|one| (one.inner, one.process.clone())).collect()
    }

    /// Numbers on the node of the first process and of all that descend from it.
    fn own(&self) -> BTreeSet<i32> {
        let mut own = BTreeSet::from([self.init]);
        loop {
            let more = self.seen.iter().filter(|one| own.contains(&one.parent)).map(|one| one.pid);
            let before = own.len();
            own = more.chain(own.iter().copied()).collect();
            if own.len() == before {
                return own;
            }
        }
    }

    /// Those of the service itself: their numbers on the node and inside.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        let own = self.own();
        let seen = self.seen.iter().filter(move |one| own.contains(&one.pid));
        seen.filter_map(|one| Some(Pid { outer: one.pid, inner: u32::try_from(one.inner).ok()? }))
    }

    /// Processes that were put in from outside, as by `docker exec`: number on the node, and name.
    pub fn put_in(&self) -> Vec<(i32, &str)> {
        let own = self.own();
        let others = self.seen.iter().filter(|one| !own.contains(&one.pid));
        others.map(|one| (one.pid, one.process.name.as_str())).collect()
    }

    /// All of them: number on the node, and name.
    pub fn numbers(&self) -> impl Iterator<Item = (i32, &str)> {
        self.seen.iter().map(|one| (one.pid, one.process.name.as_str()))
    }

    /// Whether every process stands stopped.
    pub fn all_stopped(&self) -> bool {
        !self.seen.is_empty() && self.seen.iter().all(|one| matches!(one.state, 'T' | 't' | 'Z'))
    }

    /// Resident memory, shared pages counted once per process.
    pub fn resident(&self) -> Bytes {
        Bytes(self.seen.iter().map(|one| one.resident.0).sum())
    }

    /// Whether another process, such as CRIU at a dump, holds any thread of them by ptrace.
    pub fn traced(&self) -> bool {
        let traced = |status: &Path| {
            let status = std::fs::read_to_string(status).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|by| by.trim() != "0"))
        };
        self.seen.iter().any(|one| {
            let threads = std::fs::read_dir(proc_file(one.pid, "task")).into_iter().flatten().flatten();
            threads.into_iter().any(|thread| traced(&thread.path().join("status")))
        })
    }

    /// Whether any of them can write to a file through its memory.
    pub fn map_files_for_writing(&self) -> bool {
        let maps = |one: &Seen| std::fs::read_to_string(proc_file(one.pid, "maps")).unwrap_or_default();
        self.seen.iter().any(|one| maps(one).lines().any(maps_a_file_for_writing))
    }

    /// Lets every stopped process run. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    /// When a process that is still there can't be signalled.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Ends every process; a frozen one ends before it can do anything else.
    ///
    /// # Errors
    /// When a process that is still there can't be signalled.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.seen.iter().try_for_each(|one| signal_one(one.pid, signal))
    }
}

/// A process and all that descend from it, in whatever namespaces.
#[derive(Debug)]
pub struct Descendants(BTreeSet<i32>);

impl Descendants {
    /// Reads them.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn of(first: i32) -> io::Result<Self> {
        let mut parents = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process may end while it is looked at; then it is not one of them.
            let Ok(stat) = std::fs::read_to_string(proc_file(pid, "stat")) else { continue };
            let parent =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
            parents.extend(parent.map(|parent: i32| (pid, parent)));
        }
        let mut all = BTreeSet::from([first]);
        loop {
            let before = all.len();
            all.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| all.contains(parent))
                    .map(|(pid, _)| *pid)
                    .collect::<Vec<_>>(),
            );
            if all.len() == before {
                return Ok(Self(all));
            }
        }
    }

    /// Ends them all.
    ///
    /// # Errors
    /// When one that is still there can't be signalled.
    pub fn kill(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|pid| signal_one(*pid, Signal::SIGKILL))
    }
}

fn signal_one(pid: i32, signal: Signal) -> io::Result<()> {
    match kill(nix::unistd::Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn proc_file(pid: i32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// Whether a line of `/proc/PID/maps` is of a file with a name that is shared and can be written to.
fn maps_a_file_for_writing(line: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let writes = fields.next().is_some_and(|mode| mode.contains('w') && mode.contains('s'));
    // What has no name any more goes with the memory.
    writes && fields.nth(3).is_some_and(|path| path.starts_with('/')) && !line.ends_with(" (deleted)")
}

/// Position in `/proc/PID/stat`, counted from the field after the name, of what makes up the layout: `startcode`, `endcode`,
/// `startstack`, `start_data` … `env_end` (fields 26 to 28 and 45 to 51 in proc_pid_stat(5)).
const LAYOUT_FIELDS: [usize; 10] = [23, 24, 25, 42, 43, 44, 45, 46, 47, 48];

fn parse(pid: i32, stat: &str, status: &str) -> Option<Seen> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    let parent = fields.get(1)?.parse().ok()?;
    let layout = LAYOUT_FIELDS.iter().map(|at| fields.get(*at)?.parse().ok()).collect::<Option<_>>()?;
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let inner = line("NSpid:")?.split_whitespace().last()?.parse().ok()?;
    let kib: u64 =
        line("VmRSS:").and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    Some(Seen { pid, parent, inner, state, process: Process { name, layout }, resident: Bytes(kib << 10) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_of_this_namespace_hold_this_one() {
        let me = i32::try_from(std::process::id()).unwrap();
        let processes = Processes::of(me).unwrap();
        let mine = processes.seen.iter().find(|one| one.pid == me).expect("this process is there");
        assert!(mine.resident > Bytes::from_mib(1));
        assert!(mine.process.layout.iter().any(|address| *address > 0));
        assert!(!processes.all_stopped());
    }

    #[test]
    fn what_does_not_descend_from_the_first_process_was_put_in() {
        let one = |pid, parent| Seen {
            pid,
            parent,
            inner: pid,
            state: 'S',
            process: Process { name: format!("p{pid}"), layout: vec![] },
            resident: Bytes::ZERO,
        };
        // A child may have a smaller number than its parent.
        let seen = vec![one(3, 9), one(5, 1), one(9, 5), one(12, 2), one(13, 12)];
        let all = Processes { init: 5, seen };
        assert_eq!(all.tree().into_keys().collect::<Vec<_>>(), [3, 5, 9]);
        assert_eq!(all.put_in(), [(12, "p12"), (13, "p13")]);
    }

    #[test]
    fn a_second_start_of_the_same_program_has_another_layout() {
        let start = || std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let (mut one, mut two) = (start(), start());
        std::thread::sleep(std::time::Duration::from_millis(50));
        let layout = |pid: u32| {
            let seen = Processes::of(i32::try_from(pid).unwrap()).unwrap().seen;
            seen.into_iter().find(|one| one.pid.unsigned_abs() == pid).unwrap().process
        };
        let (a, b) = (layout(one.id()), layout(two.id()));
        one.kill().unwrap();
        two.kill().unwrap();
        one.wait().unwrap();
        two.wait().unwrap();
        assert_eq!(a.name, b.name);
        assert_ne!(a.layout, b.layout);
    }

    #[test]
    fn names_with_brackets_and_spaces_are_read() {
        let stat = format!("7 (a) b (c) T {}", (1..=60).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
        let seen = parse(7, &stat, "NSpid:\t7\t3\nVmRSS:\t  12 kB\n").unwrap();
        assert_eq!((seen.inner, seen.parent, seen.state), (3, 1, 'T'));
        assert_eq!(seen.resident, Bytes(12 << 10));
        assert_eq!(seen.process.name, "a) b (c");
    }

    #[test]
    fn mappings_that_write_to_files_are_told_from_others() {
        let line =
            |mode: &str, path: &str| format!("7f0000000000-7f0000001000 {mode} 00000000 08:01 42   {path}");
        assert!(maps_a_file_for_writing(&line("rw-s", "/data/a b")));
        for (mode, path) in [
            ("r--s", "/data/a"),
            ("rw-p", "/lib/x.so"),
            ("rw-s", "/dev/zero (deleted)"),
            ("rw-s", ""),
            ("rw-p", "[heap]"),
        ] {
            assert!(!maps_a_file_for_writing(&line(mode, path)), "{mode} {path}");
        }
    }
}
