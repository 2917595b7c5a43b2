//! Which nodes there are and where their agents listen: what a front's file of nodes says, read again when it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sterna_core::continuum::inventory::{self, is_address};
use sterna_core::continuum::{Continuum, NodeName, Pod};
use sterna_policies::diagnose::{Findings, Invalid, Loaded, Report};
use sterna_policies::load::{At, is_name, schema_version, toml_document};
use thiserror::Error;
use tokio::sync::watch;

use crate::config_file::{self, ConfigError};
use crate::platform::addresses::{self, Remembered};

use super::config::NodesFile;

/// The format of a file of addresses.
const SCHEMA_VERSION: u32 = 1;

/// The nodes that a front listens to.
#[derive(Debug, Clone)]
pub enum Roster {
    /// Those of an inventory.
    Inventory(Arc<Continuum>),
    /// Each with the address of its agent.
    Agents(BTreeMap<NodeName, String>),
}

/// The nodes that a front listens to, as they change.
pub type Told = watch::Receiver<Arc<Roster>>;

/// What is said of where an agent listens. While it is the same, the agent is looked for in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// There, `host:port`.
    At(String),
    /// Engine or cluster is asked.
    Asked(Option<Pod>),
}

impl Roster {
    /// The nodes.
    pub fn nodes(&self) -> BTreeMap<NodeName, Whereabouts> {
        match self {
            Self::Inventory(continuum) => {
                let whereabouts = |node: &sterna_core::continuum::Node| match &node.agent {
                    Some(address) => Whereabouts::At(address.clone()),
                    None => Whereabouts::Asked(node.kubernetes.clone()),
                };
                continuum.nodes.iter().map(|(name, node)| (name.clone(), whereabouts(node))).collect()
            }
            Self::Agents(agents) => agents
                .iter()
                .map(|(name, address)| (name.clone(), Whereabouts::At(address.clone())))
                .collect(),
        }
    }

    /// The inventory, where there is one.
    pub fn continuum(&self) -> Option<&Arc<Continuum>> {
        match self {
            Self::Inventory(continuum) => Some(continuum),
            Self::Agents(_) => None,
        }
    }

    /// Where the agent of a node listens now.
    ///
    /// # Errors
    /// Why that is not known, in words.
    pub async fn address(&self, node: &NodeName, remembered: &Remembered) -> Result<String, String> {
        match self {
            Self::Inventory(continuum) => addresses::address(continuum, node, remembered).await,
            Self::Agents(agents) => {
                agents.get(node).cloned().ok_or_else(|| format!("there is no node `{node}`"))
            }
        }
    }
}

/// An inventory can't be used by a front, though it is right by itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// A front in an agent would not hear its own agent.
    #[error("the front's inventory, of continuum `{continuum}`, has no node `{node}`")]
    Stranger {
        /// The continuum of the inventory.
        continuum: String,
        /// The agent's node.
        node: NodeName,
    },
    /// Only on the host whose engine runs local nodes can their addresses be looked up.
    #[error("the front's inventory has no `agent` address of {0}, and a node can't look them up")]
    NoAddress(String),
    /// What it proves itself with is of another continuum's authority.
    #[error("it is the inventory of continuum `{now}`, and the front began with `{before}`: start it again")]
    Other {
        /// The continuum that it began with.
        before: String,
        /// That of the file.
        now: String,
    },
}

/// The nodes can't be read.
#[derive(Debug, Error)]
pub enum RosterError {
    /// The file can't be used.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// What it says does not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl From<Invalid> for RosterError {
    fn from(invalid: Invalid) -> Self {
        Self::File(invalid.into())
    }
}

/// The file, and what of it is in force.
#[derive(Debug, Clone)]
pub struct RosterFile {
    file: NodesFile,
    /// The node of the agent that runs the front, if one does.
    within: Option<NodeName>,
    /// What was last looked at, good or bad: the same is not reported twice.
    seen: Result<String, String>,
    roster: Roster,
}

impl RosterFile {
    /// Reads the file, for a front within the agent of a node or for one that stands alone. Gives its warnings too.
    ///
    /// # Errors
    /// When it can't be read, holds a mistake or does not fit.
    pub fn open(file: NodesFile, within: Option<NodeName>) -> Result<(Self, Report), RosterError> {
        let (name, text) = config_file::read(file.path())?;
        let Loaded { value: roster, warnings } = parse(&file, &name, &text)?;
        fits(&roster, within.as_ref(), None)?;
        Ok((Self { file, within, seen: Ok(text), roster }, warnings))
    }

    /// What is in force.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Looks at the file again. `Some` where something else is in force now. A content that can't be used leaves the one before in
    /// force.
    ///
    /// The content is compared and not the time of the file: a mounted folder that is swapped as a whole may bring an older one.
    ///
    /// # Errors
    /// When it can't be used; once for each content.
    pub fn read_again(&mut self) -> Result<Option<&Roster>, RosterError> {
        let read = config_file::read(self.file.path());
        let seen = match &read {
            Ok((_, text)) => Ok(text.clone()),
            Err(error) => Err(error.to_string()),
        };
        if seen == self.seen {
            return Ok(None);
        }
        self.seen = seen;
        let (name, text) = read?;
        let roster = parse(&self.file, &name, &text)?.value;
        fits(&roster, self.within.as_ref(), Some(&self.roster))?;
        self.roster = roster;
        Ok(Some(&self.roster))
    }
}

fn parse(file: &NodesFile, name: &str, text: &str) -> Result<Loaded<Roster>, Invalid> {
    match file {
        NodesFile::Agents(_) => agents(name, text),
        NodesFile::Inventory(_) => {
            let Loaded { value, warnings } = inventory::load(name, text)?;
            Ok(Loaded { value: Roster::Inventory(Arc::new(value)), warnings })
        }
    }
}

/// Whether a front can go by it: one within an agent, and one that went by another before.
fn fits(roster: &Roster, within: Option<&NodeName>, before: Option<&Roster>) -> Result<(), Unfit> {
    let Roster::Inventory(continuum) = roster else { return Ok(()) };
    if let Some(before) = before.and_then(Roster::continuum)
        && before.name != continuum.name
    {
        return Err(Unfit::Other { before: before.name.clone(), now: continuum.name.clone() });
    }
    let Some(node) = within else { return Ok(()) };
    if !continuum.nodes.contains_key(node) {
        return Err(Unfit::Stranger { continuum: continuum.name.clone(), node: node.clone() });
    }
    let nowhere = continuum.nodes.iter().filter(|(_, node)| node.agent.is_none());
    let nowhere: Vec<String> = nowhere.map(|(name, _)| format!("`{name}`")).collect();
    match nowhere.is_empty() {
        true => Ok(()),
        false => Err(Unfit::NoAddress(nowhere.join(", "))),
    }
}

/// A file of addresses as it is written.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct AgentsFile {
    schema_version: At<u32>,
    agents: BTreeMap<String, At<String>>,
}

fn agents(name: &str, text: &str) -> Result<Loaded<Roster>, Invalid> {
    let file: AgentsFile = toml_document(name, text)?;
    let mut findings = Findings::new(name, text);
    schema_version(&file.schema_version, SCHEMA_VERSION, &mut findings);
    let mut known: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for (node, address) in &file.agents {
        if !is_name(node) {
            findings
                .error(
                    "F0021",
                    address.span(),
                    format!("`{}` can't be the name of a node", node.escape_debug()),
                )
                .label("the agent of this node");
        }
        if !is_address(address) {
            findings
                .error("I0008", address.span(), format!("`{}` is not an agent's address", address.value))
                .label("expected `host:port`, such as \"10.0.0.7:7420\"");
        }
        if let Some(first) = known.insert(address.as_str(), address) {
            findings
                .error("I0009", address.span(), format!("two nodes have the agent `{}`", address.value))
                .label("again")
                .also(first.span(), "first here");
        }
    }
    let agents = file.agents.into_iter().map(|(node, address)| (NodeName::from(node), address.value));
    findings.finish(Roster::Agents(agents.collect()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const AGENTS: &str = "schema_version = 1\n[agents]\nn1 = \"10.0.0.7:7420\"\nn2 = \"[fd00::8]:7420\"\n";

    fn at(address: &str) -> Whereabouts {
        Whereabouts::At(address.to_owned())
    }

    #[test]
    fn a_file_of_addresses_names_each_agent() {
        let Roster::Agents(agents) = agents("agents.toml", AGENTS).unwrap().value else { panic!() };
        assert_eq!(agents[&NodeName::from("n1")], "10.0.0.7:7420");
        for (good, bad, word) in [
            ("schema_version = 1\n", "", "schema_version"),
            ("schema_version = 1", "schema_version = 2", "version 2"),
            ("n1", "\"N 1\"", "can't be the name of a node"),
            ("10.0.0.7:7420", "10.0.0.7", "not an agent's address"),
            ("10.0.0.7:7420", "[fd00::8]:7420", "two nodes have the agent"),
            ("[agents]", "[agent]", "agent"),
        ] {
            let refused = super::agents("agents.toml", &AGENTS.replacen(good, bad, 1)).unwrap_err();
            assert!(refused.to_string().contains(word), "{bad}: {refused}");
        }
    }

    /// As the kubelet swaps a mounted folder.
    #[test]
    fn a_file_that_is_swapped_is_read_again_and_a_bad_one_leaves_the_one_before_in_force() {
        let mounted = tempfile::tempdir().unwrap();
        let within = |name: &str| mounted.path().join(name);
        let swap = |folder: &str, content: &str| {
            std::fs::create_dir(within(folder)).unwrap();
            std::fs::write(within(folder).join("agents.toml"), content).unwrap();
            symlink(folder, within("..data_tmp")).unwrap();
            std::fs::rename(within("..data_tmp"), within("..data")).unwrap();
        };
        swap("..1", AGENTS);
        symlink("..data/agents.toml", within("agents.toml")).unwrap();
        let (mut file, _) = RosterFile::open(NodesFile::Agents(within("agents.toml")), None).unwrap();
        assert!(file.read_again().unwrap().is_none());

        swap("..2", &AGENTS.replacen("10.0.0.7", "10.0.0.9", 1));
        let nodes = file.read_again().unwrap().unwrap().nodes();
        assert_eq!(nodes[&NodeName::from("n1")], at("10.0.0.9:7420"));
        assert_eq!(nodes[&NodeName::from("n2")], at("[fd00::8]:7420"));

        swap("..3", "schema_version = 1\n");
        let refused = file.read_again().unwrap_err().to_string();
        assert!(refused.contains("agents.toml") && refused.contains("agents"), "{refused}");
        assert!(file.read_again().unwrap().is_none(), "it is said once");
        assert_eq!(file.roster().nodes(), nodes);
        std::fs::remove_file(within("..data")).unwrap();
        assert!(file.read_again().is_err());
        assert!(file.read_again().unwrap().is_none());

        // What was in force before counts as new: it ends the state of error.
        symlink("..2", within("..data")).unwrap();
        assert!(file.read_again().unwrap().is_some());
    }

    #[test]
    fn another_continuum_needs_another_start() {
        let inventory = |name: &str| {
            format!(
                "schema_version = 1\nname = \"{name}\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
                 price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n\
                 node = [{{ name = \"n\", cpu = \"1\", memory = \"1GiB\" }}]\n"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.toml");
        std::fs::write(&path, inventory("one")).unwrap();
        let (mut file, _) = RosterFile::open(NodesFile::Inventory(path.clone()), None).unwrap();
        assert_eq!(file.roster().nodes()[&NodeName::from("n")], Whereabouts::Asked(None));
        std::fs::write(&path, inventory("two")).unwrap();
        assert!(matches!(file.read_again(), Err(RosterError::Unfit(Unfit::Other { .. }))));
        std::fs::write(&path, inventory("one").replacen("1GiB\"", "1GiB\", agent = \"192.0.2.1:7420\"", 1))
            .unwrap();
        let nodes = file.read_again().unwrap().unwrap().nodes();
        assert_eq!(nodes[&NodeName::from("n")], at("192.0.2.1:7420"));
    }
}
