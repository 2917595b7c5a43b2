//! What speaks against a migration, as data: a stable code, whom it concerns, what was found, and what to do about it.
//!
//! The table of codes is here and nowhere else; `docs/precheck.md` is tested against it. A code keeps its meaning for ever; one
//! that is no longer used is not given away again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whom a finding concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The service, wherever it is to go.
    Service,
    /// The node that it leaves.
    Source,
    /// The node that it goes to.
    Destination,
    /// The two nodes together.
    Pair,
}

impl Subject {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Pair => "pair",
        }
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $meaning:literal $remedy:literal;)+) => {
        /// What kind of thing speaks against a migration. Programs read it as `C001` and so on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(
                #[doc = $meaning]
                #[serde(rename = $code)]
                $name,
            )+
        }

        impl Code {
            /// All codes, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as programs read it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),+ }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),+ }
            }
        }
    };
}

codes! {
    NotRunning "C001" "The service does not run." "start it";
    Paused "C002" "The service is paused already: somebody else holds it." "unpause it, or wait for whoever paused it";
    Terminal "C003" "The service has a terminal, which CRIU can't carry over." "create it without a terminal (`-t`)";
    RemovesItself "C004" "The service removes itself when it ends, and a failed move could lose it." "create it without `--rm`";
    Privileged "C005" "The service is privileged: what it holds of the node can't be carried over." "create it without `--privileged`";
    Devices "C006" "The service uses devices of the node." "create it without devices";
    SharedNamespace "C007" "The service shares a namespace with the node or another container." "give it namespaces of its own";
    Network "C008" "The service is on a network other than the engine's default bridge." "put it on the default bridge, or on none";
    Mount "C009" "The service has a mount that is not a named volume of the engine." "use a named volume";
    WritableLayer "C010" "The service's writable layer can't be found." "have the engine use the storage driver overlay2";
    IoUring "C011" "A process of the service uses io_uring, which CRIU can't carry over." "turn io_uring off in the service";
    EngineInit "C012" "The engine put an init into the service, whose mount CRIU can't restore." "create it without `--init`; use an image that brings its own init";
    VolumeDriver "C013" "A volume of the service is not a local folder of the node." "use a volume of the driver `local` without options";
    VolumeShared "C014" "Another container uses a volume of the service." "give each its own volume, or stop the other container";
    PutIn "C015" "A process was started in the service from outside, as by `docker exec`: it would not be moved." "end it, or wait until it has ended";
    KernelObject "C016" "A process of the service holds a kernel object that CRIU can't write down." "turn off in the service what uses it";
    HugePages "C017" "A process of the service holds a memory file in huge pages." "turn huge pages off in the service";
    MessageQueue "C018" "A process of the service holds a POSIX message queue." "have it use another way of speaking";
    Traced "C019" "A process of the service is traced by another, such as a debugger." "end the debugger";
    ChangedRoot "C020" "A process of the service has changed its root (chroot)." "run it without chroot";
    NestedNamespace "C021" "A process of the service has made a process or user namespace of its own." "run it without nested containers";
    Socket "C022" "The service uses sockets of a protocol that CRIU can't carry over." "have it use TCP, UDP or local sockets";
    DeletedFile "C023" "A process of the service holds a deleted file open that CRIU does not take along." "have it close the file";
    Privileges "C024" "The service's first process gave up its privileges by itself, so CRIU could move it once and never again." "start it as its user: `--user`, `USER` in the image, or `setpriv`";
    Confinement "C025" "The service asks to be confined less than the engine confines by default." "create it without added capabilities, `--security-opt`, `--sysctl`, `--runtime`, `--cgroup-parent` and annotations";
    Architecture "C101" "The nodes differ in processor architecture." "move it to a node of the same architecture";
    Kernel "C102" "The nodes differ in kernel." "run the same kernel on both";
    CgroupVersion "C103" "The nodes differ in cgroup version." "run both with the same cgroup version";
    UserMap "C104" "The nodes map the user numbers of services differently." "give both engines the same `userns-remap` ranges";
    CriuVersion "C105" "The nodes differ in version of CRIU." "make both from the same node image";
    RuncVersion "C106" "The nodes differ in version of runc." "make both from the same node image";
    SternaVersion "C107" "The nodes differ in version of sterna." "make both from the same node image";
    CpuFeatures "C108" "The destination's processor lacks features that the source's has." "move it to a node whose processor has them";
    StorageDriver "C109" "A node's engine does not use the storage driver overlay2." "set `storage-driver` to overlay2 in the engine's settings";
    SecurityProfile "C110" "The nodes' engines confine services differently." "give both engines the same seccomp, AppArmor and SELinux settings";
    Criu "C111" "CRIU does not work on a node." "mend what it says: load kernel modules, give the node capabilities, or put a newer CRIU on it";
    Canary "C112" "A trial between the two nodes failed: a small container was dumped at the one and could not be restored at the other." "mend what it says and try again";
    Staging "C201" "There is too little room for the memory image." "give the staging folder more room, or make room in it";
    Memory "C202" "There is too little memory for the service." "free memory at the destination, or move it elsewhere";
    Disk "C203" "There is too little room for the service's image and files." "make room where the engine keeps its data";
    NameTaken "C301" "The destination has a container of the same name." "remove or rename that container";
    PortTaken "C302" "A port that the service publishes is taken at the destination." "free the port, or move it elsewhere";
    VolumeTaken "C303" "The destination has a volume of the same name." "remove or rename that volume";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that speaks against a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub code: Code,
    /// Whom it concerns.
    pub subject: Subject,
    /// What was found, for people.
    pub what: String,
    /// What to do about it, for people.
    pub remedy: String,
}

impl Finding {
    /// A finding whose remedy is that of its code.
    pub fn new(code: Code, subject: Subject, what: impl Into<String>) -> Self {
        Self { code, subject, what: what.into(), remedy: code.remedy().to_owned() }
    }
}

/// One line: `C301 destination: what was found; what to do about it`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; {}", self.code, self.subject.name(), self.what, self.remedy)
    }
}

/// Findings one after the other, for a log line or a table's cell.
pub fn line(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people read.
    const PAGE: &str = include_str!("../../../docs/precheck.md");

    #[test]
    fn the_page_has_the_table() {
        let row = |code: &Code| format!("| {code} | {} | {} |", code.meaning(), code.remedy());
        let rows: Vec<String> = Code::ALL.iter().map(row).collect();
        let there: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| C")).collect();
        assert_eq!(there, rows, "docs/precheck.md must have exactly these rows");
    }

    #[test]
    fn codes_are_distinct_and_in_order() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].name() < pair[1].name(), "{} before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn programs_read_the_code_and_people_the_line() {
        let finding = Finding::new(Code::PortTaken, Subject::Destination, "port 80/tcp is taken by `web`");
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!((json["code"].as_str(), json["subject"].as_str()), (Some("C302"), Some("destination")));
        assert_eq!(serde_json::from_value::<Finding>(json).unwrap(), finding);
        assert_eq!(
            finding.to_string(),
            "C302 destination: port 80/tcp is taken by `web`; free the port, or move it elsewhere"
        );
    }
}
