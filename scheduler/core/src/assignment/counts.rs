//! How many items of a group are on each part, and which rules that breaks.

use super::model::{Level, Model, Rule, Term};
use super::problem::{Lists, place};

/// A group of up to so many items is counted by looking at each.
const FEW: usize = 8;

/// A group, seen by the parts of a level.
#[derive(Debug)]
struct Counter {
    group: usize,
    level: usize,
    /// Where its counts begin; none where the items are few.
    dense: Option<usize>,
    about: Vec<About>,
}

/// What a counter is in a rule.
#[derive(Debug, Clone, Copy)]
enum About {
    /// At most so many on a part.
    Most { rule: usize, most: u32 },
    /// At least so many parts.
    Least { rule: usize, least: u32 },
    /// One part.
    One { rule: usize },
    /// It is only where another is.
    Follows { rule: usize, counter: usize },
    /// Another is only where it is.
    Followed { rule: usize, counter: usize },
}

/// What keeping a rule is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    /// It may not become worse.
    Hard,
    /// Each breach costs so much in an objective.
    Soft { objective: usize, weight: i64 },
}

/// A rule.
#[derive(Debug, Clone, Copy)]
struct Law {
    force: Force,
    counter: usize,
    about: About,
}

/// All rules of a problem.
#[derive(Debug)]
pub(super) struct Laws {
    counters: Vec<Counter>,
    laws: Vec<Law>,
    /// For each item the counters that count it.
    of_item: Lists<u32>,
    /// The items of each group.
    pub(super) members: Lists<u32>,
    /// The groups of each item.
    pub(super) groups: Lists<u32>,
    /// For each group those that one rule has to do with both.
    related: Vec<Vec<u32>>,
    /// Groups that a rule wants on one part.
    together: Vec<bool>,
    /// Items that a rule counts on both of its sides.
    tangled: Vec<bool>,
    any_soft: bool,
    dense: usize,
}

impl Laws {
    pub(super) fn new(model: &Model, sizes: &[usize]) -> Self {
        let mut groups: Vec<Vec<u32>> = vec![Vec::new(); model.items.len()];
        for (group, it) in model.groups.iter().enumerate() {
            for item in &it.items {
                groups[*item as usize].push(group as u32);
            }
        }
        let mut laws = Self {
            counters: Vec::new(),
            laws: Vec::new(),
            of_item: Lists::new([]),
            members: Lists::new(model.groups.iter().map(|group| group.items.clone())),
            groups: Lists::new([]),
            related: vec![Vec::new(); model.groups.len()],
            together: vec![false; model.groups.len()],
            tangled: vec![false; model.items.len()],
            any_soft: false,
            dense: 0,
        };
        let mut known = std::collections::BTreeMap::new();
        let soft = model.objectives.iter().enumerate().flat_map(|(objective, it)| {
            it.terms.iter().filter_map(move |term| match term {
                Term::Breach { rule, weight } => Some((rule, Force::Soft { objective, weight: *weight })),
                _ => None,
            })
        });
        for (it, force) in model.rules.iter().map(|rule| (rule, Force::Hard)).chain(soft) {
            let size = |group: u32| model.groups[group as usize].items.len();
            let nothing = match *it {
                Rule::Conflict { group, most, .. } => size(group) <= most as usize,
                Rule::Spread { group, least, .. } => least <= 1 || size(group) == 0,
                Rule::Dependency { group, needs, .. } => group == needs || size(group) == 0,
                Rule::CoLocation { group, .. } => size(group) <= 1,
            };
            if nothing {
                continue;
            }
            let rule = laws.laws.len();
            let mut counter = |laws: &mut Self, group: u32, level: Level| {
                *known.entry((group, level)).or_insert_with(|| {
                    let (group, level) = (group as usize, place(level));
                    let few = model.groups[group].items.len() <= FEW;
                    let dense = (!few).then_some(laws.dense);
                    if !few {
                        laws.dense += sizes[level];
                    }
                    laws.counters.push(Counter { group, level, dense, about: Vec::new() });
                    laws.counters.len() - 1
                })
            };
            let (group, level) = it.about();
            let one = counter(&mut laws, group, level);
            let about = match *it {
                Rule::Conflict { most, .. } => About::Most { rule, most },
                Rule::Spread { least, .. } => About::Least { rule, least },
                Rule::CoLocation { .. } => {
                    laws.together[group as usize] = true;
                    About::One { rule }
                }
                Rule::Dependency { needs, .. } => {
                    let other = counter(&mut laws, needs, level);
                    laws.counters[other].about.push(About::Followed { rule, counter: one });
                    laws.related[group as usize].push(needs);
                    laws.related[needs as usize].push(group);
                    for item in &model.groups[group as usize].items {
                        laws.tangled[*item as usize] |= groups[*item as usize].contains(&needs);
                    }
                    About::Follows { rule, counter: other }
                }
            };
            laws.counters[one].about.push(about);
            laws.any_soft |= force != Force::Hard;
            laws.laws.push(Law { force, counter: one, about });
        }
        for related in &mut laws.related {
            related.sort_unstable();
            related.dedup();
        }
        let mut of_group: Vec<Vec<u32>> = vec![Vec::new(); model.groups.len()];
        for (number, counter) in laws.counters.iter().enumerate() {
            of_group[counter.group].push(number as u32);
        }
        laws.of_item = Lists::new(groups.iter().map(|groups| {
            groups.iter().flat_map(|group| of_group[*group as usize].iter().copied()).collect()
        }));
        laws.groups = Lists::new(groups);
        laws
    }

    /// Whether what one item does can change what a rule says of the other.
    pub(super) fn entangled(&self, one: usize, other: usize) -> bool {
        self.groups.of(one).iter().any(|mine| {
            self.groups
                .of(other)
                .iter()
                .any(|theirs| mine == theirs || self.related[*mine as usize].binary_search(theirs).is_ok())
        })
    }

    /// How many groups there are.
    pub(super) const fn groups_count(&self) -> usize {
        self.members.len()
    }

    /// The groups of an item, and those that one rule has to do with both.
    pub(super) fn related_to(&self, item: usize) -> impl Iterator<Item = u32> + '_ {
        self.groups
            .of(item)
            .iter()
            .flat_map(|group| std::iter::once(*group).chain(self.related[*group as usize].iter().copied()))
    }

    /// Whether any rule wants a group on one part.
    pub(super) fn keep_together(&self) -> bool {
        self.together.contains(&true)
    }

    /// Items that a rule ties to one: of a group on one part, or that needs it or is needed; not of large groups.
    pub(super) fn tied(&self, item: usize) -> impl Iterator<Item = u32> + '_ {
        let mine = self.groups.of(item).iter().copied();
        let together = mine.clone().filter(|group| self.together[*group as usize]);
        let related = mine.flat_map(|group| self.related[group as usize].iter().copied());
        together
            .chain(related)
            .map(|group| self.members.of(group as usize))
            .filter(|members| members.len() <= FEW)
            .flat_map(|members| members.iter().copied())
    }

    /// Whether any rule may be broken at a price.
    pub(super) const fn any_soft(&self) -> bool {
        self.any_soft
    }

    /// Whether a rule counts an item on both of its sides, so that [`Counts::change`] can't tell.
    pub(super) fn tangled(&self, item: usize) -> bool {
        self.tangled[item]
    }
}

/// Where everything is, as counting needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// The bin of each item.
    pub(super) at: &'a [u32],
    /// The part of each bin, for each level.
    pub(super) parts: &'a [Vec<u32>],
}

/// How many are where.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    dense: Vec<u32>,
    /// On how many parts each counter has any.
    distinct: Vec<u32>,
    /// Of each rule.
    breaches: Vec<i64>,
    /// Of hard rules together.
    pub(super) hard: i64,
    /// Room for changes.
    changes: Vec<(usize, i64)>,
}

impl Counts {
    pub(super) fn new(laws: &Laws, places: Places<'_>) -> Self {
        let mut counts = Self {
            dense: vec![0; laws.dense],
            distinct: vec![0; laws.counters.len()],
            breaches: vec![0; laws.laws.len()],
            hard: 0,
            changes: Vec::new(),
        };
        for (number, counter) in laws.counters.iter().enumerate() {
            let parts = places.parts_of(laws, counter);
            if let Some(start) = counter.dense {
                for part in &parts {
                    counts.dense[start + *part as usize] += 1;
                }
            }
            counts.distinct[number] = parts.chunk_by(|one, next| one == next).count() as u32;
        }
        for (rule, law) in laws.laws.iter().enumerate() {
            counts.breaches[rule] = breaches(laws, places, law);
            if law.force == Force::Hard {
                counts.hard += counts.breaches[rule];
            }
        }
        counts
    }

    /// What the breaches of soft rules cost in an objective.
    pub(super) fn soft(&self, laws: &Laws, of: usize) -> i64 {
        let cost = |(law, breaches): (&Law, &i64)| match law.force {
            Force::Soft { objective, weight } if objective == of => weight * breaches,
            _ => 0,
        };
        laws.laws.iter().zip(&self.breaches).map(cost).sum()
    }

    /// Items that a broken hard rule is about.
    pub(super) fn in_breach(&self, laws: &Laws) -> Vec<usize> {
        let broken = laws
            .laws
            .iter()
            .zip(&self.breaches)
            .filter(|(law, breaches)| law.force == Force::Hard && **breaches > 0);
        let counters = broken.flat_map(|(law, _)| match law.about {
            About::Follows { counter, .. } => [law.counter, counter],
            _ => [law.counter; 2],
        });
        let mut items: Vec<usize> = counters
            .flat_map(|counter| laws.members.of(laws.counters[counter].group))
            .map(|item| *item as usize)
            .collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    #[inline]
    fn on(&self, laws: &Laws, places: Places<'_>, counter: &Counter, part: u32) -> u32 {
        match counter.dense {
            Some(start) => self.dense[start + part as usize],
            None => {
                let members = laws.members.of(counter.group);
                members.iter().filter(|item| places.part(counter, **item) == part).count() as u32
            }
        }
    }

    /// Calls back with every rule that an item touches by going from one bin to another, and by how many breaches more.
    #[inline]
    fn each(
        &self,
        laws: &Laws,
        places: Places<'_>,
        item: usize,
        (from, to): (u32, u32),
        mut call: impl FnMut(usize, i64) -> bool,
    ) -> bool {
        for number in laws.of_item.of(item) {
            let counter = &laws.counters[*number as usize];
            let parts = &places.parts[counter.level];
            let (left, reached) = (parts[from as usize], parts[to as usize]);
            if left == reached {
                continue;
            }
            let (was_left, was_reached) =
                (self.on(laws, places, counter, left), self.on(laws, places, counter, reached));
            let (leaves, comes) = (was_left == 1, was_reached == 0);
            for about in &counter.about {
                let (rule, more) = match *about {
                    About::Most { rule, most } => {
                        (rule, i64::from(was_reached >= most) - i64::from(was_left > most))
                    }
                    About::Least { rule, least } => {
                        let distinct = self.distinct[*number as usize];
                        let after = distinct + u32::from(comes) - u32::from(leaves);
                        (
                            rule,
                            i64::from(least.saturating_sub(after))
                                - i64::from(least.saturating_sub(distinct)),
                        )
                    }
                    About::One { rule } => (rule, i64::from(comes) - i64::from(leaves)),
                    About::Follows { rule, counter: needed } => {
                        let needed = &laws.counters[needed];
                        let missing = |part| i64::from(self.on(laws, places, needed, part) == 0);
                        let more = if comes { missing(reached) } else { 0 };
                        (rule, more - if leaves { missing(left) } else { 0 })
                    }
                    About::Followed { rule, counter: follower } => {
                        let follower = &laws.counters[follower];
                        let there = |part| i64::from(self.on(laws, places, follower, part) > 0);
                        let more = if leaves { there(left) } else { 0 };
                        (rule, more - if comes { there(reached) } else { 0 })
                    }
                };
                if more != 0 && !call(rule, more) {
                    return false;
                }
            }
        }
        true
    }

    /// What it costs in an objective that an item goes; nothing if a hard rule would become worse. Not for tangled items.
    #[inline]
    pub(super) fn change(
        &self,
        laws: &Laws,
        places: Places<'_>,
        item: usize,
        way: (u32, u32),
        of: usize,
    ) -> Option<i64> {
        let mut cost = 0;
        let allowed = self.each(laws, places, item, way, |rule, more| match laws.laws[rule].force {
            Force::Hard => more < 0,
            Force::Soft { objective, weight } => {
                if objective == of {
                    cost += weight * more;
                }
                true
            }
        });
        allowed.then_some(cost)
    }

    /// Counts that an item goes, which `places` does not say yet. Adds what soft rules cost to each objective, and to the log how
    /// a hard rule was before.
    pub(super) fn go(
        &mut self,
        laws: &Laws,
        places: Places<'_>,
        item: usize,
        way: (u32, u32),
        values: &mut [i64],
        log: &mut Vec<(usize, i64)>,
    ) {
        if !laws.tangled(item) {
            let mut changes = std::mem::take(&mut self.changes);
            changes.clear();
            self.each(laws, places, item, way, |rule, more| {
                changes.push((rule, more));
                true
            });
            for (rule, more) in &changes {
                self.breach(laws, *rule, *more, values, log);
            }
            self.changes = changes;
        }
        for number in laws.of_item.of(item) {
            let counter = &laws.counters[*number as usize];
            let parts = &places.parts[counter.level];
            let (left, reached) = (parts[way.0 as usize], parts[way.1 as usize]);
            if left == reached {
                continue;
            }
            let distinct = &self.distinct[*number as usize];
            let comes = u32::from(self.on(laws, places, counter, reached) == 0);
            let leaves = u32::from(self.on(laws, places, counter, left) == 1);
            self.distinct[*number as usize] = distinct + comes - leaves;
            if let Some(start) = counter.dense {
                self.dense[start + left as usize] -= 1;
                self.dense[start + reached as usize] += 1;
            }
        }
    }

    /// Counts the rules of a tangled item anew, now that `places` says where it is.
    pub(super) fn untangle(
        &mut self,
        laws: &Laws,
        places: Places<'_>,
        item: usize,
        values: &mut [i64],
        log: &mut Vec<(usize, i64)>,
    ) {
        for number in laws.of_item.of(item) {
            for about in &laws.counters[*number as usize].about {
                let rule = about.rule();
                let more = breaches(laws, places, &laws.laws[rule]) - self.breaches[rule];
                self.breach(laws, rule, more, values, log);
            }
        }
    }

    fn breach(
        &mut self,
        laws: &Laws,
        rule: usize,
        more: i64,
        values: &mut [i64],
        log: &mut Vec<(usize, i64)>,
    ) {
        match laws.laws[rule].force {
            Force::Hard => {
                log.push((rule, self.breaches[rule]));
                self.hard += more;
            }
            Force::Soft { objective, weight } => {
                if let Some(value) = values.get_mut(objective) {
                    *value += weight * more;
                }
            }
        }
        self.breaches[rule] += more;
    }

    /// Whether no rule is worse than the log says that it was first.
    pub(super) fn none_worse(&self, log: &[(usize, i64)]) -> bool {
        let first = |at: usize, rule: usize| !log[..at].iter().any(|(earlier, _)| *earlier == rule);
        log.iter().enumerate().all(|(at, (rule, was))| self.breaches[*rule] <= *was || !first(at, *rule))
    }
}

impl About {
    const fn rule(self) -> usize {
        match self {
            Self::Most { rule, .. }
            | Self::Least { rule, .. }
            | Self::One { rule }
            | Self::Follows { rule, .. }
            | Self::Followed { rule, .. } => rule,
        }
    }
}

/// How often a rule is broken, counted from the start.
fn breaches(laws: &Laws, places: Places<'_>, law: &Law) -> i64 {
    let mut parts = places.parts_of(laws, &laws.counters[law.counter]);
    if let About::Most { most, .. } = law.about {
        let too_many = |same: &[u32]| (same.len() as i64 - i64::from(most)).max(0);
        return parts.chunk_by(|one, next| one == next).map(too_many).sum();
    }
    parts.dedup();
    match law.about {
        About::Least { least, .. } => (i64::from(least) - parts.len() as i64).max(0),
        About::One { .. } => (parts.len() as i64 - 1).max(0),
        About::Follows { counter, .. } => {
            let there = places.parts_of(laws, &laws.counters[counter]);
            parts.iter().filter(|part| there.binary_search(part).is_err()).count() as i64
        }
        About::Most { .. } | About::Followed { .. } => 0,
    }
}

impl Places<'_> {
    #[inline]
    fn part(self, counter: &Counter, item: u32) -> u32 {
        self.parts[counter.level][self.at[item as usize] as usize]
    }

    /// The part of each item of a counter, in order.
    fn parts_of(self, laws: &Laws, counter: &Counter) -> Vec<u32> {
        let members = laws.members.of(counter.group);
        let mut parts: Vec<u32> = members.iter().map(|item| self.part(counter, *item)).collect();
        parts.sort_unstable();
        parts
    }
}
