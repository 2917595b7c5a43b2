//! How moves of services go: which model they follow, and how services write their memory meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;
use sterna_core::continuum::ServiceName;
use sterna_core::cost::{Costs, Line};
use sterna_policies::load::{At, Written};
use sterna_policies::quantity::{Bytes, MibPerSecond, Millis, Percent};

use super::Writes;
use super::file::ScenarioFile;
use super::load::Reader;
use crate::models::migration::Way;
use crate::models::migration::rounds::Until;

/// What is left may take so long where nothing else is said: the downtime limit that QEMU and cloud-hypervisor start with.
const DOWNTIME_LIMIT: Millis = Millis::from_micros(300_000_000);
/// Rounds that leave as much as the one before end it where nothing else is said: no later one could leave less.
const STALL: u32 = 100;

/// How a service writes its memory: what has changed when most of it was sent ahead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Writes")]
pub struct WritesFile {
    /// The service. Left out: all that have no table of their own.
    pub service: Option<At<String>>,
    /// How fast, such as "20MiB/s".
    pub rate: Written<MibPerSecond>,
    /// The part of its memory that it writes again and again; all of it where it is left out.
    pub working_set: Option<Written<Bytes>>,
}

/// How moves of a service go, whatever the scheduler predicts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MigrationModel")]
pub struct MigrationFile {
    /// The service. Left out: all that have no table of their own.
    pub service: Option<At<String>>,
    /// The model.
    pub model: At<Model>,
    /// Making both ends ready. Left out: what the calibration, or else Sterna's own measurement, says of what a migration takes
    /// beside the standstill.
    pub prepare: Option<Written<Millis>>,
    /// Of cold moves: stopping the service.
    pub stop: Option<Written<Millis>>,
    /// Of cold moves: starting it until it serves.
    pub start: Option<Written<Millis>>,
    /// Of pre-copy: rounds end when what is left crosses in this time; 300ms where it is left out.
    pub downtime_limit: Option<Written<Millis>>,
    /// Of pre-copy: the most rounds. Left out: as many as leave less and less.
    pub rounds: Option<At<u32>>,
    /// Of pre-copy: the most that is sent, as a share of the memory, such as "300%". Left out: no limit.
    pub sent: Option<Written<Percent>>,
    /// Of pre-copy: a round that leaves this share of what the one before left is the last; 100% where it is left out.
    pub stall: Option<Written<Percent>>,
    /// Of post-copy: what the service can't run without. Left out: what of a memory that was sent ahead crosses last, without the
    /// share that was written again.
    pub state: Option<Written<Bytes>>,
    /// Of post-copy: freezing and writing down the state. Left out: a dump of no memory, and what else a service stands still for.
    pub freeze: Option<Written<Millis>>,
    /// Of pre-copy and post-copy: going on at the destination. Left out: of pre-copy what a service stands still for beside dump,
    /// transfer and restore; of post-copy a restore of no memory.
    pub resume: Option<Written<Millis>>,
}

/// The models of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Sterna's own: dumped, sent, restored, its memory sent ahead where the policy has it so.
    Checkpoint,
    /// Stopped and started anew.
    Cold,
    /// Memory in rounds while it runs, the rest while it stands still.
    PreCopy,
    /// It goes on at the destination first, and its memory is fetched afterwards.
    PostCopy,
}

impl Model {
    const fn words(self) -> &'static str {
        match self {
            Self::Checkpoint => "a checkpoint",
            Self::Cold => "a cold move",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
        }
    }
}

impl MigrationFile {
    /// Where it speaks of its service, or else of its model.
    fn span(&self) -> Range<usize> {
        self.service.as_ref().map_or_else(|| self.model.span(), At::span)
    }

    /// What is said that only some models have: its name, its place, and the models.
    fn said(&self) -> Vec<(&'static str, Range<usize>, &'static [Model])> {
        use Model::{Cold, PostCopy, PreCopy};
        let time = |written: &Option<Written<Millis>>| written.as_ref().map(Written::span);
        let share = |written: &Option<Written<Percent>>| written.as_ref().map(Written::span);
        let all: [(_, _, &'static [Model]); 10] = [
            ("prepare", time(&self.prepare), &[Cold, PreCopy, PostCopy]),
            ("stop", time(&self.stop), &[Cold]),
            ("start", time(&self.start), &[Cold]),
            ("downtime_limit", time(&self.downtime_limit), &[PreCopy]),
            ("rounds", self.rounds.as_ref().map(At::span), &[PreCopy]),
            ("sent", share(&self.sent), &[PreCopy]),
            ("stall", share(&self.stall), &[PreCopy]),
            ("state", self.state.as_ref().map(Written::span), &[PostCopy]),
            ("freeze", time(&self.freeze), &[PostCopy]),
            ("resume", time(&self.resume), &[PreCopy, PostCopy]),
        ];
        all.into_iter().filter_map(|(name, span, models)| Some((name, span?, models))).collect()
    }
}

impl Reader<'_> {
    /// How services write their memory. What is said of no service holds of all others that may move.
    pub(super) fn writes(&mut self, written: &ScenarioFile) -> BTreeMap<ServiceName, Writes> {
        let (mut writes, mut seen) = (BTreeMap::new(), BTreeMap::new());
        let mut rest = None;
        for one in &written.writes {
            let rate = one.rate.read_unsigned(&mut self.findings).unwrap_or_default();
            let working_set =
                one.working_set.as_ref().and_then(|size| size.read_positive(&mut self.findings));
            let span = one.service.as_ref().map_or_else(|| one.rate.span(), At::span);
            let Some(service) = self.of_one(one.service.as_ref()) else { continue };
            if let Some(first) = seen.insert(service.clone(), span.clone()) {
                let who = service.as_ref().map_or("all others", ServiceName::as_str);
                self.findings
                    .error("S0006", span, format!("it is said twice how `{who}` writes"))
                    .label("the second")
                    .also(first, "the first");
            }
            match service {
                Some(service) => drop(writes.insert(service, Writes { rate, working_set })),
                None => rest = Some(Writes { rate, working_set }),
            }
        }
        if let Some(rest) = rest {
            for (service, about) in &self.continuum.services {
                if !about.pinned {
                    writes.entry(service.clone()).or_insert(rest);
                }
            }
        }
        writes
    }

    /// The service that a table is about: the inner `None` for all others; `None` for a name that is not known.
    fn of_one(&mut self, service: Option<&At<String>>) -> Option<Option<ServiceName>> {
        match service {
            Some(service) => self.service(service).map(Some),
            None => Some(None),
        }
    }

    /// The models of services' moves, but for those that go by checkpoints.
    pub(super) fn ways(
        &mut self,
        written: &ScenarioFile,
        writes: &BTreeMap<ServiceName, Writes>,
        costs: &Costs,
    ) -> BTreeMap<ServiceName, Way> {
        let mut tables: BTreeMap<Option<ServiceName>, &MigrationFile> = BTreeMap::new();
        for one in &written.migration {
            self.check_fits(one);
            let Some(service) = self.of_one(one.service.as_ref()) else { continue };
            if let Some(first) = tables.get(&service).map(|first| first.span()) {
                let who = service.as_ref().map_or("all others", ServiceName::as_str);
                self.findings
                    .error("S0006", one.span(), format!("it is said twice how moves of `{who}` go"))
                    .label("the second")
                    .also(first, "the first");
                continue;
            }
            tables.insert(service, one);
        }
        let mut ways = BTreeMap::new();
        for (named, one) in &tables {
            let free = |(name, about): &(&ServiceName, &sterna_core::continuum::Service)| {
                !about.pinned && !tables.contains_key(&Some((*name).clone()))
            };
            let services: Vec<ServiceName> = match named {
                Some(service) => vec![service.clone()],
                None => self.continuum.services.iter().filter(free).map(|(name, _)| name.clone()).collect(),
            };
            if services.is_empty() {
                let message = "no service is left whose moves could go so".to_owned();
                self.unused(written.allow_unused, "S0015", one.span(), message)
                    .label("all are pinned, or have a table of their own");
            }
            let way = self.way(one, costs);
            for service in services {
                let own = writes.get(&service).copied();
                if one.model.value == Model::PreCopy && own.is_none() {
                    self.findings
                        .error(
                            "S0017",
                            one.span(),
                            format!("it is not said how fast `{service}` writes its memory"),
                        )
                        .label("pre-copy sends again what was written meanwhile")
                        .help(format!("add [[writes]] with service = \"{service}\" and a rate"));
                }
                ways.extend(way.map(|way| (service, of_service(way, own))));
            }
        }
        self.check_writes(written, &ways);
        ways
    }

    /// Reports what a model has no use for.
    fn check_fits(&mut self, one: &MigrationFile) {
        let model = one.model.value;
        for (name, span, models) in one.said() {
            if models.contains(&model) {
                continue;
            }
            let of: Vec<&str> = models.iter().map(|model| model.words()).collect();
            self.findings
                .error("S0017", span, format!("{} has no `{name}`", model.words()))
                .label(format!("only {} has it", of.join(" or ")));
        }
    }

    /// What a service writes matters to checkpoints and to pre-copy.
    fn check_writes(&mut self, written: &ScenarioFile, ways: &BTreeMap<ServiceName, Way>) {
        let minds = |service: &ServiceName| ways.get(service).is_none_or(Way::minds_writes);
        for one in &written.writes {
            let is_own = |name: &&ServiceName| {
                written
                    .writes
                    .iter()
                    .any(|one| one.service.as_ref().is_some_and(|own| own.value == name.as_str()))
            };
            let known = self.continuum.services.keys();
            let used = match &one.service {
                Some(service) => minds(&ServiceName::from(service.value.clone())),
                None => known.filter(|name| !is_own(name)).any(minds),
            };
            if !used {
                let message = "what is written has no effect".to_owned();
                self.unused(written.allow_unused, "S0015", one.rate.span(), message)
                    .label("neither a cold move nor post-copy sends anything twice");
            }
        }
    }

    /// A model with its numbers; `None` for a checkpoint, or where something is missing, which is reported.
    fn way(&mut self, one: &MigrationFile, costs: &Costs) -> Option<Way> {
        let findings = &mut self.findings;
        let mut time = |written: &Option<Written<Millis>>| {
            written.as_ref().map(|written| written.read_unsigned(findings).unwrap_or_default())
        };
        let prepare = time(&one.prepare).map_or(costs.beside, Line::flat);
        match one.model.value {
            Model::Checkpoint => None,
            Model::Cold => {
                let (stop, start) = (time(&one.stop), time(&one.start));
                for (name, value) in [("stop", stop), ("start", start)] {
                    if value.is_none() {
                        self.findings
                            .error("S0017", one.model.span(), format!("a cold move needs `{name}`"))
                            .label("how long that takes hangs on the service alone")
                            .help(format!("add {name} = \"…s\", as it was measured"));
                    }
                }
                Some(Way::Cold { prepare, stop: stop?, start: start? })
            }
            Model::PreCopy => {
                let limit = time(&one.downtime_limit).unwrap_or(DOWNTIME_LIMIT);
                let resume = time(&one.resume).map_or(costs.around, Line::flat);
                let mut until = Until::left_takes(limit);
                until.stall_percent = self.percent(&one.stall).unwrap_or(STALL);
                until.sent_percent = self.percent(&one.sent).unwrap_or(until.sent_percent);
                if let Some(rounds) = &one.rounds {
                    if rounds.value == 0 {
                        self.findings
                            .error("S0017", rounds.span(), "pre-copy without a round is none")
                            .label("must be at least 1");
                    }
                    until.rounds = rounds.value;
                }
                // What it writes is said elsewhere.
                Some(Way::PreCopy { rate: MibPerSecond::ZERO, working_set: None, until, prepare, resume })
            }
            Model::PostCopy => {
                let freeze = time(&one.freeze).unwrap_or_else(|| {
                    costs.dump.at(Bytes::ZERO).saturating_add(costs.around.at(Bytes::ZERO))
                });
                let resume = time(&one.resume).unwrap_or_else(|| costs.restore.at(Bytes::ZERO));
                let state = match &one.state {
                    Some(state) => state.read_positive(&mut self.findings).unwrap_or_default(),
                    None => costs.left.constant,
                };
                Some(Way::PostCopy { state, prepare, freeze, resume })
            }
        }
    }

    /// Whole percents, one at least.
    fn percent(&mut self, written: &Option<Written<Percent>>) -> Option<u32> {
        let value = written.as_ref()?.read_positive(&mut self.findings)?;
        u32::try_from(value.as_micros() / 1_000_000).ok().map(|whole| whole.max(1))
    }
}

/// The same model with what one service writes.
fn of_service(way: Way, writes: Option<Writes>) -> Way {
    match (way, writes) {
        (Way::PreCopy { until, prepare, resume, .. }, Some(Writes { rate, working_set })) => {
            Way::PreCopy { rate, working_set, until, prepare, resume }
        }
        (way, _) => way,
    }
}
