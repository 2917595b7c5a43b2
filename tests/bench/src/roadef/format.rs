//! The challenge's files, as its problem statement has them: whole numbers, white space between.

use anyhow::{Context as _, ensure};
use sterna_core::assignment::model::{
    Bin, Dimension, Group, Item, Level, Model, Objective, Rule, Scope, Term,
};

/// Reads numbers, and says where one is wrong.
struct Numbers<'a> {
    words: std::str::SplitWhitespace<'a>,
    at: usize,
}

impl<'a> Numbers<'a> {
    fn new(text: &'a str) -> Self {
        Self { words: text.split_whitespace(), at: 0 }
    }

    fn next(&mut self, what: &str) -> anyhow::Result<i64> {
        self.at += 1;
        let word = self.words.next().with_context(|| format!("it ends at number {}, {what}", self.at))?;
        let number: u32 = word.parse().with_context(|| format!("number {}, {what}: `{word}`", self.at))?;
        Ok(i64::from(number))
    }

    fn count(&mut self, what: &str) -> anyhow::Result<usize> {
        Ok(self.next(what)? as usize)
    }

    fn list(&mut self, length: usize, what: &str) -> anyhow::Result<Vec<i64>> {
        (0..length).map(|_| self.next(what)).collect()
    }

    fn end(mut self) -> anyhow::Result<()> {
        ensure!(self.words.next().is_none(), "there are more numbers than {}", self.at);
        Ok(())
    }
}

const LOCATION: u32 = 0;
const NEIGHBOURHOOD: u32 = 1;
const LOAD: &str = "load";
const BALANCE: &str = "balance";

/// The model and where the processes are.
///
/// # Errors
/// Which number is wrong.
pub fn model(model: &str, initial: &str) -> anyhow::Result<Model> {
    let mut model = read_model(model).context("the model")?;
    let mut numbers = Numbers::new(initial);
    for item in &mut model.items {
        item.now = numbers.count("a process's machine").context("the assignment")? as u32;
    }
    numbers.end().context("the assignment")?;
    Ok(model)
}

fn read_model(text: &str) -> anyhow::Result<Model> {
    let mut numbers = Numbers::new(text);
    let resources = numbers.count("the number of resources")?;
    let mut dimensions = Vec::new();
    let mut weights = Vec::new();
    for resource in 0..resources {
        let transient = numbers.next("whether a resource is transient")? != 0;
        dimensions.push(Dimension { name: format!("resource {resource}"), transient });
        weights.push(numbers.next("the weight of a load cost")?);
    }
    let machines = numbers.count("the number of machines")?;
    let (mut neighbourhoods, mut locations) = (Vec::new(), Vec::new());
    let (mut bins, mut safety, mut distance) = (Vec::new(), Vec::new(), Vec::new());
    for machine in 0..machines {
        neighbourhoods.push(numbers.next("a neighbourhood")? as u32);
        locations.push(numbers.next("a location")? as u32);
        let capacity = numbers.list(resources, "a capacity")?;
        bins.push(Bin { name: format!("machine {machine}"), capacity });
        safety.push(numbers.list(resources, "a safety capacity")?);
        distance.push(numbers.list(machines, "a machine move cost")?);
    }
    let services = numbers.count("the number of services")?;
    let mut rules = Vec::new();
    for service in 0..services as u32 {
        rules.push(Rule::Conflict { group: service, level: Level::Bin, most: 1 });
        let least = numbers.next("a least spread")? as u32;
        rules.push(Rule::Spread { group: service, level: Level::Scope(LOCATION), least });
        for _ in 0..numbers.count("the number of dependencies")? {
            let needs = numbers.next("a service that is needed")? as u32;
            rules.push(Rule::Dependency { group: service, needs, level: Level::Scope(NEIGHBOURHOOD) });
        }
    }
    let mut groups: Vec<Group> = (0..services)
        .map(|service| Group { name: format!("service {service}"), items: Vec::new() })
        .collect();
    let (mut items, mut process_move) = (Vec::new(), Vec::new());
    for process in 0..numbers.count("the number of processes")? {
        let service = numbers.count("a process's service")?;
        let group = groups.get_mut(service).with_context(|| format!("there is no service {service}"))?;
        group.items.push(process as u32);
        let uses = numbers.list(resources, "what a process requires")?;
        items.push(Item { name: format!("process {process}"), uses, now: 0, bins: None });
        process_move.push(numbers.next("a process move cost")?);
    }
    let mut terms = Vec::new();
    for (resource, weight) in weights.iter().enumerate() {
        let level = safety.iter().map(|of_machine: &Vec<i64>| of_machine[resource]).collect();
        terms.push(Term::Headroom { dimension: resource as u32, level, weight: *weight });
    }
    for _ in 0..numbers.count("the number of balance costs")? {
        let free = numbers.next("a resource to balance")? as u32;
        let wanted = numbers.next("a resource to balance")? as u32;
        let ratio = numbers.next("a balance target")?;
        let weight = numbers.next("a balance weight")?;
        terms.push(Term::Balance { free, wanted, ratio, weight });
    }
    let weight = numbers.next("the weight of process moves")?;
    terms.push(Term::ItemMove { cost: process_move.iter().map(|cost| cost * weight).collect() });
    terms.push(Term::GroupMove { weight: numbers.next("the weight of service moves")? });
    let weight = numbers.next("the weight of machine moves")?;
    terms.push(Term::BinMove { level: Level::Bin, cost: distance, weight });
    numbers.end()?;
    Ok(Model {
        dimensions,
        scopes: vec![scope("location", locations), scope("neighbourhood", neighbourhoods)],
        bins,
        items,
        groups,
        rules,
        objectives: vec![Objective { name: "cost".to_owned(), terms, ..Objective::default() }],
        most_moved: None,
    })
}

/// Parts, counted anew from zero in their own order.
fn scope(name: &str, numbers: Vec<u32>) -> Scope {
    let mut known = numbers.clone();
    known.sort_unstable();
    known.dedup();
    let part = numbers.iter().map(|number| known.partition_point(|one| one < number) as u32).collect();
    Scope { name: name.to_owned(), part }
}

/// What the terms of the challenge come to.
pub fn terms(model: &Model, worth: &[i128]) -> Vec<(&'static str, i128)> {
    let mut sums =
        vec![(LOAD, 0), (BALANCE, 0), ("process moves", 0), ("service moves", 0), ("machine moves", 0)];
    for (term, worth) in model.objectives.iter().flat_map(|objective| &objective.terms).zip(worth) {
        let at = match term {
            Term::Headroom { .. } => 0,
            Term::Balance { .. } => 1,
            Term::ItemMove { .. } => 2,
            Term::GroupMove { .. } => 3,
            _ => 4,
        };
        sums[at].1 += worth;
    }
    sums
}

#[cfg(test)]
mod tests {
    use sterna_core::checker::assignment::judge;

    use super::*;

    /// Two resources, the first transient with weight 3, two machines in two locations and one neighbourhood, two services of
    /// which the second needs the first, three processes, one balance cost.
    const MODEL: &str = "2
1 3  0 1
2
0 4   10 20  5 20   0 7
0 9   10 20  8 20   7 0
2
1 0
2 1 0
3
0   6 1  11
1   2 1  12
1   1 1  13
1
0 1 2   5
1 10 100
";

    #[test]
    fn a_model_costs_what_its_statement_says() {
        let model = model(MODEL, "0 0 1\n").unwrap();
        let first = judge(&model, &model.now());
        assert!(first.holds());
        // Load: 3 * (8 - 5); balance: 2 * 2 - 18 and 2 * 9 - 19 are below 0.
        assert_eq!(
            terms(&model, &first.terms[0]).iter().map(|(_, cost)| *cost).collect::<Vec<_>>(),
            [9, 0, 0, 0, 0]
        );
        // The first process has left: 6 + 1 of 10 at the second machine, and 6 + 2 are held at the first.
        let moved = judge(&model, &[1, 0, 1]);
        assert!(moved.holds());
        let costs: Vec<i128> = terms(&model, &moved.terms[0]).iter().map(|(_, cost)| *cost).collect();
        assert_eq!(costs, [0, 0, 11, 10, 700]);
        // The second service is in two locations no more, and both of its processes are on one machine.
        let together = judge(&model, &[0, 0, 0]);
        assert_eq!(together.rules, [0, 0, 1, 1, 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str, initial: &str| format!("{:#}", model(text, initial).unwrap_err());
        assert_eq!(
            said("2 1 x", "0"),
            "the model: number 3, the weight of a load cost: `x`: invalid digit found in string"
        );
        assert_eq!(said("2 1 3", "0"), "the model: it ends at number 4, whether a resource is transient");
        assert_eq!(said(&format!("{MODEL} 7"), "0 0 1"), "the model: there are more numbers than 49");
        assert_eq!(said(MODEL, "0 0"), "the assignment: it ends at number 3, a process's machine");
        let strange = MODEL.replace("1   1 1  13", "9   1 1  13");
        assert_eq!(said(&strange, "0 0 1"), "the model: there is no service 9");
    }
}
