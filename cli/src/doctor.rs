//! `sterna doctor`: are the metrics there, do the agents answer, and what is to be done where not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use sterna_core::observation::Source;
use sterna_daemon::control::world::{Clock, SystemClock, World};
use sterna_daemon::doctor::{self, CLOCKS_AGREE, Checkup, MetricCheck, SourceCheck, ValueCheck};
use sterna_executor::platform::docker::Settings as Images;
use sterna_executor::platform::kubernetes::checkup::{
    Asked, Image, NamespaceCheck, Purpose, check as check_namespaces,
};
use sterna_executor::platform::kubernetes::node::checkup::{self, PlaceCheck, Problem};
use sterna_policies::quantity::Millis;

use crate::exit;
use crate::run::{Opened, say};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna doctor`.
///
/// Exit codes: 0 all is well, 1 an agent does not answer or something is wrong in Kubernetes, 3 a file is invalid, 4 metrics do not suffice.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The settings file.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How to print what was found.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(look(args))
}

async fn look(args: Args) -> anyhow::Result<ExitCode> {
    let opened = Opened::read(&args.config)?;
    let store = opened.store()?;
    let (policies, continuum) = (opened.policies(None)?, opened.continuum());
    let view = match opened.world() {
        Ok(world) => world.look(continuum).await.map(|(view, _)| view).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    let (clusters, lease) = in_kubernetes(&opened).await?;
    let namespaces = in_namespaces(&opened).await?;
    let mut checkups = BTreeMap::new();
    for policy in &policies {
        let mut checkup = doctor::examine(&store, view.clone(), continuum, policy, SystemClock.now()).await;
        (checkup.clusters, checkup.lease) = (clusters.clone(), lease.clone());
        checkup.namespaces.clone_from(&namespaces);
        if args.output == Output::Table {
            if policies.len() > 1 {
                say(&format!("{}:", policy.name));
            }
            say(text(&checkup).trim_end());
        }
        checkups.insert(policy.name.as_str(), checkup);
    }
    let mut all = checkups.values();
    if args.output == Output::Json {
        say(&match (checkups.len(), all.clone().next()) {
            (1, Some(checkup)) => serde_json::to_string_pretty(checkup)?,
            _ => serde_json::to_string_pretty(&checkups)?,
        });
    }
    let suffice = all.clone().all(Checkup::metrics_suffice);
    let well = |one: &Checkup| one.agents_answer() && one.in_kubernetes().next().is_none();
    Ok(match (suffice, all.all(well)) {
        (false, _) => ExitCode::from(exit::METRICS),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    })
}

/// What is wrong where nodes are pods, and with the lease.
async fn in_kubernetes(opened: &Opened) -> anyhow::Result<(Vec<PlaceCheck>, Option<Problem>)> {
    let continuum = opened.continuum();
    let lease = match &opened.settings.leader {
        Some(leader) => {
            let (file, namespace) = (leader.kubeconfig.as_deref(), leader.namespace.as_deref());
            checkup::check_lease(file, namespace, &leader.lease).await
        }
        None => None,
    };
    if continuum.nodes.values().all(|node| node.kubernetes.is_none()) {
        return Ok((Vec::new(), lease));
    }
    let image = Images::from_environment()?.image()?;
    let credentials = opened.credentials();
    let migrations = opened.settings.kubernetes.as_ref().and_then(|one| one.migrations.as_deref());
    let mut clusters = checkup::check(continuum, credentials.as_ref(), &image, migrations).await;
    if let (None, Some(first)) = (&opened.settings.leader, clusters.first_mut()) {
        first.notes.push(
            "the settings have no `[leader]`: nothing keeps back a second scheduler that has another state folder".to_owned(),
        );
    }
    Ok((clusters, lease))
}

/// What is wrong in the namespaces that the settings name.
async fn in_namespaces(opened: &Opened) -> anyhow::Result<Vec<NamespaceCheck>> {
    let Some(settings) = &opened.settings.kubernetes else { return Ok(Vec::new()) };
    let image = match (&settings.stand_in_image, &settings.services) {
        (Some(given), _) => given.clone(),
        (None, Some(_)) => Images::from_environment()?.image()?,
        (None, None) => String::new(),
    };
    let image = Image { name: &image, is_given: settings.stand_in_image.is_some() };
    let named = settings.migrations.iter().map(|name| (Purpose::Migrations, name));
    let named = named.chain(settings.services.iter().map(|name| (Purpose::Services, name)));
    let named = named.chain(settings.endpoints.iter().map(|name| (Purpose::Endpoints, name)));
    let continuum = opened.continuum();
    let all: Vec<_> =
        named.map(|(purpose, namespace)| Asked { purpose, namespace, image, continuum }).collect();
    Ok(check_namespaces(settings.kubeconfig.as_deref(), &all).await)
}

fn of_place(check: &PlaceCheck) -> Vec<String> {
    let context =
        check.context.as_ref().map(|context| format!(" of the context {context}")).unwrap_or_default();
    let title = format!("Kubernetes, namespace {}{context}", check.namespace);
    of_all(title, &check.problems, &check.notes)
}

fn of_namespace(check: &NamespaceCheck) -> Vec<String> {
    let title = format!("Kubernetes, namespace {}, {}", check.namespace, check.purpose.words());
    of_all(title, &check.problems, &check.notes)
}

fn of_all(title: String, problems: &[Problem], notes: &[String]) -> Vec<String> {
    let mut lines = vec![title];
    if problems.is_empty() {
        lines.push("  nothing is wrong".to_owned());
    }
    problems.iter().for_each(|problem| lines.extend(of_problem(problem)));
    lines.extend(notes.iter().map(|note| format!("  note: {note}")));
    lines.push(String::new());
    lines
}

fn of_problem(problem: &Problem) -> Vec<String> {
    let node = problem.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
    let mut lines = vec![format!("  {node}{}", problem.finding)];
    lines.extend(problem.remedy.lines().map(|line| format!("    {line}")));
    lines
}

fn text(checkup: &Checkup) -> String {
    let mut lines = Vec::new();
    if let Some(problem) = &checkup.store.problem {
        lines.push(format!("Prometheus: {problem}"));
    }
    let apart = checkup.store.clock_ahead_ms.map(|ahead| Millis::from_f64(ahead as f64).unwrap_or_default());
    if let Some(ahead) = apart.filter(|ahead| ahead.as_f64().abs() > CLOCKS_AGREE.as_f64()) {
        let side = if ahead < Millis::ZERO { "behind" } else { "ahead of" };
        lines.push(format!(
            "the clock of Prometheus is {:.1}s {side} this machine's; ages are told by the clock of Prometheus",
            ahead.as_f64().abs() / 1e3
        ));
    }
    if checkup.metrics.is_empty() {
        lines.push("the policy asks nothing of Prometheus; its numbers are the inventory's".to_owned());
    } else {
        lines.push(values(&checkup.metrics).to_string());
    }
    for metric in &checkup.metrics {
        for source in &metric.sources {
            lines.extend(of_source(metric, source));
        }
    }
    let mut agents = Table::new();
    agents.load_style(UTF8_HORIZONTAL_ONLY);
    agents.set_header(["node", "site", "agent"]);
    for agent in &checkup.agents {
        let answer = agent.problem.as_deref().unwrap_or("answers");
        agents.add_row([agent.node.as_str(), agent.site.as_str(), answer]);
    }
    lines.push(agents.to_string());
    checkup.clusters.iter().for_each(|check| lines.extend(of_place(check)));
    if let Some(problem) = &checkup.lease {
        lines.push("Kubernetes, the schedulers' lease".to_owned());
        lines.extend(of_problem(problem));
        lines.push(String::new());
    }
    checkup.namespaces.iter().for_each(|check| lines.extend(of_namespace(check)));
    lines.push(verdict(checkup));
    lines.join("\n")
}

fn values(metrics: &[MetricCheck]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["metric", "site", "users", "value", "age", "source", ""]);
    for metric in metrics {
        for value in &metric.values {
            table.add_row(row(metric, value));
        }
    }
    table
}

fn row(metric: &MetricCheck, value: &ValueCheck) -> [String; 7] {
    let number = value.value.map_or_else(|| "-".to_owned(), |number| format!("{number:.3} {}", value.unit));
    [
        metric.metric.name().to_owned(),
        value.site.to_string(),
        value.users.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        number,
        value.age.map_or_else(|| "-".to_owned(), |age| format!("{:.1}s", age.as_f64() / 1e3)),
        of(metric, value.source),
        value.reason.clone().unwrap_or_default(),
    ]
}

fn of(metric: &MetricCheck, source: Option<Source>) -> String {
    let name = |number: u32| {
        let found = metric.sources.iter().find(|source| source.number == number);
        found.and_then(|source| source.builtin.as_deref()).unwrap_or("own query")
    };
    match source {
        Some(Source::Measured) => format!("measured ({})", name(0)),
        Some(Source::Fallback(number)) => format!("fallback {number} ({})", name(number)),
        Some(Source::Modelled) => "modelled".to_owned(),
        None => "MISSING".to_owned(),
    }
}

/// What is wrong with a source, and the remedies.
fn of_source(metric: &MetricCheck, source: &SourceCheck) -> Vec<String> {
    if source.found == source.of && source.ignored.is_empty() && source.problem.is_none() {
        return Vec::new();
    }
    let which = match source.number {
        0 => "first source".to_owned(),
        number => format!("fallback {number}"),
    };
    let name = source.builtin.as_deref().unwrap_or("own query");
    let mut lines = vec![format!(
        "{}, {which} ({name}): usable for {} of {}",
        metric.metric.name(),
        source.found,
        source.of
    )];
    lines.extend(source.problem.iter().map(|problem| format!("  {problem}")));
    lines.extend(source.ignored.iter().map(|ignored| format!("  ignored: {ignored}")));
    for advice in &source.advice {
        lines.push(format!("  {}", advice.finding));
        lines.extend(advice.remedy.lines().map(|line| format!("    {line}")));
    }
    if source.found < source.of {
        lines.push(format!("  try: {}", source.query.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.push(String::new());
    lines
}

fn verdict(checkup: &Checkup) -> String {
    let missing =
        checkup.metrics.iter().flat_map(|one| &one.values).filter(|value| value.source.is_none()).count();
    let silent = checkup.agents.iter().filter(|agent| agent.problem.is_some()).count();
    let values = |n: usize| if n == 1 { "1 value is".to_owned() } else { format!("{n} values are") };
    let agents = |n: usize| if n == 1 { "1 agent does".to_owned() } else { format!("{n} agents do") };
    let mut wrong = Vec::new();
    if !checkup.metrics_suffice() {
        wrong.push(format!("{} missing", values(missing)));
    }
    if silent > 0 {
        wrong.push(format!("{} not answer", agents(silent)));
    }
    match checkup.in_kubernetes().count() {
        0 => {}
        1 => wrong.push("1 problem in Kubernetes".to_owned()),
        many => wrong.push(format!("{many} problems in Kubernetes")),
    }
    if wrong.is_empty() { "all is well".to_owned() } else { wrong.join(", ") }
}
