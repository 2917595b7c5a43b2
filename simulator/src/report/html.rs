//! A simulation's report as one page that needs nothing else: no network, no script.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use sterna_core::continuum::SiteName;
use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::plan::Effect;
use sterna_policies::quantity::{GramsPerHour, Millis};
use thiserror::Error;

use super::answer::{self, Best};
use super::chart::{self, Colour, GREY, Line, NotDrawn};
use super::comparison::{self, Difference, UNMOVED};
use super::map::{self, Map, Place, Trips};
use super::placements::{Stay, stays};
use super::timeline::{Timeline, timeline};
use super::words::{held, mode, outcome_word, span, why};
use super::{MoveRecord, Outcome, Point, Report, Violation};
use crate::clock::SimTime;
use crate::scenario::Scenario;

/// A page that could not be made: a bug to be reported.
#[derive(Debug, Error)]
pub enum NoPage {
    /// A picture.
    #[error(transparent)]
    Picture(#[from] NotDrawn),
    /// The text.
    #[error("the page of the report can't be written: {0}")]
    Text(#[from] askama::Error),
}

/// So many moves and rules of a policy are told one by one.
const LISTED: usize = 150;
/// So many colours sites have; they begin anew after the last.
const TONES: usize = 10;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    hash: &'a str,
    duration: String,
    best: Vec<Best>,
    sentences: Vec<(&'a str, String)>,
    policies: Vec<Legend>,
    rows: Vec<comparison::Row>,
    has_rules: bool,
    unknown_carbon: Vec<String>,
    charts: Vec<Chart>,
    sections: Vec<Section<'a>>,
}

/// A policy's name and its colour.
struct Legend {
    name: String,
    colour: String,
}

struct Chart {
    title: &'static str,
    unit: &'static str,
    picture: String,
}

/// What a policy did.
struct Section<'a> {
    outcome: &'a Outcome,
    mode: &'static str,
    /// The sites that its services ran at, each with its colour.
    sites: Vec<(&'a SiteName, usize)>,
    timeline: Timeline,
    map: Option<Map>,
    moves: Vec<Listed<'a>>,
    unlisted: usize,
    holds: Vec<String>,
    unheld: usize,
    downtimes: Vec<(String, String, u64)>,
    /// Service, rule, for how long, for how long if nothing moved; `None` where the policy has no such rules.
    violations: Option<Vec<[String; 4]>>,
}

/// A move.
struct Listed<'a> {
    record: &'a MoveRecord,
    why: String,
    took: String,
    downtime: String,
    sent: String,
    ended: &'static str,
    went_well: bool,
    /// The place that was taken, then the others.
    places: Vec<Told>,
}

/// A place that a move went to, or could have.
struct Told {
    node: String,
    numbers: [String; 4],
    /// What spoke against it; empty for the one that was taken.
    against: String,
}

/// The page of a report on a scenario.
///
/// # Errors
/// When it can't be made.
pub fn page(report: &Report, scenario: &Scenario, hash: &str) -> Result<String, NoPage> {
    let legend = |name: &str, colour: Colour| Legend { name: name.to_owned(), colour: css(colour) };
    let mut policies = vec![legend(UNMOVED, GREY)];
    policies
        .extend(report.outcomes.iter().enumerate().map(|(at, one)| legend(&one.policy, chart::colour(at))));
    let mut unknown: BTreeSet<&SiteName> = report.unmoved.carbon_unknown_at.iter().collect();
    unknown.extend(report.outcomes.iter().flat_map(|one| &one.totals.carbon_unknown_at));
    let all: Vec<Vec<Stay<'_>>> = report.outcomes.iter().map(|one| stays(one, scenario)).collect();
    // The same colour for a site in all pictures, and none for those where nothing ever ran.
    let used: BTreeSet<&SiteName> = all.iter().flatten().filter_map(|stay| stay.site).collect();
    let tones: BTreeMap<&SiteName, usize> =
        used.into_iter().enumerate().map(|(number, site)| (site, number % TONES)).collect();
    let sections = report.outcomes.iter().zip(&all).enumerate().map(|(at, (outcome, stays))| {
        let unmoved = report.unmoved_violations.get(at).and_then(Option::as_deref);
        section(outcome, stays, scenario, &tones, unmoved.unwrap_or_default())
    });
    let page = Page {
        report,
        hash,
        duration: span(report.duration.as_millis()),
        best: answer::best(report),
        sentences: report
            .outcomes
            .iter()
            .map(|one| (one.policy.as_str(), answer::sentence(report, one)))
            .collect(),
        policies,
        rows: comparison::rows(report),
        has_rules: report.outcomes.iter().any(|one| one.violations.is_some()),
        charts: charts(report)?,
        sections: sections.collect(),
        unknown_carbon: unknown.into_iter().map(ToString::to_string).collect(),
    };
    Ok(page.render()?)
}

fn css((red, green, blue): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

impl Page<'_> {
    /// `−12.5 %`.
    fn signed(&self, difference: &Option<Difference>) -> String {
        match difference {
            Some(Difference::Percent(percent)) => format!("{percent:+.1} %").replace('-', "−"),
            Some(Difference::FromNothing) => Difference::FromNothing.to_string(),
            None => String::new(),
        }
    }

    fn class(&self, difference: &Option<Difference>) -> &'static str {
        match difference {
            Some(difference) if difference.is_less() => "better",
            Some(_) => "worse",
            None => "",
        }
    }
}

fn charts(report: &Report) -> Result<Vec<Chart>, NotDrawn> {
    type Of = fn(&Effect) -> Option<f64>;
    let all: [(&'static str, &'static str, Of); 4] = [
        ("User latency", "ms", |effect| effect.user_latency.map(Millis::as_f64)),
        ("Cost", "USD/h", |effect| Some(effect.cost_rate.as_f64())),
        ("Power", "W", |effect| Some(effect.power.as_f64())),
        ("Carbon", "g/h", |effect| effect.carbon_rate.map(GramsPerHour::as_f64)),
    ];
    let unmoved = (UNMOVED, GREY, &report.unmoved_course);
    let policies = report.outcomes.iter().enumerate();
    let policies = policies.map(|(at, one)| (one.policy.as_str(), chart::colour(at), &one.course));
    let courses: Vec<(&str, Colour, &Vec<Point>)> = [unmoved].into_iter().chain(policies).collect();
    // Where no sum of it is known a line would show what is not known as nothing.
    let known =
        report.unmoved.carbon.is_some() || report.outcomes.iter().any(|one| one.totals.carbon.is_some());
    all.into_iter()
        .filter(|(title, ..)| known || *title != "Carbon")
        .map(|(title, unit, of)| {
            let line = |(_, colour, course): &(&str, Colour, &Vec<Point>)| Line {
                colour: *colour,
                points: course.iter().map(|point| (point.at, of(&point.effect))).collect(),
            };
            let lines: Vec<Line> = courses.iter().map(line).collect();
            let ranges: Vec<String> =
                courses.iter().map(|(name, _, course)| range(name, course, of)).collect();
            let describe = format!("In {unit}. {}", ranges.join(" "));
            let picture = chart::lines(&lines, report.duration, &format!("{title} over time"), &describe)?;
            Ok(Chart { title, unit, picture })
        })
        .collect()
}

/// What a line shows, for those who can't see it.
fn range(name: &str, course: &[Point], of: fn(&Effect) -> Option<f64>) -> String {
    let values: Vec<f64> = course.iter().filter_map(|point| of(&point.effect)).collect();
    let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(*value), most.max(*value))
    });
    if values.is_empty() {
        format!("{name}: not known.")
    } else {
        format!("{name}: {least:.3} to {most:.3}.")
    }
}

fn section<'a>(
    outcome: &'a Outcome,
    stays: &[Stay<'a>],
    scenario: &'a Scenario,
    tones: &BTreeMap<&'a SiteName, usize>,
    unmoved: &[Violation],
) -> Section<'a> {
    let sites: BTreeSet<&SiteName> = stays.iter().filter_map(|stay| stay.site).collect();
    let downtimes = outcome.totals.services.iter();
    Section {
        outcome,
        mode: mode(outcome.mode),
        sites: sites.into_iter().map(|site| (site, tones.get(site).copied().unwrap_or(0))).collect(),
        timeline: timeline(outcome, stays, tones, scenario.duration),
        map: sites_map(outcome, stays, scenario, tones),
        moves: outcome.moves.iter().take(LISTED).map(listed).collect(),
        unlisted: outcome.moves.len().saturating_sub(LISTED),
        holds: outcome.holds.iter().take(LISTED).map(held).collect(),
        unheld: outcome.holds.len().saturating_sub(LISTED),
        downtimes: downtimes
            .take(LISTED)
            .map(|one| (one.service.to_string(), span(one.downtime), one.requests_held))
            .collect(),
        violations: outcome.violations.as_ref().map(|ours| violations(ours, unmoved)),
    }
}

/// What is broken under the policy, or would have been if nothing had moved.
fn violations(ours: &[Violation], unmoved: &[Violation]) -> Vec<[String; 4]> {
    let time = |all: &[Violation], one: &Violation| {
        let same = all.iter().find(|other| other.service == one.service && other.rule == one.rule);
        span(same.map_or(Millis::ZERO, |other| other.time))
    };
    let only_unmoved = unmoved
        .iter()
        .filter(|one| !ours.iter().any(|our| our.service == one.service && our.rule == one.rule));
    ours.iter()
        .chain(only_unmoved)
        .take(LISTED)
        .map(|one| [one.service.to_string(), one.rule.to_string(), time(ours, one), time(unmoved, one)])
        .collect()
}

fn sites_map(
    outcome: &Outcome,
    stays: &[Stay<'_>],
    scenario: &Scenario,
    tones: &BTreeMap<&SiteName, usize>,
) -> Option<Map> {
    let sites: Vec<&SiteName> = scenario.continuum.sites.keys().collect();
    let number = |node| {
        let site = &scenario.continuum.nodes.get(node)?.site;
        sites.iter().position(|one| *one == site)
    };
    let mut trips = Trips::new();
    for one in &outcome.moves {
        let arrived = one.end.as_ref().is_some_and(|end| end.outcome == MigrationOutcome::Moved);
        if let Some(trip) = number(&one.from).zip(number(&one.to)).filter(|_| arrived) {
            *trips.entry(trip).or_default() += 1;
        }
    }
    let mut places = Vec::new();
    for site in &sites {
        let here = stays.iter().filter(|stay| stay.site == Some(*site));
        places.push(Place {
            name: site.as_str(),
            at: scenario
                .continuum
                .sites
                .get(*site)
                .and_then(|about| about.location)
                .map(|location| (location.latitude, location.longitude)),
            hosted: here.map(|stay| (stay.service.as_str(), stay.from, stay.until)).collect(),
            tone: tones.get(*site).copied().unwrap_or(0),
        });
    }
    map::map(&places, &trips)
}

fn listed(record: &MoveRecord) -> Listed<'_> {
    let end = record.end.as_ref();
    let taken = Told {
        node: record.to.to_string(),
        numbers: numbers(record.choice.taken.as_ref()),
        against: String::new(),
    };
    let others = record.choice.others.iter().map(|one| Told {
        node: one.node.to_string(),
        numbers: numbers(one.effect.as_ref()),
        against: one.against.to_string(),
    });
    Listed {
        record,
        why: why(record.gain.as_ref()),
        took: end.map_or_else(String::new, |end| {
            span(SimTime::from_nanos(end.ended.since(record.began)).as_millis())
        }),
        downtime: end.map_or_else(String::new, |end| span(end.downtime)),
        sent: end.map_or_else(String::new, |end| end.bytes.to_string()),
        ended: end.map_or("scenario ended first", |end| outcome_word(end.outcome)),
        went_well: end.is_none_or(|end| end.outcome == MigrationOutcome::Moved),
        places: [taken].into_iter().chain(others).collect(),
    }
}

fn numbers(effect: Option<&Effect>) -> [String; 4] {
    let number = |of: &dyn Fn(&Effect) -> String| effect.map_or_else(|| "not known".to_owned(), of);
    [
        number(&|effect| {
            effect.user_latency.map_or_else(|| "no requests".to_owned(), |it| format!("{it:.2}"))
        }),
        number(&|effect| format!("{:.4}", effect.cost_rate)),
        number(&|effect| format!("{:.2}", effect.power)),
        number(&|effect| effect.carbon_rate.map_or_else(|| "not known".to_owned(), |it| format!("{it:.2}"))),
    ]
}
