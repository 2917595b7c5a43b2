//! What CRIU's logs mean: the errors that are known, each with its cause and what to do about it.

use std::fmt;
use std::path::Path;

/// An error that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name, for programs and tests.
    pub name: &'static str,
    /// Any of these in a line of the log tells it.
    pub signs: &'static [&'static str],
    /// What is behind it.
    pub cause: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

const fn known(
    name: &'static str,
    signs: &'static [&'static str],
    cause: &'static str,
    remedy: &'static str,
) -> Known {
    Known { name, signs, cause, remedy }
}

/// Errors that are known, the more particular ones first. Signs are from logs of CRIU 4.2.1 (`excerpts.txt` beside this file
/// has them), but for those marked with where they are from.
pub const KNOWN: &[Known] = &[
    known(
        "deleted-file-too-big",
        &["Can't dump ghost file"],
        "a process holds a file open that was deleted and is larger than CRIU takes along",
        "have the service close it, or raise `ghost-limit` in CRIU's settings",
    ),
    known(
        "deleted-file-linked",
        &["Can't create link remap"],
        "a process holds a file open under a name that was deleted while another name is left",
        "have the service close it, or allow `link-remap` in CRIU's settings",
    ),
    known(
        // criu#3070: io_uring's file can't even be passed to CRIU.
        "io-uring",
        &["send_fds failed", "Can't retrieve FDs from socket", "io_uring"],
        "a process holds a file that can't be handed to CRIU, as that of an io_uring",
        "turn io_uring off in the service",
    ),
    known(
        "kernel-object",
        &["(anon anon_inode:"],
        "a process holds an object of the kernel that CRIU can't write down",
        "turn off in the service what uses the object that the log names",
    ),
    known(
        "device",
        &["of that type [20600] (chr"],
        "a process holds a device open",
        "have the service close it; devices stay with their node",
    ),
    known(
        "file-system",
        &["Can't lookup mount="],
        "a process holds a file of a file system that CRIU can't find in the service: a message queue, a memory file in huge \
         pages, or something from outside",
        "have the service do without it",
    ),
    known(
        "connection-half-open",
        &["In-flight connection"],
        "a client was connecting in the moment of the dump",
        "try again, or allow `skip-in-flight` in CRIU's settings",
    ),
    known(
        "connection-open",
        &["Connected TCP socket"],
        "the service has connections, and CRIU was not told what to do with them",
        "set `tcp-close` or `tcp-established` in CRIU's settings on both nodes",
    ),
    known(
        "changed-root",
        &["'s mountinfo"],
        "a process has changed its root to a folder that is no mount",
        "run the service without chroot",
    ),
    known(
        "nested-namespace",
        &["Can't dump nested"],
        "a process has made a namespace of its own that CRIU can't write down",
        "run the service without nested namespaces",
    ),
    known(
        "traced",
        &["Unable to interrupt task", "found while seizing"],
        "a process is traced by another, such as a debugger",
        "end the debugger",
    ),
    known(
        "mount-missing",
        &["Can't remount"],
        "a mount of the source is not at the destination, as the init that the engine puts in for `--init`",
        "create the service without that mount",
    ),
    known(
        "image-cut-short",
        &["while", "expected from"],
        "the memory image is cut short",
        "move the service again; if it comes back, look for a full disk where images are staged",
    ),
    known(
        "image-foreign",
        &["Head magic doesn't match"],
        "the memory image is spoilt, or of another version of CRIU",
        "run the same version of CRIU on both nodes",
    ),
    known(
        "file-differs",
        // criu/files-reg.c: the second sign.
        &["has bad size", "has bad build-ID"],
        "a file that the service has open is not the same at the destination as when the memory was dumped",
        "make both nodes hold the same image, and let nothing else write into the service's volumes",
    ),
    known(
        "file-missing",
        &["on restore: No such file or directory"],
        "a file that the service has open is not at the destination",
        "make both nodes hold the same image, and let nothing else write into the service's volumes",
    ),
    known(
        "process-number-taken",
        &["Can't fork for"],
        "a process number of the service is taken at the destination",
        "have the service use process numbers of its own (no `--pid`)",
    ),
    known(
        "no-space",
        &["No space left on device"],
        "there is no room left where the memory image is written",
        "make room in the staging folder, or give it more",
    ),
    known(
        "no-memory",
        &["Cannot allocate memory", "Can't allocate memory"],
        "there is no memory left",
        "free memory on the node, or move something smaller",
    ),
    known(
        "port-taken",
        &["Can't bind inet socket"],
        "an address that the service listens on is taken at the destination",
        "free the port, or move it elsewhere",
    ),
    known(
        // criu/pstree.c, criu/cr-dump.c.
        "session-outside",
        &["is not a session leader", "A session leader of"],
        "a process belongs to a session that began outside of the service, as one started by `docker exec`",
        "end what was started in the service from outside",
    ),
    known(
        "terminal",
        &["tty: "],
        "a process uses a terminal whose other end is outside of the service",
        "create it without a terminal (`-t`)",
    ),
    known(
        // criu/sk-unix.c.
        "socket-outside",
        &["Can't dump half of stream unix connection", "External socket is used"],
        "a process is connected to a socket of a process outside of the service",
        "cut that connection, such as to a log or an engine's socket",
    ),
    known(
        "lock",
        &["file locks are hold"],
        "a process holds file locks",
        "set `file-locks` in CRIU's settings",
    ),
    known("tunnel", &["tun: "], "a process holds a network tunnel", "have the service do without it"),
    known(
        // Measured: kernel 6.13 and later split the area; CRIU 4.1 knows (commit 8ee2eba47).
        "kernel-too-new",
        &["Unexpected rt vDSO area bounds", "vdso: "],
        "this version of CRIU does not know this kernel",
        "put a newer CRIU on the node",
    ),
    known(
        // Measured with CRIU 4.1.1 on kernel 6.18.
        "tcp-option",
        &["Can't get 1:16 opt"],
        "this version of CRIU can't dump TCP sockets on this kernel",
        "put CRIU 4.2 or later on the node",
    ),
    known(
        // criu/cpu.c.
        "processor",
        &["CPU capabilities do not match run time", "CPU features", "xsave"],
        "the processor of the destination lacks something that the service may use",
        "move it to a node whose processor has it",
    ),
    known(
        "time-namespace",
        &["timens"],
        "the clocks of the service can't be set at the destination",
        "give CRIU the capability CAP_SYS_TIME there, or a kernel with time namespaces",
    ),
    known(
        // criu#2453.
        "control-group",
        &["cgroup.freeze", "cg: Can't"],
        "the service's control group can't be made at the destination",
        "run the same cgroup version and driver on both nodes",
    ),
    known(
        // criu/libnetlink.c; measured on Debian's kernel 6.1 without nf_conntrack_netlink.
        "netlink",
        &["reported by netlink"],
        "the kernel can't tell CRIU about the service's network",
        "load the kernel's netlink modules: `modprobe -a nf_conntrack_netlink tcp_diag udp_diag inet_diag unix_diag af_packet_diag \
         netlink_diag`",
    ),
    known(
        "restartable-sequences",
        &["rseq"],
        "CRIU or the kernel can't carry over restartable sequences",
        "run kernel 5.13 and CRIU 3.17 or later",
    ),
    known(
        // Measured: several users in a service, no CAP_SYS_RESOURCE, no user mapping.
        "limits",
        &["Can't get rlimit"],
        "CRIU may not read the limits of a process that runs as another user",
        "have the engine map users (`userns-remap`), or give the node CAP_SYS_RESOURCE",
    ),
    known(
        // criu/pie/restorer.c.
        "security-profile",
        &["can't write lsm profile", "lsm: "],
        "the destination can't put the service under the security profile that it had",
        "load the same AppArmor or SELinux profile on both nodes",
    ),
    known(
        "system-call-filter",
        &["seccomp: "],
        "the service's system call filter can't be carried over",
        "run the same kernel on both nodes",
    ),
];

/// What CRIU calls an error and then does without: it asks for more open files than it may have, in case it needs them.
const HARMLESS: &str = "rlimit: Can't setup RLIMIT_NOFILE for self";
/// Lines of a log that are quoted.
const QUOTED: usize = 3;

/// What a log tells of a dump or restore that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The known error, if it is one.
    pub known: Option<&'static Known>,
    /// The log's own words: its errors, else its last lines.
    pub lines: Vec<String>,
}

impl Diagnosis {
    /// From the text of a log.
    pub fn of(text: &str) -> Self {
        let errors = || text.lines().filter(|line| line.contains("Error") && !line.contains(HARMLESS));
        let warned = || text.lines().filter(|line| line.contains("Warn"));
        let told = |line: &str, one: &Known| match one.name {
            // Each word alone is too common.
            "image-cut-short" => one.signs.iter().all(|sign| line.contains(sign)),
            _ => one.signs.iter().any(|sign| line.contains(sign)),
        };
        let known = KNOWN
            .iter()
            .find(|one| errors().any(|line| told(line, one)))
            .or_else(|| KNOWN.iter().find(|one| warned().any(|line| told(line, one))));
        let mut lines: Vec<String> = errors().take(QUOTED).map(str::to_owned).collect();
        if lines.is_empty() {
            lines = text.lines().rev().take(QUOTED).map(str::to_owned).collect();
            lines.reverse();
        }
        Self { known, lines }
    }

    /// From a log's file.
    pub fn of_file(log: &Path) -> Self {
        match std::fs::read(log) {
            Ok(text) => Self::of(&String::from_utf8_lossy(&text)),
            Err(error) => Self { known: None, lines: vec![format!("no log at {}: {error}", log.display())] },
        }
    }
}

/// The cause and what to do about it, and then the log's own words.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Known { cause, remedy, .. }) = self.known {
            write!(f, "{cause}; {remedy}; its words: ")?;
        }
        f.write_str(&self.lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs of real failures: a line `# NAME`, and below it what the log said.
    const EXCERPTS: &str = include_str!("excerpts.txt");

    #[test]
    fn real_logs_are_told_by_their_cause() {
        let mut seen = 0;
        for excerpt in EXCERPTS.split("# ").skip(1) {
            let (name, log) = excerpt.split_once('\n').unwrap();
            let diagnosis = Diagnosis::of(log);
            let known = diagnosis.known.unwrap_or_else(|| panic!("{name}: nothing known\n{log}"));
            assert_eq!(known.name, name, "\n{log}");
            assert!(diagnosis.to_string().contains(known.remedy), "{diagnosis}");
            assert!(!diagnosis.lines.iter().any(|line| line.contains(HARMLESS)), "{diagnosis}");
            seen += 1;
        }
        assert!(seen >= 20, "only {seen} excerpts");
    }

    #[test]
    fn names_are_distinct() {
        for (at, one) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..at].iter().all(|other| other.name != one.name), "{}", one.name);
        }
    }

    #[test]
    fn an_unknown_log_speaks_for_itself() {
        assert_eq!(Diagnosis::of("a\nb\nc\nd\n").to_string(), "b | c | d");
        assert_eq!(Diagnosis::of("fine\nError (x.c:1): odd\nbye\n").to_string(), "Error (x.c:1): odd");
        let gone = Diagnosis::of_file(Path::new("/nowhere/dump.log")).to_string();
        assert!(gone.contains("/nowhere/dump.log"), "{gone}");
    }
}
