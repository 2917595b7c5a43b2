//! By which name the program was called: links give it others.

use std::ffi::OsStr;
use std::path::Path;

/// What it was called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invocation {
    /// Itself, by whatever name.
    Sterna,
    /// The OCI runtime of a node's engine.
    Shim,
    /// A plugin of kubectl: `kubectl sterna …`.
    Plugin,
}

/// What kubectl looks for on the path when it is told `sterna`.
const PLUGIN: &str = "kubectl-sterna";

impl Invocation {
    /// By the first of the program's arguments.
    pub fn of(called: &OsStr) -> Self {
        match Path::new(called).file_name() {
            Some(name) if name == "sterna-shim" => Self::Shim,
            Some(name) if name == PLUGIN => Self::Plugin,
            _ => Self::Sterna,
        }
    }

    /// What people write to call it so, where that is something else than the program's name.
    pub const fn written(self) -> Option<&'static str> {
        match self {
            Self::Plugin => Some("kubectl sterna"),
            Self::Sterna | Self::Shim => None,
        }
    }

    /// The program's name, which shells complete the arguments of.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Plugin => PLUGIN,
            Self::Sterna | Self::Shim => "sterna",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_runtime_and_the_plugin_mean_something_else() {
        let of = |name: &str| Invocation::of(OsStr::new(name));
        assert_eq!(of("/usr/bin/sterna-shim"), Invocation::Shim);
        assert_eq!(of("/usr/local/bin/kubectl-sterna"), Invocation::Plugin);
        for itself in ["sterna", "/usr/bin/sterna", "kubectl", "/kubectl-sterna/sterna", ""] {
            assert_eq!(of(itself), Invocation::Sterna, "{itself}");
        }
    }
}
