//! `sterna policy test`: try what a policy must decide in described situations.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;
use sterna_core::explain;
use sterna_policies::policy::Policy;
use sterna_simulator::cases::trial::{Trial, try_case};
use sterna_simulator::cases::{Case, load};

use crate::exit::Invalid;

/// Arguments of `sterna policy test`.
///
/// Each case gives a situation (placement, numbers, what was before) and what must come of it; the decision is the one that
/// `sterna run` would make.
///
/// Exit codes: 0 every case holds, 1 one does not, 3 a file is invalid.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of cases.
    #[arg(required = true, value_name = "CASES")]
    cases: Vec<PathBuf>,
    /// Try this policy, and not the one that the file names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Only cases whose name has this in it.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The seed that every decision gets.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: all there is, as JSON.
    Json,
    /// For continuous integration: JUnit's XML.
    Junit,
}

/// One file of cases, tried.
#[derive(Serialize)]
struct Tried {
    file: String,
    policy: String,
    trials: Vec<Timed>,
}

/// A case that was tried, and how long that took.
#[derive(Serialize)]
struct Timed {
    #[serde(flatten)]
    trial: Trial,
    #[serde(skip)]
    took: Duration,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let policy = args.policy.as_deref().map(super::read).transpose()?;
    let files = args
        .cases
        .iter()
        .map(|file| tried(file, policy.as_ref(), &args))
        .collect::<anyhow::Result<Vec<Tried>>>()?;
    let text = match args.output {
        Output::Table => table(&files),
        Output::Json => serde_json::to_string_pretty(&files)? + "\n",
        Output::Junit => junit(&files).to_string()? + "\n",
    };
    super::print(&text)?;
    let holds = all(&files).all(|one| one.trial.failures.is_empty());
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all(files: &[Tried]) -> impl Iterator<Item = &Timed> {
    files.iter().flat_map(|file| &file.trials)
}

#[expect(clippy::print_stderr, reason = "warnings about a file are for whoever wrote it")]
fn tried(file: &Path, policy: Option<&Policy>, args: &Args) -> anyhow::Result<Tried> {
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let read = load::load(&file.display().to_string(), &text, &|path: &Path| std::fs::read_to_string(path))
        .map_err(|invalid| Invalid(invalid.into()))?;
    for warnings in read.warnings.into_iter().filter(|warnings| !warnings.is_empty()) {
        eprintln!("{:?}", miette::Report::new(warnings));
    }
    let named = read.suite.policy;
    let Some(policy) = policy.or(named.as_ref()) else {
        anyhow::bail!(
            "{} names no policy: write `policy = \"FILE\"` on top, or give --policy FILE",
            file.display()
        );
    };
    let wanted = |case: &&Case| args.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    let trials = read.suite.cases.iter().filter(wanted).map(|case| {
        let began = Instant::now();
        let trial = try_case(case, policy, args.seed);
        Timed { trial, took: began.elapsed() }
    });
    Ok(Tried { file: file.display().to_string(), policy: policy.name.clone(), trials: trials.collect() })
}

fn table(files: &[Tried]) -> String {
    let mut text = String::new();
    for file in files {
        text += &format!("{}, policy {}: {}\n", file.file, file.policy, plural(file.trials.len(), "case"));
        for Timed { trial, .. } in &file.trials {
            let came = if trial.failures.is_empty() { "ok" } else { "FAILED" };
            text += &format!("  {} ... {came}\n", trial.name);
        }
    }
    for Timed { trial, .. } in all(files).filter(|one| !one.trial.failures.is_empty()) {
        text += &format!("\n{}:\n", trial.name);
        for failure in &trial.failures {
            text += &format!("  {failure}\n");
        }
        for line in explain::text(&trial.decision).lines() {
            text += format!("    {line}").trim_end();
            text.push('\n');
        }
    }
    let failed = all(files).filter(|one| !one.trial.failures.is_empty()).count();
    let passed = all(files).count() - failed;
    text + &format!(
        "\n{}: {passed} ok, {failed} failed\n",
        if failed == 0 { "all hold" } else { "NOT ALL HOLD" }
    )
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn junit(files: &[Tried]) -> Report {
    let mut report = Report::new("sterna policy test");
    for file in files {
        let mut suite = TestSuite::new(file.file.as_str());
        for Timed { trial, took } in &file.trials {
            let status = if trial.failures.is_empty() {
                TestCaseStatus::success()
            } else {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(trial.failures.join("; ")).set_description(explain::text(&trial.decision));
                status
            };
            let mut case = TestCase::new(trial.name.as_str(), status);
            case.set_classname(file.policy.as_str()).set_time(*took);
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report
}
