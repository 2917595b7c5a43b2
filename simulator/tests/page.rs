//! The report as a page and as tables: what is on it, that nothing in a file can break it, and that it is always the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sterna_core::history::Outcome as MigrationOutcome;
use sterna_core::report::{Exclusion, Hold};
use sterna_policies::policy::{Metric, Policy};
use sterna_policies::quantity::Millis;
use sterna_simulator::report::placements::stays;
use sterna_simulator::report::{Report, answer, comparison, html, tables};
use sterna_simulator::run;
use sterna_simulator::scenario::{Scenario, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) -> Scenario {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    load::load(name, &text, &|path| std::fs::read_to_string(folder().join(path))).unwrap().scenario
}

fn policy(name: &str) -> Policy {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    sterna_policies::load::policy(name, &text).unwrap().value
}

/// Sessions may be no slower than 30 ms.
fn limited() -> Policy {
    let mut policy = policy("latency-first-stubborn.toml");
    policy.name = "limited".to_owned();
    let level = sterna_policies::policy::Level::UserLatency("30ms".parse().unwrap());
    policy.constraints.max.insert(Metric::UserLatency, level);
    policy
}

fn report(scenario: &Scenario, policies: &[Policy]) -> Report {
    run::compare(scenario, policies, 7, &mut |_, _| {}).unwrap()
}

fn simulated() -> (Scenario, Report) {
    let scenario = scenario("commuters.toml");
    let policies = ["latency-first.toml", "cost-first.toml", "latency-first-stubborn.toml"].map(policy);
    let report = report(&scenario, &policies);
    (scenario, report)
}

/// The same day for all tests.
fn commuters() -> (Scenario, Report) {
    static DAY: OnceLock<(Scenario, Report)> = OnceLock::new();
    DAY.get_or_init(simulated).clone()
}

/// What lies between two pieces of text, the first time.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let start = text.find(from).unwrap_or_else(|| panic!("{from} is missing")) + from.len();
    let end = text[start..].find(to).unwrap_or_else(|| panic!("{to} is missing"));
    &text[start..start + end]
}

/// Text without its tags, each run of white space as one space.
fn plain(text: &str) -> String {
    let mut inside = false;
    let text: String = text
        .chars()
        .map(|c| match c {
            '<' => {
                inside = true;
                ' '
            }
            '>' => {
                inside = false;
                ' '
            }
            _ if inside => ' ',
            c => c,
        })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_same_inputs_give_the_same_page_and_it_needs_nothing_else() {
    let (scenario, report) = commuters();
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let (again, same) = simulated();
    assert_eq!(page, html::page(&same, &again, "(its hash)").unwrap());
    assert!(page.len() < 1_000_000, "{}", page.len());
    for foreign in ["<script", "<link", "<img", "@import", "src=", "href="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // The one address names the format of a picture, and nothing is fetched from it.
    let others = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!others.contains("http:") && !others.contains("https:"));
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_page_begins_with_the_answer_and_the_comparison() {
    let (scenario, report) = commuters();
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    insta::assert_snapshot!("answer", plain(between(&page, "<section id=\"answer\"", "</section>")));
    insta::assert_snapshot!("comparison", plain(between(&page, "<section id=\"comparison\">", "</section>")));
}

#[test]
fn each_policy_has_its_moves_with_what_spoke_against_other_places() {
    let (scenario, report) = commuters();
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let section = between(&page, "<section class=\"policy\" id=\"policy-1\">", "</section>");
    assert!(section.contains("<h2>latency-first</h2>"));
    insta::assert_snapshot!(
        "moves",
        plain(between(section, "<div class=\"card moves\">", "<div class=\"card held\">"))
    );
    insta::assert_snapshot!(
        "held",
        plain(between(section, "<div class=\"card held\">", "<div class=\"card downtime\">"))
    );
    let downtime = plain(between(section, "<div class=\"card downtime\">", "</div>"));
    assert!(downtime.contains("sessions"), "{downtime}");
    // Nothing of it where the policy has no rule that could be broken.
    assert!(!section.contains("card violations"));
    let cost_first = between(&page, "id=\"policy-2\">", "</section>");
    assert!(cost_first.contains("<h2>cost-first</h2>") && cost_first.contains("card violations"));
    let stubborn = between(&page, "id=\"policy-3\">", "</section>");
    assert!(!stubborn.contains("card moves") && stubborn.contains("card held"));
}

#[test]
fn placements_over_time_are_drawn_with_their_moves() {
    let (scenario, report) = commuters();
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let picture = between(&page, "<div class=\"card timeline\">", "<div class=\"card map\">");
    // Catalog once; sessions in the north, in the south and in the north.
    assert_eq!(picture.matches("<rect class=\"t").count() - 2, 4, "{picture}");
    assert_eq!(picture.matches("<circle class=\"move\"").count() - 1, 2);
    assert!(picture.contains("sessions on south-1 at edge-south, "));
    assert!(picture.contains(">24:00</text>"));
    // Those that move go first.
    assert!(picture.find("Where sessions ran") < picture.find("Where catalog ran"));
    let map = between(&page, "<div class=\"card map\">", "</div>");
    assert!(map.contains("1 move from edge-north to edge-south") && map.contains("1 move from edge-south"));
    assert!(map.contains("cloud: nothing ran here") && map.contains("no coordinates"));
}

#[test]
fn each_picture_has_all_policies_and_a_description() {
    let (scenario, report) = commuters();
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let course = between(&page, "<section id=\"course\">", "</section>");
    for title in ["User latency", "Cost", "Power", "Carbon"] {
        let chart = between(course, &format!("<h3>{title} "), "</svg>");
        assert!(chart.contains(&format!("<title>{title} over time</title>")));
        let describe = between(chart, "<desc>", "</desc>");
        for name in ["nothing moves: ", "latency-first: ", "cost-first: ", "latency-first-stubborn: "] {
            assert!(describe.contains(name), "{describe}");
        }
        let lines: std::collections::BTreeSet<&str> = chart
            .split("<polyline")
            .skip(1)
            .map(|line| between(line, "stroke=\"", "\""))
            .filter(|colour| *colour != "#8A8F98")
            .collect();
        assert_eq!(lines.len(), 3, "{title}");
    }
}

#[test]
fn what_files_say_can_not_become_a_part_of_the_page() {
    let evil = "<script>alert('&')</script>";
    let (mut scenario, mut report) = commuters();
    scenario.placement.insert(evil.into(), evil.into());
    let site = scenario.continuum.sites[&"cloud".into()].clone();
    scenario.continuum.sites.insert(evil.into(), site);
    let node = sterna_core::continuum::Node {
        site: evil.into(),
        ..scenario.continuum.nodes[&"south-1".into()].clone()
    };
    scenario.continuum.nodes.insert(evil.into(), node);
    report.scenario = evil.to_owned();
    report.unmoved.carbon_unknown_at = vec![evil.into()];
    for outcome in &mut report.outcomes {
        outcome.policy = evil.to_owned();
        for hold in &mut outcome.holds {
            hold.service = Some(evil.into());
            hold.hold = Hold::Checker { finding: evil.to_owned() };
        }
        for one in &mut outcome.moves {
            (one.service, one.from, one.to) = (evil.into(), evil.into(), evil.into());
            for other in &mut one.choice.others {
                other.node = evil.into();
            }
        }
        for one in &mut outcome.totals.services {
            one.service = evil.into();
        }
        outcome.violations = Some(vec![sterna_simulator::report::Violation {
            service: evil.into(),
            rule: Exclusion::Spread {
                label: evil.to_owned(),
                value: evil.to_owned(),
                per: sterna_policies::policy::Per::Node,
            },
            time: Millis::from_micros(1_000_000_000),
        }]);
    }
    let page = html::page(&report, &scenario, evil).unwrap();
    assert!(!page.contains("<script") && !page.contains("alert('"), "{}", between(&page, "<script", "\n"));
    // In every section, and not lost either.
    assert!(page.matches("&#60;script&#62;").count() > 40, "{}", page.matches("&#60;script&#62;").count());
    let tables = tables::tables(&report, &scenario).unwrap();
    let (_, moves) = tables.iter().find(|(name, _)| *name == "moves.csv").unwrap();
    let first = csv::Reader::from_reader(moves.as_bytes()).records().next().unwrap().unwrap();
    assert_eq!((&first[0], &first[2]), (evil, evil));
}

#[test]
fn a_day_without_moves_says_so() {
    let scenario = scenario("quiet.toml");
    let report = report(&scenario, &[policy("latency-first.toml")]);
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    assert!(page.contains("At every look everything was best where it was."));
    assert!(answer::best(&report).is_empty());
    let text = answer::sentence(&report, &report.outcomes[0]);
    assert_eq!(text, "moves nothing; as much user latency, cost, energy, carbon as if nothing moved.");
}

/// A tie has no winner, and what is unknown of one could be better than all.
#[test]
fn the_best_is_told_only_where_it_is_known() {
    let (_, mut report) = commuters();
    let best = |report: &Report| -> Vec<(&'static str, String)> {
        answer::best(report).into_iter().map(|one| (one.measure, one.who)).collect()
    };
    let all = best(&report);
    assert!(all.contains(&("user latency, mean", "latency-first".to_owned())), "{all:?}");
    assert!(all.contains(&("cost", "cost-first".to_owned())), "{all:?}");
    report.outcomes[2].totals.carbon = None;
    report.unmoved.cost = report.outcomes[1].totals.cost;
    let fewer = best(&report);
    assert!(!fewer.iter().any(|(measure, _)| *measure == "carbon"));
    assert!(fewer.contains(&("cost", "nothing moves, cost-first".to_owned())), "{fewer:?}");
}

/// Commuters are in the south from 8:30 to 17:00, at 45 ms, with a line from and to 4 ms in the hours around: above 30 ms from
/// 4 + 41 x = 30, x = 26/41 of an hour after 7:30, read once a minute.
#[test]
fn a_broken_rule_is_timed_exactly() {
    let scenario = scenario("commuters.toml");
    let report = report(&scenario, &[limited(), policy("latency-first.toml")]);
    let [with_rule, without] = &report.outcomes[..] else { panic!() };
    assert_eq!(without.violations, None);
    let [ours] = &with_rule.violations.as_ref().unwrap()[..] else { panic!("{:?}", with_rule.violations) };
    assert_eq!(
        (ours.service.as_str(), &ours.rule),
        ("sessions", &Exclusion::Max { metric: Metric::UserLatency })
    );
    let Some([unmoved]) = report.unmoved_violations[0].as_deref() else { panic!() };
    // From 8:09 (minute 39: 4 + 41 * 39/60 = 30.65 ms) until 17:22 (minute 22: 45 - 41 * 22/60 = 29.97 ms).
    assert_eq!(unmoved.time, "33180s".parse::<Millis>().unwrap());
    assert!(ours.time < unmoved.time, "{}", ours.time);
    let row = comparison::rows(&report).into_iter().find(|row| row.name == "rules broken for").unwrap();
    assert!(row.cells[1].text.ends_with(", else 9h 13min"), "{}", row.cells[1].text);
    assert_eq!(row.cells[2].text, "none to break");
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let section = plain(between(&page, "<div class=\"card violations\">", "</div>"));
    assert!(section.contains("sessions user_latency above max") && section.contains("9h 13min"), "{section}");
}

#[test]
fn every_service_is_somewhere_at_every_time() {
    let (scenario, report) = commuters();
    for outcome in &report.outcomes {
        let stays = stays(outcome, &scenario);
        for service in scenario.placement.keys() {
            let own: Vec<_> = stays.iter().filter(|stay| stay.service == service).collect();
            assert_eq!(own[0].from.as_nanos(), 0);
            assert!(own.windows(2).all(|pair| pair[0].until == pair[1].from && pair[0].node != pair[1].node));
            assert_eq!(own.last().unwrap().until, scenario.duration);
            assert_eq!(own.last().unwrap().node, &outcome.placement[service]);
        }
        let arrived = outcome.moves.iter().filter_map(|one| one.end.as_ref());
        let arrived = arrived.filter(|end| end.outcome == MigrationOutcome::Moved).count();
        assert_eq!(stays.len(), scenario.placement.len() + arrived);
    }
}

#[test]
fn tables_can_be_read_again_and_have_the_reports_numbers() {
    let scenario = scenario("commuters.toml");
    let report = report(&scenario, &[policy("latency-first.toml"), limited()]);
    let tables = tables::tables(&report, &scenario).unwrap();
    let read = |name: &str| -> Vec<std::collections::BTreeMap<String, String>> {
        let (_, text) = tables.iter().find(|(file, _)| *file == name).unwrap();
        // Rows of another length than the header are an error.
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().map(Result::unwrap).collect()
    };
    let number = |text: &str| text.parse::<f64>().unwrap();
    let totals = read("totals.csv");
    assert_eq!(totals.len(), 3);
    let all = [&report.unmoved].into_iter().chain(report.outcomes.iter().map(|one| &one.totals));
    for (row, totals) in totals.iter().zip(all) {
        assert_eq!(number(&row["cost_usd"]), totals.cost.as_f64());
        assert_eq!(number(&row["energy_wh"]), totals.energy.as_f64());
        assert_eq!(number(&row["user_latency_mean_ms"]), totals.user_latency_mean.unwrap().as_f64());
        assert_eq!(row["requests"], totals.requests.to_string());
    }
    let names: Vec<&str> = totals.iter().map(|row| row["policy"].as_str()).collect();
    assert_eq!(names, ["nothing moves", "latency-first", "limited"]);
    // No such rule is not the same as none broken.
    assert_eq!((totals[0]["violation_ms"].as_str(), totals[1]["violation_ms"].as_str()), ("", ""));
    assert!(number(&totals[2]["violation_ms"]) > 0.0);
    let moves = read("moves.csv");
    let records: Vec<_> = report.outcomes.iter().flat_map(|one| &one.moves).collect();
    assert_eq!(moves.len(), records.len());
    for (row, record) in moves.iter().zip(&records) {
        assert_eq!(row["began"], record.at.to_string());
        assert_eq!(row["to"], record.to.to_string());
        let end = record.end.as_ref().unwrap();
        assert_eq!(number(&row["downtime_ms"]), end.downtime.as_f64());
        assert_eq!(row["bytes"], end.bytes.0.to_string());
    }
    assert_eq!(
        read("alternatives.csv").len(),
        records.iter().map(|one| one.choice.others.len()).sum::<usize>()
    );
    assert_eq!(read("alternatives.csv")[0]["node"], "north-1");
    assert_eq!(read("holds.csv").len(), report.outcomes.iter().map(|one| one.holds.len()).sum::<usize>());
    assert_eq!(read("violations.csv").len(), 1);
    let placements = read("placements.csv");
    assert_eq!(
        placements.len(),
        report.outcomes.iter().map(|one| stays(one, &scenario).len()).sum::<usize>()
    );
    let course = read("course.csv");
    let points =
        report.unmoved_course.len() + report.outcomes.iter().map(|one| one.course.len()).sum::<usize>();
    assert_eq!(course.len(), points);
    assert_eq!(course[0]["from"], "2026-03-02T00:00:00Z");
}

#[test]
fn carbon_that_is_not_known_is_not_drawn_as_none() {
    let (scenario, mut report) = commuters();
    assert!(html::page(&report, &scenario, "x").unwrap().contains("Carbon over time"));
    report.unmoved.carbon = None;
    report.outcomes.iter_mut().for_each(|one| one.totals.carbon = None);
    assert!(!html::page(&report, &scenario, "x").unwrap().contains("Carbon over time"));
}

/// From nothing to something is no percentage, and not as much either.
#[test]
fn what_there_was_nothing_of_before_is_more() {
    let (scenario, mut report) = commuters();
    report.unmoved.cost = "0USD".parse().unwrap();
    let text = answer::sentence(&report, &report.outcomes[0]);
    let cost = format!("{:.4}", report.outcomes[0].totals.cost);
    assert!(text.contains(&format!(", {cost} more cost, ")), "{text}");
    let best = answer::best(&report).into_iter().find(|one| one.measure == "cost").unwrap();
    assert_eq!((best.who.as_str(), best.difference), ("nothing moves", None));
    let row = comparison::rows(&report).into_iter().find(|row| row.name == "cost").unwrap();
    assert_eq!(row.cells[1].difference, Some(comparison::Difference::FromNothing));
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    let section = plain(between(&page, "<section id=\"comparison\">", "</section>"));
    assert!(section.contains(&format!("{cost} from nothing")), "{section}");
    // Nothing is as much as nothing.
    report.outcomes[0].totals.cost = report.unmoved.cost;
    let text = answer::sentence(&report, &report.outcomes[0]);
    assert!(text.contains("and as much cost"), "{text}");
}

#[test]
fn moves_that_were_refused_are_none_and_are_told() {
    let (scenario, mut report) = commuters();
    let row = |report: &Report, name: &str| {
        let row = comparison::rows(report).into_iter().find(|row| row.name == name);
        row.map(|row| row.cells.into_iter().map(|cell| cell.text).collect::<Vec<_>>())
    };
    assert_eq!(row(&report, "moves").unwrap(), ["0", "2", "2", "0"]);
    assert_eq!(row(&report, "moves refused"), None);
    report.outcomes[0].moves[1].end.as_mut().unwrap().outcome = MigrationOutcome::Refused;
    assert_eq!(row(&report, "moves").unwrap(), ["0", "1", "2", "0"]);
    assert_eq!(row(&report, "moves refused").unwrap(), ["0", "1", "0", "0"]);
    let text = answer::sentence(&report, &report.outcomes[0]);
    assert!(text.starts_with("makes 1 move (1 refused); "), "{text}");
    let page = html::page(&report, &scenario, "(its hash)").unwrap();
    assert!(page.contains("1 move (1 refused)</p>"));
    let tables = tables::tables(&report, &scenario).unwrap();
    let (_, totals) = tables.iter().find(|(name, _)| *name == "totals.csv").unwrap();
    assert!(totals.lines().any(|line| line.starts_with("latency-first,1,1,")), "{totals}");
}
