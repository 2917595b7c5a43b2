//! What speaks against a service in what its processes are doing. Each of these was seen to make a dump or a restore fail; what
//! is not named here was seen to move (`docs/precheck.md` lists both).

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bollard::models::HealthConfig;
use sterna_policies::quantity::Bytes;

use crate::engine::criu;
use crate::engine::processes::Processes;
use crate::migration::finding::{Code, Finding, Subject};

/// Kernel objects without a name that CRIU writes down; others it refuses (files.c and files-ext.c of CRIU 4.2).
const KNOWN_OBJECTS: [&str; 9] =
    ["eventfd", "eventpoll", "inotify", "fanotify", "signalfd", "timerfd", "pidfd", "bpf-map", "io_uring"];
/// `HUGETLBFS_MAGIC` and `MQUEUE_MAGIC` of the kernel's file systems.
const HUGE_PAGES: i64 = 0x9584_58f6;
const MESSAGE_QUEUES: i64 = 0x1980_0202;
/// Protocols of the kernel's `/proc/net/protocols` that CRIU carries over (sk-inet.c, sk-unix.c, sk-packet.c, sk-netlink.c).
const KNOWN_PROTOCOLS: [&str; 14] = [
    "TCP",
    "TCPv6",
    "MPTCP",
    "MPTCPv6",
    "UDP",
    "UDPv6",
    "UDP-Lite",
    "UDPLITEv6",
    "RAW",
    "RAWv6",
    "PACKET",
    "NETLINK",
    "UNIX",
    "UNIX-STREAM",
];

/// A thing that a process holds open.
#[derive(Debug, Clone, Default)]
struct Open {
    /// What the kernel says that it is: a path, or a kind.
    target: String,
    /// The kind of file system that it is on.
    file_system: i64,
    size: Bytes,
    /// Names that are left of it.
    names: u64,
    /// Major and minor number, where it is a character device.
    device: Option<(u64, u64)>,
}

/// What speaks against the processes of a service whose first process is `init` on this node.
pub fn processes(init: i32, all: &Processes, health: Option<&HealthConfig>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |code, what: String| {
        let finding = Finding::new(code, Subject::Service, what);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    };
    for (pid, name) in all.put_in() {
        if !is_health_check(&arguments(pid), health) {
            refuse(Code::PutIn, format!("process `{name}` was started in it from outside"));
        }
    }
    if all.traced() {
        refuse(Code::Traced, "one of its processes is traced".to_owned());
    }
    for (pid, name) in all.numbers() {
        let root = std::fs::read_link(file_of(pid, "root")).unwrap_or_default();
        if !matches!(root.to_str(), Some("" | "/")) {
            refuse(Code::ChangedRoot, format!("process `{name}` has its root at {}", root.display()));
        }
        for open in std::fs::read_dir(file_of(pid, "fd")).into_iter().flatten().flatten() {
            if let Some((code, what)) = objection(&look(&open.path())) {
                refuse(code, format!("process `{name}` holds {what}"));
            }
        }
    }
    for (name, kind) in nested(init) {
        refuse(Code::NestedNamespace, format!("process `{name}` has a {kind} namespace of its own"));
    }
    let protocols = std::fs::read_to_string(file_of(init, "net/protocols")).unwrap_or_default();
    for protocol in unknown_protocols(&protocols) {
        refuse(Code::Socket, format!("it has sockets of the protocol {protocol}"));
    }
    findings
}

fn file_of(pid: i32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// The command line of a process, arguments apart.
fn arguments(pid: i32) -> Vec<String> {
    let text = std::fs::read(file_of(pid, "cmdline")).unwrap_or_default();
    let words = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether a process that was put in is the engine's health check. One more or less of it does no harm: the engine does not
/// check what is paused, and goes on checking at the destination.
fn is_health_check(arguments: &[String], health: Option<&HealthConfig>) -> bool {
    let Some(test) = health.and_then(|health| health.test.as_ref()) else { return false };
    match test.split_first() {
        Some((kind, rest)) if kind == "CMD" => arguments == rest,
        // What the shell starts has another command line.
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            arguments.get(2..) == Some(rest)
                || rest.first().is_some_and(|line| line.starts_with(&arguments.join(" ")))
        }
        _ => false,
    }
}

fn look(open: &Path) -> Open {
    let target = std::fs::read_link(open).map(|to| to.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(seen) = std::fs::metadata(open) else { return Open { target, names: 1, ..Open::default() } };
    let device = seen.file_type().is_char_device().then(|| {
        let device = seen.rdev();
        (nix::sys::stat::major(device), nix::sys::stat::minor(device))
    });
    let file_system = nix::sys::statfs::statfs(open).map_or(0, |stat| stat.filesystem_type().0);
    // What it takes on the disk, as CRIU counts it.
    let size = Bytes(seen.blocks() * 512);
    Open { target, file_system, size, names: seen.nlink(), device }
}

fn objection(open: &Open) -> Option<(Code, String)> {
    let Open { target, .. } = open;
    if let Some(object) = target.strip_prefix("anon_inode:") {
        let object = object.trim_matches(['[', ']']);
        return match object {
            "io_uring" => Some((Code::IoUring, "an io_uring".to_owned())),
            known if KNOWN_OBJECTS.contains(&known) => None,
            _ => Some((Code::KernelObject, format!("a kernel object of the kind {object}"))),
        };
    }
    match open.file_system {
        HUGE_PAGES => return Some((Code::HugePages, format!("{target} in huge pages"))),
        MESSAGE_QUEUES => return Some((Code::MessageQueue, format!("the message queue {target}"))),
        _ => {}
    }
    if let Some((major, minor)) = open.device {
        // Memory devices but /dev/mem and its like, terminals, and the one for tunnels.
        let carried = matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, _) | (136..=143, _) | (10, 200));
        return (!carried).then(|| (Code::Devices, format!("the device {target}")));
    }
    let deleted = target.strip_suffix(" (deleted)")?;
    if deleted.starts_with("/memfd:") || deleted.starts_with("/SYSV") || deleted == "/dev/zero" {
        return None;
    }
    let limit = criu::ghost_limit();
    if open.names == 0 && open.size > limit {
        return Some((Code::DeletedFile, format!("{deleted}, deleted, of {}; at most {limit}", open.size)));
    }
    (open.names > 0 && !criu::links_remapped())
        .then(|| (Code::DeletedFile, format!("{deleted}, deleted while another name of it is left")))
}

/// Descendants of a process, itself not among them, that have made a process or user namespace.
fn nested(init: i32) -> Vec<(String, &'static str)> {
    let namespace = |pid: i32, kind: &str| std::fs::read_link(file_of(pid, &format!("ns/{kind}"))).ok();
    let mut found = Vec::new();
    let mut left = children(init);
    while let Some(pid) = left.pop() {
        left.extend(children(pid));
        let name = std::fs::read_to_string(file_of(pid, "comm")).unwrap_or_default().trim().to_owned();
        for (kind, word) in [("pid", "process"), ("user", "user")] {
            // It may have ended meanwhile.
            if namespace(pid, kind).is_some_and(|one| Some(one) != namespace(init, kind)) {
                found.push((name.clone(), word));
            }
        }
    }
    found
}

fn children(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(file_of(pid, "task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

/// Protocols with sockets in `/proc/PID/net/protocols` that CRIU can't carry over: name, size, number of sockets, ….
fn unknown_protocols(table: &str) -> Vec<&str> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, sockets) = (words.next()?, words.nth(1)?.parse::<i64>().ok()?);
        (sockets > 0 && !KNOWN_PROTOCOLS.contains(&name) && name != "PING" && name != "PINGv6")
            .then_some(name)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(open: Open) -> Option<Code> {
        objection(&open).map(|(code, _)| code)
    }

    fn target(target: &str) -> Open {
        Open { target: target.to_owned(), names: 1, ..Open::default() }
    }

    #[test]
    fn what_criu_can_t_write_down_is_told_from_what_it_can() {
        assert_eq!(code(target("anon_inode:[io_uring]")), Some(Code::IoUring));
        assert_eq!(code(target("anon_inode:[userfaultfd]")), Some(Code::KernelObject));
        for fine in ["anon_inode:[eventpoll]", "anon_inode:inotify", "socket:[12]", "pipe:[3]", "/etc/passwd"]
        {
            assert_eq!(code(target(fine)), None, "{fine}");
        }
        let huge = Open { file_system: HUGE_PAGES, ..target("/memfd:m (deleted)") };
        assert_eq!(code(huge), Some(Code::HugePages));
        assert_eq!(code(Open { file_system: MESSAGE_QUEUES, ..target("/q") }), Some(Code::MessageQueue));
        assert_eq!(code(Open { device: Some((10, 229)), ..target("/dev/fuse") }), Some(Code::Devices));
        assert_eq!(code(Open { device: Some((1, 9)), ..target("/dev/urandom") }), None);
    }

    #[test]
    fn deleted_files_go_along_up_to_the_limit() {
        let deleted = |size| Open { size, names: 0, ..target("/tmp/x (deleted)") };
        assert_eq!(code(deleted(criu::ghost_limit())), None);
        assert_eq!(code(deleted(Bytes(criu::ghost_limit().0 + 1))), Some(Code::DeletedFile));
        let shared = Open { size: Bytes(u64::MAX), names: 0, ..target("/memfd:m (deleted)") };
        assert_eq!(code(shared), None);
        let linked = Open { names: 1, ..deleted(Bytes(1)) };
        assert_eq!(code(linked).is_none(), criu::links_remapped());
    }

    #[test]
    fn a_health_check_is_not_mistaken_for_a_visitor() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let health = |test: &[&str]| HealthConfig {
            test: Some(test.iter().map(|&word| word.to_owned()).collect()),
            ..HealthConfig::default()
        };
        let direct = health(&["CMD", "redis-cli", "ping"]);
        assert!(is_health_check(&words("redis-cli ping"), Some(&direct)));
        assert!(!is_health_check(&words("redis-cli flushall"), Some(&direct)));
        let shell = health(&["CMD-SHELL", "curl -f localhost || exit 1"]);
        let line = vec!["/bin/sh".to_owned(), "-c".to_owned(), "curl -f localhost || exit 1".to_owned()];
        assert!(is_health_check(&line, Some(&shell)));
        assert!(is_health_check(&words("curl -f localhost"), Some(&shell)));
        assert!(!is_health_check(&words("bash"), Some(&shell)));
        assert!(!is_health_check(&words("redis-cli ping"), None));
    }

    #[test]
    fn sockets_of_odd_protocols_are_found() {
        let table = "protocol  size sockets  memory press maxhdr\nSCTP 1 2 0 no\nTCP 1 5 0 no\nALG 1 0 0 no\nUNIX 1 -1 0 no\n";
        assert_eq!(unknown_protocols(table), ["SCTP"]);
    }

    #[test]
    fn what_runs_beside_the_first_process_was_put_in() {
        let mut first = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let init = i32::try_from(first.id()).unwrap();
        let found = Processes::of(init).map(|all| processes(init, &all, None));
        first.kill().unwrap();
        first.wait().unwrap();
        // This test is no descendant of the sleep.
        assert!(found.unwrap().iter().any(|one| one.code == Code::PutIn));
    }
}
