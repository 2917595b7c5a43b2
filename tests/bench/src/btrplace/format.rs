//! BtrPlace's JSON: a mapping of machines on servers, resources, and constraints on what comes next.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use sterna_core::assignment::model::{
    Bin, Dimension, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};

/// A workload as an assignment problem.
#[derive(Debug)]
pub struct Workload {
    /// Machines that don't run yet are on a last bin that has no room for anything.
    pub model: Model,
    /// How many servers there are.
    pub servers: usize,
}

impl Workload {
    /// How many machines run that did not before.
    pub fn started(&self, at: &[u32]) -> usize {
        let nowhere = self.servers as u32;
        self.model.items.iter().zip(at).filter(|(item, bin)| item.now == nowhere && **bin != nowhere).count()
    }
}

#[derive(Deserialize)]
struct File {
    model: Described,
    constraints: Vec<Value>,
}

#[derive(Deserialize)]
struct Described {
    mapping: Mapping,
    views: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(rename = "readyVMs")]
    ready: Vec<u32>,
    online_nodes: BTreeMap<u32, Hosted>,
    offline_nodes: Vec<u32>,
}

#[derive(Deserialize)]
struct Hosted {
    #[serde(rename = "runningVMs")]
    running: Vec<u32>,
    #[serde(rename = "sleepingVMs")]
    sleeping: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    rc_id: String,
    nodes: BTreeMap<u32, i64>,
    vms: BTreeMap<u32, i64>,
    def_capacity: i64,
    def_consumption: i64,
}

#[derive(Deserialize)]
#[serde(tag = "id", rename_all = "camelCase")]
enum Constraint {
    Preserve { rc: String, amount: i64, vm: u32 },
    Spread { vms: Vec<u32> },
    Among { vms: Vec<u32>, parts: Vec<Vec<u32>> },
    Online { node: u32 },
    Offline { node: u32 },
    Running { vm: u32 },
    ResourceCapacity { rc: String, amount: i64, nodes: Vec<u32> },
}

/// Reads a workload.
///
/// # Errors
/// What is not understood.
pub fn workload(text: &str) -> anyhow::Result<Workload> {
    let file: File = serde_json::from_str(text)?;
    let constraints: Vec<Constraint> = file
        .constraints
        .into_iter()
        .map(|constraint| {
            let text = constraint.to_string();
            serde_json::from_value(constraint)
                .with_context(|| format!("the constraint {}", text.chars().take(100).collect::<String>()))
        })
        .collect::<anyhow::Result<_>>()?;
    let mapping = file.model.mapping;
    let servers: Vec<u32> = mapping.online_nodes.keys().chain(&mapping.offline_nodes).copied().collect();
    let server: BTreeMap<u32, u32> = (0..).zip(&servers).map(|(number, id)| (*id, number)).collect();
    let nowhere = servers.len() as u32;

    let mut now: BTreeMap<u32, u32> = mapping.ready.iter().map(|vm| (*vm, nowhere)).collect();
    for (id, hosted) in &mapping.online_nodes {
        ensure!(hosted.sleeping.is_empty(), "sleeping machines are not understood");
        now.extend(hosted.running.iter().map(|vm| (*vm, server[id])));
    }
    let machine: BTreeMap<u32, u32> = (0..).zip(now.keys()).map(|(number, id)| (*id, number)).collect();

    let mut off: Vec<bool> = servers.iter().map(|id| mapping.offline_nodes.contains(id)).collect();
    // Every machine counts, so that those that use nothing have to be somewhere too.
    let mut dimensions = vec![dimension("machines")];
    let mut capacity: Vec<Vec<i64>> = vec![vec![now.len() as i64]; servers.len()];
    let mut uses: Vec<Vec<i64>> = vec![vec![1]; now.len()];
    let mut resources = BTreeMap::new();
    for view in file.model.views {
        if view.get("id").and_then(Value::as_str) != Some("shareableResource") {
            continue;
        }
        let resource: Resource = serde_json::from_value(view).context("a resource")?;
        for (id, room) in servers.iter().zip(&mut capacity) {
            room.push(*resource.nodes.get(id).unwrap_or(&resource.def_capacity));
        }
        for (id, uses) in now.keys().zip(&mut uses) {
            uses.push(*resource.vms.get(id).unwrap_or(&resource.def_consumption));
        }
        resources.insert(resource.rc_id.clone(), dimensions.len());
        dimensions.push(dimension(&resource.rc_id));
    }

    let (mut scopes, mut groups, mut rules): (Vec<Scope>, Vec<Group>, Vec<Rule>) = Default::default();
    let mut known: BTreeMap<Vec<Vec<u32>>, u32> = BTreeMap::new();
    let mut allowed: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for constraint in constraints {
        let one = |of: &BTreeMap<u32, u32>, what: &str, id: u32| {
            of.get(&id).copied().with_context(|| format!("there is no {what} {id}"))
        };
        let resource = |name: &str| {
            resources.get(name).copied().with_context(|| format!("there is no resource `{name}`"))
        };
        let mut group = |vms: &[u32]| -> anyhow::Result<u32> {
            let items = vms.iter().map(|vm| one(&machine, "machine", *vm)).collect::<anyhow::Result<_>>()?;
            groups.push(Group { name: format!("group {}", groups.len()), items });
            Ok(groups.len() as u32 - 1)
        };
        match constraint {
            Constraint::Preserve { rc, amount, vm } => {
                let uses = &mut uses[one(&machine, "machine", vm)? as usize][resource(&rc)?];
                *uses = amount.max(*uses);
            }
            Constraint::Spread { vms } => {
                rules.push(Rule::Conflict { group: group(&vms)?, level: Level::Bin, most: 1 });
            }
            Constraint::Among { vms, parts } => {
                let group = group(&vms)?;
                let mut bins = Vec::new();
                for node in parts.iter().flatten() {
                    bins.push(one(&server, "server", *node)?);
                }
                for item in groups[group as usize].items.clone() {
                    if let Some(other) = allowed.insert(item, bins.clone()) {
                        ensure!(
                            other == bins,
                            "a machine that is among two lists of servers is not understood"
                        );
                    }
                }
                let next = scopes.len() as u32;
                let scope = *known.entry(parts.clone()).or_insert(next);
                if scope == next {
                    // What is in none of the parts is a part of its own.
                    let mut part = vec![parts.len() as u32; servers.len() + 1];
                    for (number, nodes) in (0..).zip(&parts) {
                        for node in nodes {
                            part[server[node] as usize] = number;
                        }
                    }
                    scopes.push(Scope { name: format!("parts {next}"), part });
                }
                rules.push(Rule::CoLocation { group, level: Level::Scope(scope) });
            }
            Constraint::Online { node } => off[one(&server, "server", node)? as usize] = false,
            Constraint::Offline { node } => off[one(&server, "server", node)? as usize] = true,
            Constraint::Running { vm } => {
                one(&machine, "machine", vm)?;
            }
            Constraint::ResourceCapacity { rc, amount, nodes } => {
                let [node] = nodes[..] else {
                    bail!("a capacity of several servers together is not understood")
                };
                let room = &mut capacity[one(&server, "server", node)? as usize][resource(&rc)?];
                *room = amount.min(*room);
            }
        }
    }

    let count = dimensions.len();
    let room = |(id, (room, off)): (&u32, (Vec<i64>, bool))| Bin {
        name: format!("server {id}"),
        capacity: if off { vec![0; count] } else { room },
    };
    let mut bins: Vec<Bin> = servers.iter().zip(capacity.into_iter().zip(off)).map(room).collect();
    bins.push(Bin { name: "nowhere".to_owned(), capacity: vec![0; count] });
    let items: Vec<Item> = now
        .iter()
        .zip(uses)
        .map(|((id, now), uses)| Item {
            name: format!("machine {id}"),
            uses,
            now: *now,
            bins: allowed.get(&machine[id]).cloned(),
        })
        .collect();
    let moves = Term::ItemMove { cost: vec![1; items.len()] };
    let objective = Objective { name: "moves".to_owned(), terms: vec![moves], ..Objective::default() };
    let model = Model {
        dimensions,
        scopes,
        bins,
        items,
        groups,
        rules,
        objectives: vec![objective],
        most_moved: None,
    };
    Ok(Workload { model, servers: servers.len() })
}

fn dimension(name: &str) -> Dimension {
    Dimension { name: name.to_owned(), transient: false }
}

#[cfg(test)]
mod tests {
    use sterna_core::assignment::problem::Problem;
    use sterna_core::assignment::search::repair::repair;
    use sterna_core::assignment::state::State;
    use sterna_core::checker::assignment::judge;

    use super::*;

    fn file(constraints: &str) -> String {
        format!(
            r#"{{"model": {{
                "mapping": {{
                    "readyVMs": [7],
                    "onlineNodes": {{"3": {{"runningVMs": [1, 2], "sleepingVMs": []}}, "4": {{"runningVMs": [], "sleepingVMs": []}}}},
                    "offlineNodes": [5]
                }},
                "views": [
                    {{"id": "ns", "type": "vm", "map": {{}}}},
                    {{"id": "shareableResource", "rcId": "cpu", "nodes": {{"3": 10, "4": 10}}, "vms": {{"1": 4, "2": 4}},
                      "defCapacity": 99, "defConsumption": 0}}
                ]
            }}, "constraints": [{constraints}], "objective": {{"id": "minimizeMTTR"}}}}"#
        )
    }

    /// Where machines 1, 2 and 7 are after a repair: on servers 3, 4, 5, or nowhere.
    fn repaired(constraints: &str) -> (bool, Vec<u32>) {
        let workload = workload(&file(constraints)).unwrap();
        let problem = Problem::new(&workload.model).unwrap();
        let mut state = State::new(&problem, &problem.now);
        let whole = repair(&mut state, &[]);
        assert_eq!(judge(&workload.model, state.at()).holds(), whole);
        (whole, state.at().iter().map(|bin| bin + 3).collect())
    }

    #[test]
    fn what_is_ready_is_started_and_what_lacks_room_gets_it() {
        assert_eq!(repaired(""), (true, vec![3, 3, 3]));
        assert_eq!(
            repaired(r#"{"id": "preserve", "vm": 2, "rc": "cpu", "amount": 7}"#),
            (true, vec![4, 3, 3])
        );
        assert_eq!(repaired(r#"{"id": "offline", "node": 3, "continuous": false}"#), (true, vec![4, 4, 4]));
        let spread = r#"{"id": "spread", "vms": [1, 2, 7], "continuous": true}"#;
        // The third server is off.
        assert!(!repaired(spread).0);
        let on = r#"{"id": "online", "node": 5, "continuous": false}"#;
        let (whole, mut at) = repaired(&format!("{spread}, {on}"));
        at.sort_unstable();
        assert_eq!((whole, at), (true, vec![3, 4, 5]));
        let among = r#"{"id": "among", "vms": [1, 2], "parts": [[4], [5]], "continuous": false}"#;
        assert_eq!(workload(&file(among)).unwrap().model.items[0].bins, Some(vec![1, 2]));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let said = |constraints: &str| format!("{:#}", workload(&file(constraints)).unwrap_err());
        assert!(said(r#"{"id": "lonely", "vms": [1]}"#).contains("unknown variant `lonely`"));
        assert_eq!(said(r#"{"id": "running", "vm": 8}"#), "there is no machine 8");
        assert_eq!(
            said(r#"{"id": "preserve", "vm": 1, "rc": "gpu", "amount": 1}"#),
            "there is no resource `gpu`"
        );
    }
}
