//! Any policy that can be written down is read back as it was, and no text whatever makes the loader panic.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use sterna_policies::load;
use sterna_policies::policy::{
    Approval, Breaker, Budget, Condition, Constraints, Hysteresis, Level, Memory, Method, Metric,
    MetricQuery, MetricSource, Migration, Mode, Objective, OnMissing, Overrun, Per, Policy, PricedTerm,
    Select, SourceUnit, Spread, Term, Tolerance, Trigger, Window, WindowKind,
};
use sterna_policies::presets;
use sterna_policies::quantity::{Bytes, GramsPerHour, MibPerSecond, Millis, Percent, UsdPerHour, Watts};

const OBJECTIVES: [Metric; 4] = [Metric::UserLatency, Metric::CostRate, Metric::Power, Metric::CarbonRate];

fn level(metric: Metric, micros: i64) -> Level {
    match metric {
        Metric::CostRate => Level::CostRate(UsdPerHour::from_micros(micros)),
        Metric::Power => Level::Power(Watts::from_micros(micros)),
        Metric::CarbonRate => Level::CarbonRate(GramsPerHour::from_micros(micros)),
        Metric::UserLatency | Metric::CpuUse => Level::UserLatency(Millis::from_micros(micros)),
    }
}

fn unit(metric: Metric) -> SourceUnit {
    match metric {
        Metric::UserLatency => SourceUnit::Seconds,
        Metric::CostRate => SourceUnit::UsdPerHour,
        Metric::Power => SourceUnit::Microwatts,
        Metric::CarbonRate => SourceUnit::GramsPerKwh,
        Metric::CpuUse => SourceUnit::Ratio,
    }
}

/// Some of the metrics, none twice, in any order.
fn metrics() -> impl Strategy<Value = Vec<Metric>> {
    Just(OBJECTIVES.to_vec()).prop_shuffle().prop_flat_map(|all| {
        let most = all.len();
        (Just(all), 1..=most).prop_map(|(all, count)| all[..count].to_vec())
    })
}

fn objective() -> impl Strategy<Value = Objective> {
    let lexicographic = metrics().prop_flat_map(|metrics| {
        let each = metrics.into_iter().map(|metric| {
            let satisfied = proptest::option::of(0..1_000_000_000i64);
            let tolerance = (any::<bool>(), 0..200_000_000i64);
            (satisfied, tolerance).prop_map(move |(satisfied, (relative, tolerance))| Term {
                metric,
                satisfied_at: satisfied.map(|micros| level(metric, micros)),
                tolerance: if relative {
                    Tolerance::Relative(Percent::from_micros(tolerance))
                } else {
                    Tolerance::Absolute(level(metric, tolerance))
                },
            })
        });
        each.collect::<Vec<_>>().prop_map(|terms| Objective::Lexicographic { terms })
    });
    let priced = metrics().prop_flat_map(|metrics| {
        let each = metrics.into_iter().map(|metric| {
            (1..1_000_000_000i64)
                .prop_map(move |micros| PricedTerm { metric, price: UsdPerHour::from_micros(micros) })
        });
        each.collect::<Vec<_>>().prop_map(|terms| Objective::Priced { terms })
    });
    prop_oneof![lexicographic.boxed(), priced.boxed()]
}

/// One like it where its label is short, so that some have fallbacks and some don't.
fn fallback(metric: Metric, first: &MetricQuery) -> Vec<MetricQuery> {
    let other = MetricQuery { query: first.query.replace("avg", "max"), unit: unit(metric), ..first.clone() };
    (first.site_label.len() < 6).then_some(other).into_iter().collect()
}

fn sources() -> impl Strategy<Value = BTreeMap<Metric, MetricSource>> {
    let one = (
        prop_oneof![Just(OnMissing::Hold), Just(OnMissing::ExcludeSite), Just(OnMissing::Modelled)],
        1..1_000_000_000_000i64,
        0.0..1.0f64,
        1.5..1e9f64,
        "[a-z_]{1,8}",
    );
    let all = [Metric::UserLatency, Metric::CostRate, Metric::Power, Metric::CarbonRate, Metric::CpuUse];
    proptest::sample::subsequence(all.to_vec(), 0..=all.len()).prop_flat_map(move |metrics| {
        let count = metrics.len();
        proptest::collection::vec(one.clone(), count).prop_map(move |parts| {
            let source =
                |metric: Metric, (on_missing, age, low, high, label): (OnMissing, i64, f64, f64, String)| {
                    let first = MetricQuery {
                        builtin: None,
                        query: format!("avg by (users, s_{label}) (x{{a=\"\\\\b\"}})"),
                        site_label: format!("s_{label}"),
                        users_label: (metric == Metric::UserLatency).then(|| "users".to_owned()),
                        unit: unit(metric),
                        max_age: Millis::from_micros(age),
                        plausible: (low, high),
                    };
                    MetricSource { fallback: fallback(metric, &first), first, on_missing }
                };
            metrics.iter().zip(parts).map(|(metric, parts)| (*metric, source(*metric, parts))).collect()
        })
    })
}

fn select() -> impl Strategy<Value = Select> {
    let list = || proptest::collection::vec("[a-z0-9*-]{1,6}", 0..3);
    let labels = || {
        let values = proptest::collection::vec("[a-zA-Z0-9./ -]{0,6}", 1..3);
        proptest::collection::btree_map("[a-zA-Z0-9./ -]{1,6}", values, 0..3)
    };
    (list(), list(), list(), list(), labels(), labels()).prop_map(
        |(services, exclude_services, sites, exclude_sites, service_labels, site_labels)| Select {
            services,
            service_labels,
            exclude_services,
            others: std::collections::BTreeMap::new(),
            sites,
            site_labels,
            exclude_sites,
        },
    )
}

fn constraints() -> impl Strategy<Value = Constraints> {
    // Above every `satisfied_at`, which would contradict it.
    let max = proptest::collection::btree_map(
        proptest::sample::select(OBJECTIVES.to_vec()),
        1_000_000_001..i64::MAX / 1_000_000,
        0..4,
    );
    let words = || proptest::collection::vec("[a-z-]{1,5}", 0..3);
    let per = proptest::sample::select(vec![Per::Node, Per::Site, Per::Region, Per::Tier]);
    let spread = ("[a-z ./-]{1,6}", per, 1..9u32).prop_map(|(label, per, most)| Spread { label, per, most });
    let spread = proptest::collection::vec(spread, 0..3);
    (max, words(), words(), 0..100_000_000i64, spread).prop_map(|(max, tiers, regions, free, spread)| {
        Constraints {
            spread,
            max: max.into_iter().map(|(metric, micros)| (metric, level(metric, micros))).collect(),
            tiers,
            regions,
            min_free: Percent::from_micros(free),
        }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let mode = prop_oneof![
        Just(Mode::Off),
        Just(Mode::Observe),
        Just(Mode::Recommend),
        Just(Mode::Approve),
        Just(Mode::Auto)
    ];
    let spans = proptest::collection::vec(1..1_000_000_000_000i64, 6);
    let condition = (proptest::sample::select(OBJECTIVES.to_vec()), 0..1_000_000_000i64, 0..1_000_000_000i64);
    let conditions = proptest::option::of(proptest::collection::vec(condition, 0..3));
    let hysteresis = (0..=100_000_000i64, spans, 0..1_000_000_000i64, conditions);
    let hysteresis = hysteresis.prop_map(|(gain, spans, regret, conditions)| {
        let condition = |(metric, above, lasts)| Condition {
            metric,
            above: level(metric, above),
            lasts: Millis::from_micros(lasts),
        };
        let any = conditions.map(|all: Vec<_>| all.into_iter().map(condition).collect());
        let trigger =
            Trigger { interval: Millis::from_micros(spans[0]), settle: Millis::from_micros(spans[1]), any };
        let hysteresis = Hysteresis {
            min_gain: Percent::from_micros(gain),
            min_residency: Millis::from_micros(spans[1]),
            cooldown: Millis::from_micros(spans[2]),
            payback_within: Millis::from_micros(spans[3]),
            gain_lasts: Millis::from_micros(spans[4]),
            regret: Percent::from_micros(regret),
            no_return_within: Millis::from_micros(spans[5]),
        };
        (trigger, hysteresis)
    });
    let memory = prop_oneof![Just(Memory::Ahead), Just(Memory::WhileFrozen)];
    let downtime = proptest::option::of((1..1_000_000_000_000i64).prop_map(Millis::from_micros));
    let bandwidth = proptest::option::of((1..1_000_000_000_000i64).prop_map(MibPerSecond::from_micros));
    let times = (1..1_000_000_000_000i64, 0..1_000_000_000_000i64);
    let migration = (times, memory, downtime, bandwidth);
    let migration = migration.prop_map(|((lease, more), memory, max_downtime, bandwidth)| Migration {
        method: Method::Checkpoint,
        memory,
        max_downtime,
        bandwidth,
        deadline: Millis::from_micros(lease + more),
        freeze_lease: Millis::from_micros(lease),
    });
    let name = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    let parts = (
        name,
        (mode, any::<i32>()),
        select(),
        objective(),
        constraints(),
        hysteresis,
        (budget(), windows(), 1..1_000_000_000_000i64),
        sources(),
        migration,
    );
    parts.prop_map(
        |(
            name,
            (mode, priority),
            select,
            objective,
            constraints,
            (trigger, hysteresis),
            ((budget, breaker), windows, expires),
            metrics,
            migration,
        )| Policy {
            name,
            mode,
            select,
            objective,
            constraints,
            trigger,
            hysteresis,
            budget,
            breaker,
            priority,
            approval: Approval { expires: Millis::from_micros(expires) },
            windows,
            metrics,
            migration,
        },
    )
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let kind = prop_oneof![Just(WindowKind::Allow), Just(WindowKind::Deny)];
    let schedule =
        (0..60u8, 0..24u8, 0..7u8).prop_map(|(minute, hour, day)| format!("{minute} {hour} * * {day}"));
    let timezone = prop_oneof![Just("UTC"), Just("Europe/Paris"), Just("Asia/Kolkata")];
    let overrun = prop_oneof![Just(Overrun::Finish), Just(Overrun::Abort)];
    let window = (kind, schedule, 1..86_400i64, timezone, any::<bool>(), overrun).prop_map(
        |(kind, schedule, seconds, timezone, allow_mending, overrun)| Window {
            // What mends goes on.
            overrun: if allow_mending { Overrun::Finish } else { overrun },
            kind,
            schedule,
            duration: Millis::from_micros(seconds * 1_000_000_000),
            timezone: timezone.to_owned(),
            allow_mending,
        },
    );
    proptest::collection::vec(window, 0..3)
}

fn budget() -> impl Strategy<Value = (Budget, Breaker)> {
    let time = || (1..1_000_000_000_000i64).prop_map(Millis::from_micros);
    let moves = (1..100u32, proptest::option::of(1..50u32), proptest::option::of(50..100u32));
    let bytes = || proptest::option::of((1..1_000_000_000u64).prop_map(Bytes));
    let some = || proptest::option::of(1..9u32);
    let more = (bytes(), proptest::option::of(time()), bytes(), some(), some(), some());
    let breaker = (0..9u32, time(), time());
    (moves, more, breaker).prop_map(
        |(
            (concurrent, hour, day),
            (bytes, downtime, of_link, service, site, link),
            (failures, within, pause),
        )| {
            let budget = Budget {
                concurrent,
                concurrent_per_site: site,
                concurrent_per_link: link,
                moves_per_hour: hour,
                moves_per_day: day,
                moves_per_service_per_day: service,
                bytes_per_day: bytes,
                bytes_per_link_per_day: of_link,
                downtime_per_day: downtime,
            };
            (budget, Breaker { failures, within, pause })
        },
    )
}

/// The word of a unit-like enum, as serde writes it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

fn level_text(level: Level) -> String {
    match level {
        Level::UserLatency(value) => value.to_string(),
        Level::CostRate(value) => value.to_string(),
        Level::Power(value) => value.to_string(),
        Level::CarbonRate(value) => value.to_string(),
    }
}

/// A policy as a file.
fn written(policy: &Policy) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let Select { services, service_labels, exclude_services, others: _, sites, site_labels, exclude_sites } =
        &policy.select;
    writeln!(out, "schema_version = 1\nname = {:?}\nmode = {}", policy.name, word(policy.mode))?;
    writeln!(out, "priority = {}", policy.priority)?;
    writeln!(out, "[select]\nexclude_services = {exclude_services:?}\nexclude_sites = {exclude_sites:?}")?;
    for (key, list) in [("services", services), ("sites", sites)] {
        if !list.is_empty() {
            writeln!(out, "{key} = {list:?}")?;
        }
    }
    for (key, labels) in [("service_labels", service_labels), ("site_labels", site_labels)] {
        for (label, values) in labels {
            writeln!(out, "{key}.{label:?} = {values:?}")?;
        }
    }
    match &policy.objective {
        Objective::Lexicographic { terms } => {
            writeln!(out, "[objective]\nmethod = \"lexicographic\"")?;
            for term in terms {
                writeln!(out, "[[objective.term]]\nmetric = \"{}\"", term.metric.name())?;
                if let Some(level) = term.satisfied_at {
                    writeln!(out, "satisfied_at = \"{}\"", level_text(level))?;
                }
                match term.tolerance {
                    Tolerance::Absolute(level) => writeln!(out, "tolerance = \"{}\"", level_text(level))?,
                    Tolerance::Relative(share) => writeln!(out, "tolerance = \"{share}\"")?,
                }
            }
        }
        Objective::Priced { terms } => {
            writeln!(out, "[objective]\nmethod = \"priced\"")?;
            for term in terms {
                writeln!(
                    out,
                    "[[objective.term]]\nmetric = \"{}\"\nprice = \"{}\"",
                    term.metric.name(),
                    term.price
                )?;
            }
        }
    }
    writeln!(out, "[constraints]\nmin_free = \"{}\"", policy.constraints.min_free)?;
    for (key, list) in [("tiers", &policy.constraints.tiers), ("regions", &policy.constraints.regions)] {
        if !list.is_empty() {
            writeln!(out, "{key} = {list:?}")?;
        }
    }
    let spread = |Spread { label, per, most }: &Spread| {
        format!("{{ label = {label:?}, per = \"{}\", max = {most} }}", per.name())
    };
    let spread: Vec<String> = policy.constraints.spread.iter().map(spread).collect();
    writeln!(out, "spread = [{}]", spread.join(", "))?;
    writeln!(out, "[constraints.max]")?;
    for (metric, level) in &policy.constraints.max {
        writeln!(out, "{} = \"{}\"", metric.name(), level_text(*level))?;
    }
    let Hysteresis {
        min_gain,
        min_residency,
        cooldown,
        payback_within,
        gain_lasts,
        regret,
        no_return_within,
    } = &policy.hysteresis;
    let Trigger { interval, settle, any } = &policy.trigger;
    writeln!(out, "[trigger]\ninterval = \"{interval}\"\nsettle = \"{settle}\"")?;
    if any.as_ref().is_some_and(Vec::is_empty) {
        writeln!(out, "any = []")?;
    }
    for Condition { metric, above, lasts } in any.iter().flatten() {
        let (metric, above) = (metric.name(), level_text(*above));
        writeln!(out, "[[trigger.any]]\nmetric = \"{metric}\"\nabove = \"{above}\"\nfor = \"{lasts}\"")?;
    }
    writeln!(
        out,
        "[hysteresis]\nmin_gain = \"{min_gain}\"\nmin_residency = \"{min_residency}\"\ncooldown = \"{cooldown}\""
    )?;
    writeln!(out, "payback_within = \"{payback_within}\"\ngain_lasts = \"{gain_lasts}\"")?;
    writeln!(out, "regret = \"{regret}\"\nno_return_within = \"{no_return_within}\"")?;
    let Budget {
        concurrent,
        concurrent_per_site,
        concurrent_per_link,
        moves_per_hour,
        moves_per_day,
        moves_per_service_per_day,
        bytes_per_day,
        bytes_per_link_per_day,
        downtime_per_day,
    } = &policy.budget;
    writeln!(out, "[budget]\nconcurrent = {concurrent}")?;
    for (key, moves) in [
        ("concurrent_per_site", concurrent_per_site),
        ("concurrent_per_link", concurrent_per_link),
        ("moves_per_hour", moves_per_hour),
        ("moves_per_day", moves_per_day),
        ("moves_per_service_per_day", moves_per_service_per_day),
    ] {
        if let Some(moves) = moves {
            writeln!(out, "{key} = {moves}")?;
        }
    }
    for (key, bytes) in [("bytes_per_day", bytes_per_day), ("bytes_per_link_per_day", bytes_per_link_per_day)]
    {
        if let Some(bytes) = bytes {
            writeln!(out, "{key} = \"{}B\"", bytes.0)?;
        }
    }
    if let Some(time) = downtime_per_day {
        writeln!(out, "downtime_per_day = \"{time}\"")?;
    }
    for Window { kind, schedule, duration, timezone, allow_mending, overrun } in &policy.windows {
        writeln!(out, "[[window]]\nkind = {}\nschedule = \"{schedule}\"", word(kind))?;
        writeln!(
            out,
            "duration = \"{duration}\"\ntimezone = \"{timezone}\"\nallow_mending = {allow_mending}"
        )?;
        writeln!(out, "overrun = {}", word(overrun))?;
    }
    let Breaker { failures, within, pause } = &policy.breaker;
    writeln!(out, "[approval]\nexpires = \"{}\"", policy.approval.expires)?;
    writeln!(out, "[breaker]\nfailures = {failures}\nwithin = \"{within}\"\npause = \"{pause}\"")?;
    for (metric, source) in &policy.metrics {
        writeln!(out, "[metrics.{}]\non_missing = {}", metric.name(), word(source.on_missing))?;
        for (index, query) in source.queries().enumerate() {
            if index > 0 {
                writeln!(out, "[[metrics.{}.fallback]]", metric.name())?;
            }
            writeln!(out, "query = '{}'", query.query)?;
            writeln!(out, "site_label = {:?}\nunit = {}", query.site_label, word(query.unit))?;
            if let Some(label) = &query.users_label {
                writeln!(out, "users_label = {label:?}")?;
            }
            let (low, high) = query.plausible;
            writeln!(out, "max_age = \"{}\"\nplausible = [{low:?}, {high:?}]", query.max_age)?;
        }
    }
    let Migration { method, memory, max_downtime, bandwidth, deadline, freeze_lease } = &policy.migration;
    writeln!(out, "[migration]\nmethod = {}\nmemory = {}", word(method), word(memory))?;
    if let Some(time) = max_downtime {
        writeln!(out, "max_downtime = \"{time}\"")?;
    }
    if let Some(rate) = bandwidth {
        writeln!(out, "bandwidth = \"{rate}\"")?;
    }
    writeln!(out, "deadline = \"{deadline}\"\nfreeze_lease = \"{freeze_lease}\"")?;
    Ok(out)
}

proptest! {
    #[test]
    fn a_policy_is_read_as_it_was_written(policy in policy()) {
        let text = written(&policy)?;
        match load::policy("p.toml", &text) {
            Ok(loaded) => prop_assert_eq!(loaded.value, policy),
            Err(invalid) => prop_assert!(false, "{}\n{}", invalid, text),
        }
    }

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}") {
        if let Err(invalid) = load::policy("p.toml", &text) {
            prop_assert!(invalid.report().plain().contains("p.toml"));
        }
    }

    /// A few characters more, less or other in a good file: never a panic, and each finding has its place in the text.
    #[test]
    fn a_damaged_file_gets_an_answer(
        preset in 0..presets::ALL.len(),
        at in 0.0..1.0f64,
        len in 0usize..6,
        put in "[\\[\\]={}\"'\n #a0.é%-]{0,3}",
    ) {
        let good = presets::ALL[preset].text;
        let from = (good.len() as f64 * at) as usize;
        let to = (from + len).min(good.len());
        prop_assume!(good.is_char_boundary(from) && good.is_char_boundary(to));
        let damaged = format!("{}{put}{}", &good[..from], &good[to..]);
        if let Err(invalid) = load::policy("p.toml", &damaged) {
            let report = invalid.report();
            prop_assert!(!report.is_empty());
            prop_assert!(report.diagnostics().iter().all(|found| found.span.end <= damaged.len()));
            prop_assert!(report.plain().contains("p.toml"));
        }
    }

    /// Any query at all, whatever the parser of PromQL makes of it.
    #[test]
    fn any_query_gets_an_answer(query in "([a-z]{1,5}|[(){}\\[\\]=~!,.+*/^%<> -]|[0-9]{1,3}|[smh:]|by|rate|offset|@|\\PC){0,40}") {
        let query: String = query.chars().filter(|c| *c != '\'' && !c.is_control()).collect();
        let text = format!(
            "schema_version = 1\nname = \"p\"\n[[objective.term]]\nmetric = \"power\"\n[metrics.power]\nunit = \"W\"\nquery = '{query}'\n"
        );
        let _answer = load::policy("p.toml", &text);
    }
}

/// A built-in query is the query, the unit and the age that it stands for; what the file says beside it counts.
#[test]
fn a_built_in_query_is_read_as_what_it_stands_for() {
    let text = "schema_version = 1\nname = \"p\"\n[[objective.term]]\nmetric = \"user_latency\"\n\
                [metrics.user_latency]\nbuiltin = \"blackbox-icmp\"\nusers_label = \"crowd\"\nwindow = \"20s\"\n\
                max_age = \"30s\"\nplausible = [0.0, 2.0]\non_missing = \"exclude-site\"\n\
                fallback = [{ builtin = \"smokeping\" }, { query = \"rtt\", unit = \"ms\", users_label = \"users\" }]\n";
    let policy = load::policy("p.toml", text).unwrap().value;
    let source = &policy.metrics[&Metric::UserLatency];
    let builtin = |name: &str| sterna_policies::builtin::Builtin::find(name).unwrap();
    let window = "20s".parse().ok();
    let first = MetricQuery {
        builtin: Some("blackbox-icmp".into()),
        query: builtin("blackbox-icmp").query("site", "crowd", window),
        site_label: "site".into(),
        users_label: Some("crowd".into()),
        unit: SourceUnit::Seconds,
        max_age: "30s".parse().unwrap(),
        plausible: (0.0, 2.0),
    };
    assert_eq!(source.first, first);
    assert_eq!(source.on_missing, OnMissing::ExcludeSite);
    let names: Vec<&str> = source.queries().map(MetricQuery::name).collect();
    assert_eq!(names, ["blackbox-icmp", "smokeping", "own query"]);
    assert_eq!(source.fallback[0].users_label.as_deref(), Some("users"));
    assert_eq!(source.fallback[1].unit, SourceUnit::Millis);
    // As it is recorded with a decision, and as one was recorded that knew of neither.
    let json = serde_json::to_value(source).unwrap();
    assert_eq!(serde_json::from_value::<MetricSource>(json.clone()).unwrap(), *source);
    let old = serde_json::json!({
        "query": "up", "site_label": "site", "users_label": null, "unit": "W",
        "max_age": json["max_age"], "plausible": [0.0, 1.0], "on_missing": "hold",
    });
    let old: MetricSource = serde_json::from_value(old).unwrap();
    assert!(old.fallback.is_empty() && old.first.builtin.is_none());
}
