//! Reads a scenario and its inventory, and refuses what can't be run or would have no effect.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use jiff::Timestamp;
use sterna_core::continuum::{Continuum, NodeName, Placement, ServiceName, SiteName, UsersName, inventory};
use sterna_core::cost::calibration;
use sterna_policies::load::{At, Findings, Invalid, Loaded, Written, name, schema_version, toml_document};
use sterna_policies::quantity::{Bytes, Cores, Millis, Percent, Quantity};

use super::file::{NoiseFile, Point, RateTrack, ScenarioFile};
use super::series::From;
use super::{Bursts, Chance, Drawn, Noise, Scenario, Shape, Track, Tracks};
use crate::clock::SimTime;

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;
/// Nanoseconds in a second: the shortest step.
const SECOND: u64 = 1_000_000_000;
/// The most steps.
const MOST_STEPS: u64 = 1_000_000;
/// The longest scenario, in days.
const LONGEST_DAYS: u64 = 366;

/// A scenario that was read, with the warnings about its two files.
#[derive(Debug)]
pub struct Read {
    /// The scenario.
    pub scenario: Scenario,
    /// Warnings about the inventory and the scenario, in this order; each most often empty.
    pub warnings: [sterna_policies::diagnose::Report; 2],
}

/// Reads a scenario from its text. `file` is its path, as it is shown and as the paths of inventory and calibration are resolved
/// against; `read` reads these two.
///
/// # Errors
/// All that is wrong with the scenario; or with its inventory or calibration, where the scenario itself is in order so far as can be
/// told.
pub fn load(file: &str, text: &str, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Read, Invalid> {
    load_allowing(file, text, read, false)
}

/// As [`load`], and lets inputs through that can have no effect, as if the scenario said `allow_unused`, where that is wanted.
///
/// # Errors
/// As [`load`].
pub fn load_allowing(
    file: &str,
    text: &str,
    read: &dyn Fn(&Path) -> io::Result<String>,
    allow_unused: bool,
) -> Result<Read, Invalid> {
    let mut written: ScenarioFile = toml_document(file, text)?;
    written.allow_unused |= allow_unused;
    let mut findings = Findings::new(file, text);
    schema_version(&written.schema_version, SCHEMA_VERSION, &mut findings);
    name(&written.name, "scenario", &mut findings);
    let frame = Frame::of(&written, &mut findings);

    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut beside = |named: &At<String>| {
        let path = folder.join(named.as_str());
        let text = read(&path);
        if let Err(error) = &text {
            findings
                .error("S0001", named.span(), format!("can't read {}: {error}", path.display()))
                .label("relative to the scenario file");
        }
        (path.display().to_string(), text.unwrap_or_default())
    };
    let (inventory_file, inventory_text) = beside(&written.inventory);
    let calibration = written.calibration.as_ref().map(&mut beside);
    if inventory_text.is_empty() || calibration.as_ref().is_some_and(|(_, text)| text.is_empty()) {
        // Without them there is nothing to compare with.
        findings = findings.refuse_errors()?;
    }
    let costs = calibration.map(|(file, text)| calibration::load(&file, &text)).transpose();
    let (inventory, costs) = match (inventory::load(&inventory_file, &inventory_text), costs) {
        (Ok(inventory), Ok(costs)) => (inventory, costs.map(|costs| costs.value).unwrap_or_default()),
        (Err(invalid), _) | (_, Err(invalid)) => {
            findings.refuse_errors()?;
            return Err(invalid);
        }
    };
    let mut reader = Reader { frame, continuum: &inventory.value, findings, folder, read, refused: None };
    let tracks = reader.tracks(&written);
    let chance = Chance {
        people: reader.people(&written),
        bursts: reader.all_bursts(&written),
        faults: reader.faults(&written),
    };
    let fits = reader.fits(&written);
    let writes = reader.writes(&written);
    let ways = reader.ways(&written, &writes, &costs);
    let noise = reader.noise(&written);
    let placement = reader.placement(&written);
    reader.check_use(&written, &tracks, &chance);
    let Reader { frame, findings, refused, .. } = reader;
    let findings = match refused {
        Some(invalid) => {
            findings.refuse_errors()?;
            return Err(invalid);
        }
        None => findings,
    };
    let mut scenario = Scenario {
        name: written.name.value,
        start: frame.start,
        duration: frame.duration,
        step: frame.step,
        continuum: inventory.value,
        placement,
        tracks,
        costs,
        writes,
        ways,
        fits,
        chance,
        drawn: Drawn::default(),
        injected: Vec::new(),
        allow_unused: written.allow_unused,
        noise,
    };
    // Nothing is drawn of what is refused: there may be too much of it.
    let findings = findings.refuse_errors()?;
    scenario.drawn = scenario.chance.draw(&scenario, 0);
    let Loaded { value: scenario, warnings } = findings.finish(scenario)?;
    Ok(Read { scenario, warnings: [inventory.warnings, warnings] })
}

/// The span of time that a scenario covers. Holds stand-ins where the file is wrong, so that the rest can be looked at too.
pub(super) struct Frame {
    pub(super) start: Timestamp,
    pub(super) duration: SimTime,
    step: u64,
}

impl Frame {
    fn of(written: &ScenarioFile, findings: &mut Findings) -> Self {
        let start = written.start.parse::<Timestamp>();
        if let Err(error) = &start {
            findings
                .error(
                    "S0002",
                    written.start.span(),
                    format!("`{}` is not a point in time", written.start.value),
                )
                .label(error.to_string())
                .help("write it as \"2026-03-02T00:00:00Z\"");
        }
        let longest = SimTime::from_nanos(LONGEST_DAYS * 86_400 * SECOND);
        let duration = written.duration.read_positive(findings).map(SimTime::from_millis);
        if let Some(duration) = duration.filter(|duration| *duration > longest) {
            findings
                .error("S0003", written.duration.span(), format!("the scenario lasts {duration}"))
                .label(format!("must be at most {LONGEST_DAYS}d"));
        }
        let duration = duration.unwrap_or(longest).min(longest);
        let mut step = 60 * SECOND;
        if let Some(written_step) = &written.step
            && let Some(value) = written_step.read_positive(findings)
        {
            step = SimTime::from_millis(value).as_nanos();
            if step < SECOND || step > duration.as_nanos() {
                findings
                    .error("S0003", written_step.span(), format!("a step of {value} can't be used"))
                    .label("must be between 1s and the duration");
                step = step.max(SECOND);
            } else if duration.as_nanos() / step > MOST_STEPS {
                findings
                    .error("S0003", written_step.span(), format!("a step of {value} can't be used"))
                    .label(format!("the scenario would have more than {MOST_STEPS} steps"));
            }
        }
        Self { start: start.unwrap_or(Timestamp::UNIX_EPOCH), duration, step }
    }
}

pub(super) struct Reader<'a> {
    pub(super) frame: Frame,
    pub(super) continuum: &'a Continuum,
    pub(super) findings: Findings,
    folder: &'a Path,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The first file beside the scenario that is wrong in itself.
    pub(super) refused: Option<Invalid>,
}

impl Reader<'_> {
    fn tracks(&mut self, written: &ScenarioFile) -> Tracks {
        let mut tracks = Tracks::default();
        let mut seen = BTreeMap::new();
        for one in &written.latency {
            let key = self.users(&one.users).zip(self.site(&one.site));
            let track = self.series(
                one.shape,
                &from(&one.points, &one.file, &one.unit, &one.users),
                Millis::as_micros,
            );
            self.put(&mut tracks.latency, &mut seen, key, track, one.users.span());
        }
        let mut seen = BTreeMap::new();
        for one in &written.rate {
            let key = self.users(&one.users).zip(self.service(&one.service));
            let track = self.rate(one);
            self.put(&mut tracks.rate, &mut seen, key, track, one.users.span());
        }
        let mut seen = BTreeMap::new();
        for one in &written.price {
            let key = self.site(&one.site);
            let track =
                self.series(one.shape, &from(&one.points, &one.file, &one.unit, &one.site), |price| {
                    price.as_micros()
                });
            self.put(&mut tracks.price, &mut seen, key, track, one.site.span());
        }
        let mut seen = BTreeMap::new();
        for one in &written.carbon {
            let key = self.site(&one.site);
            let track =
                self.series(one.shape, &from(&one.points, &one.file, &one.unit, &one.site), |value| {
                    value.as_micros()
                });
            self.put(&mut tracks.carbon, &mut seen, key, track, one.site.span());
        }
        let mut seen = BTreeMap::new();
        for one in &written.memory {
            let key = self.service(&one.service);
            let bytes = |Bytes(bytes)| i64::try_from(bytes).unwrap_or(i64::MAX);
            let track = self.series(one.shape, &from(&one.points, &one.file, &one.unit, &one.service), bytes);
            self.put(&mut tracks.memory, &mut seen, key, track, one.service.span());
        }
        tracks
    }

    /// A rate from points, from a file, or once up and down a day; bursts are read apart.
    fn rate(&mut self, one: &RateTrack) -> Option<Track> {
        let listed = one.points.is_some() || one.file.is_some();
        match (&one.daily, &one.bursts) {
            (None, None) => {
                self.series(one.shape, &from(&one.points, &one.file, &one.unit, &one.users), |rate| {
                    rate.as_micros()
                })
            }
            (Some(daily), None) if !listed => self.daily(daily),
            (None, Some(_)) if !listed => None,
            _ => {
                self.findings
                    .error("S0013", one.users.span(), "the rate comes from more than one place")
                    .label("expected exactly one of points, file, daily and bursts");
                None
            }
        }
    }

    fn all_bursts(&mut self, written: &ScenarioFile) -> BTreeMap<(UsersName, ServiceName), Bursts> {
        let mut all = BTreeMap::new();
        for one in &written.rate {
            let Some(bursts) = one.bursts.as_ref().and_then(|bursts| self.bursts(bursts)) else { continue };
            // Names that are not known were reported with the track.
            let key =
                (UsersName::from(one.users.value.clone()), ServiceName::from(one.service.value.clone()));
            all.insert(key, bursts);
        }
        all
    }

    /// The text of a file beside the scenario, with its path; reports one that can't be read.
    pub(super) fn beside(&mut self, named: &At<String>) -> Option<(String, String)> {
        let path = self.folder.join(named.as_str());
        match (self.read)(&path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) => {
                self.findings
                    .error("S0001", named.span(), format!("can't read {}: {error}", path.display()))
                    .label("relative to the scenario file");
                None
            }
        }
    }

    fn noise(&mut self, written: &ScenarioFile) -> Option<Noise> {
        let NoiseFile { rate, every } = &written.noise.as_ref()?.value;
        let (share, whole) = (rate.read_positive(&mut self.findings)?, Percent::from_micros(100_000_000));
        if share > whole {
            self.findings
                .error("S0030", rate.span(), format!("rates can't stray by {share}"))
                .label("must be at most 100%: nobody asks for less than nothing");
        }
        let turn = SimTime::from_millis(every.read_positive(&mut self.findings)?);
        if self.frame.duration.as_nanos() / turn.as_nanos().max(1) > MOST_STEPS {
            self.findings
                .error(
                    "S0030",
                    every.span(),
                    format!("rates that stray anew every {turn} can't be simulated"),
                )
                .label(format!("there would be more than {MOST_STEPS} changes"));
            return None;
        }
        if turn.as_nanos() < SECOND || turn > self.frame.duration {
            self.findings
                .error("S0030", every.span(), format!("rates can't stray anew every {turn}"))
                .label("must be between 1s and the duration");
            return None;
        }
        Some(Noise { rate: share, every: turn.as_nanos() })
    }

    fn put<K: Ord + Clone>(
        &mut self,
        tracks: &mut BTreeMap<K, Track>,
        seen: &mut BTreeMap<K, Range<usize>>,
        key: Option<K>,
        track: Option<Track>,
        span: Range<usize>,
    ) {
        let Some(key) = key else { return };
        if let Some(first) = seen.get(&key) {
            self.findings
                .error("S0006", span, "there are two tracks for the same value")
                .label("the second")
                .also(first.clone(), "the first");
            return;
        }
        seen.insert(key.clone(), span);
        if let Some(track) = track {
            tracks.insert(key, track);
        }
    }

    /// One track's points, read and checked against the scenario's span.
    pub(super) fn track<Q: Quantity>(
        &mut self,
        shape: Shape,
        written: &At<Vec<Point<Q>>>,
        whole: impl Fn(Q) -> i64,
    ) -> Option<Track> {
        points(&mut self.findings, self.frame.duration, shape, written, whole)
    }

    fn placement(&mut self, written: &ScenarioFile) -> Placement {
        let mut placement = Placement::new();
        for (service, node) in &written.placement {
            let service = self.service(service);
            let node = self.node(node);
            if let Some((service, node)) = service.zip(node) {
                placement.insert(service, node);
            }
        }
        for (name, service) in &self.continuum.services {
            if written.placement.keys().any(|written| written.value == name.as_str()) {
                continue;
            }
            if let Some(run) = &service.run {
                placement.insert(name.clone(), run.on.clone());
            } else {
                self.findings
                    .error("S0008", written.inventory.span(), format!("`{name}` has no node at the start"))
                    .label("its inventory does not say where it is started")
                    .help(format!("add `{name} = \"<node>\"` to [placement]"));
            }
        }
        self.check_room(written, &placement);
        placement
    }

    /// Every node must have room for what starts on it.
    fn check_room(&mut self, written: &ScenarioFile, placement: &Placement) {
        for (name, node) in &self.continuum.nodes {
            let there = placement.iter().filter(|(_, on)| *on == name).map(|(service, _)| service);
            let services = there.filter_map(|service| self.continuum.services.get(service));
            let (cpu, memory) = services.fold((Cores::ZERO, 0u64), |(cpu, memory), service| {
                (cpu.saturating_add(service.cpu), memory.saturating_add(service.memory.0))
            });
            if cpu > node.cpu || memory > node.memory.0 {
                let span = written.placement.values().find(|on| on.value == name.as_str()).map(At::span);
                self.findings
                    .error(
                        "S0009",
                        span.unwrap_or_else(|| written.inventory.span()),
                        format!("`{name}` has no room for what starts on it"),
                    )
                    .label(format!(
                        "{cpu} of {} and {} of {} are asked for",
                        node.cpu,
                        Bytes(memory),
                        node.memory
                    ));
            }
        }
    }

    pub(super) fn users(&mut self, name: &At<String>) -> Option<UsersName> {
        let known = self.continuum.users.keys().map(UsersName::as_str);
        known_name(&mut self.findings, name, "user group", known).map(UsersName::from)
    }

    pub(super) fn site(&mut self, name: &At<String>) -> Option<SiteName> {
        let known = self.continuum.sites.keys().map(SiteName::as_str);
        known_name(&mut self.findings, name, "site", known).map(SiteName::from)
    }

    pub(super) fn service(&mut self, name: &At<String>) -> Option<ServiceName> {
        let known = self.continuum.services.keys().map(ServiceName::as_str);
        known_name(&mut self.findings, name, "service", known).map(ServiceName::from)
    }

    pub(super) fn node(&mut self, name: &At<String>) -> Option<NodeName> {
        let known = self.continuum.nodes.keys().map(NodeName::as_str);
        known_name(&mut self.findings, name, "node", known).map(NodeName::from)
    }
}

/// A track through points, read and checked against the time that there is.
pub(crate) fn points<Q: Quantity>(
    findings: &mut Findings,
    duration: SimTime,
    shape: Shape,
    points: &At<Vec<Point<Q>>>,
    whole: impl Fn(Q) -> i64,
) -> Option<Track> {
    let mut read: Vec<(SimTime, i64)> = Vec::new();
    let mut sound = true;
    let mut last = None;
    for (at, value) in &points.value {
        let time = time(findings, duration, at, &mut last);
        let value = value.read_unsigned(findings);
        match time.zip(value) {
            Some((time, value)) => read.push((time, whole(value))),
            None => sound = false,
        }
    }
    if points.value.is_empty() {
        findings
            .error("S0004", points.span(), "the track has no point")
            .help("give it at least one, such as [\"0h\", …]");
        return None;
    }
    if shape == Shape::Linear && points.value.len() == 1 {
        findings
            .error("S0007", points.span(), "a line needs two points")
            .help("add a point, or leave out `shape`");
        return None;
    }
    sound.then(|| Track::new(shape, read)).flatten()
}

/// When a point is; reports one that is out of order or beyond the scenario. `last` is the time of the point before.
fn time(
    findings: &mut Findings,
    duration: SimTime,
    at: &Written<Millis>,
    last: &mut Option<SimTime>,
) -> Option<SimTime> {
    let time = SimTime::from_millis(at.read_unsigned(findings)?);
    let (message, label) = match last.replace(time) {
        None if time > SimTime::START => {
            ("the track does not begin at the start".to_owned(), "the first point must be at \"0h\"")
        }
        Some(last) if time <= last => {
            (format!("{time} is not after {last}"), "points must be in order, each time once")
        }
        _ if time >= duration => {
            (format!("{time} is not within the scenario, which lasts {duration}"), "has no effect")
        }
        _ => return Some(time),
    };
    findings.error("S0004", at.span(), message).label(label);
    None
}

fn from<'f, Q>(
    points: &'f Option<At<Vec<Point<Q>>>>,
    file: &'f Option<At<String>>,
    unit: &'f Option<At<String>>,
    subject: &'f At<String>,
) -> From<'f, Q> {
    From { points: points.as_ref(), file: file.as_ref(), unit: unit.as_ref(), subject }
}

/// The name, where the inventory has it; else reports it with a suggestion.
pub(crate) fn known_name<'a>(
    findings: &mut Findings,
    name: &At<String>,
    what: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let known: Vec<&str> = known.collect();
    if known.contains(&name.as_str()) {
        return Some(name.value.clone());
    }
    findings
        .error("S0005", name.span(), format!("there is no {what} `{}`", name.value))
        .label("not in the inventory")
        .suggest(name, &format!("{what}s"), known);
    None
}
