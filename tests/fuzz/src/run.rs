//! The guided run: each target in a process of its own, driven by libFuzzer.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::results::{self, Outcome};
use crate::target::{self, Target};
use crate::{found, instrument};

/// Environment of the guided binary: the name of its target.
pub const TARGET: &str = "STERNA_FUZZ_TARGET";
/// Environment of the guided binary: the folder that it may write to.
pub const WORK: &str = "STERNA_FUZZ_WORK";

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many inputs each target reads.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub cases: u32,
    /// How many inputs each target reads that makes files of them; as many as the others unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub file_cases: Option<u32>,
    /// Decides the changes; the same number gives the same, as far as time does not run out.
    #[arg(long, default_value_t = 1)]
    pub seed: u32,
    /// Only targets whose name contains this text.
    #[arg(long, value_name = "TARGET")]
    pub only: Option<String>,
    /// Longest time for one target, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// Targets that run side by side; one for each processor unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: Option<u32>,
    /// Where inputs are kept while it runs, and what was found afterwards.
    #[arg(long, value_name = "FOLDER", default_value = "target/fuzz")]
    pub work: PathBuf,
    /// Where every number goes, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs the targets, prints the table, and fails if anything was found.
///
/// # Errors
/// When the guided binary can't be built or run.
#[expect(clippy::print_stdout, reason = "the table is what is asked for")]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = |one: &&Target| args.only.as_deref().is_none_or(|text| one.name.contains(text));
    let wanted: Vec<&Target> = target::ALL.iter().filter(wanted).collect();
    ensure!(!wanted.is_empty(), "no target's name contains `{}`", args.only.as_deref().unwrap_or_default());
    let binary = instrument::build()?;
    std::fs::create_dir_all(&args.work).with_context(|| args.work.display().to_string())?;
    let work = args.work.canonicalize()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(processors, |jobs| jobs as usize).min(wanted.len());
    let queue = Mutex::new(wanted.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((at, target)) = next() {
                    let outcome = guided(&binary, target, args, &work).with_context(|| target.name);
                    if let Ok(outcome) = &outcome {
                        say(&line(outcome));
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let outcomes = done.into_iter().map(|(_, one)| one).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(out) = &args.out {
        std::fs::write(out, serde_json::to_string_pretty(&outcomes)?)
            .with_context(|| format!("can't write {}", out.display()))?;
    }
    println!("{}", results::table(&outcomes));
    let found: Vec<&String> = outcomes.iter().flat_map(|one| &one.found).collect();
    for one in &found {
        println!("{one}");
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What libFuzzer says of itself.
#[derive(Debug, Default)]
struct Said {
    cases: Option<u64>,
    at_first: Option<u64>,
    covered: u64,
    corpus: u64,
    last: Vec<String>,
}

impl Said {
    fn hear(&mut self, line: String) {
        let after = |word: &str| {
            let mut words = line.split_whitespace().skip_while(|one| *one != word).skip(1);
            words.next()?.split('/').next()?.parse::<u64>().ok()
        };
        if let Some(covered) = after("cov:") {
            self.covered = covered;
            self.corpus = after("corp:").unwrap_or(self.corpus);
            if line.contains("INITED") {
                self.at_first = Some(covered);
            }
        } else if let Some(cases) = after("stat::number_of_executed_units:") {
            self.cases = Some(cases);
        }
        self.last.push(line);
        let surplus = self.last.len().saturating_sub(60);
        self.last.drain(..surplus);
    }
}

fn guided(binary: &Path, target: &'static Target, args: &Args, work: &Path) -> anyhow::Result<Outcome> {
    let cases = if target.files { args.file_cases.unwrap_or(args.cases) } else { args.cases };
    let own = work.join(target.name);
    let (corpus, raw) = (own.join("corpus"), own.join("raw"));
    for folder in [&corpus, &raw] {
        // The same seed begins from the same inputs.
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let before = found::regressions(target.name)?.into_iter().map(|(_, input)| input);
    for (at, input) in (target.seeds)().into_iter().chain(before).enumerate() {
        std::fs::write(corpus.join(format!("{at:03}")), input)?;
    }
    let start = Instant::now();
    let mut command = Command::new(binary);
    command.env(TARGET, target.name).env(WORK, &own).current_dir(&own);
    command.arg(&corpus).arg(format!("-artifact_prefix={}/", raw.display()));
    command.args(["-print_final_stats=1", "-rss_limit_mb=1024", "-timeout=20"]);
    command.args([
        format!("-runs={cases}"),
        format!("-seed={}", args.seed),
        format!("-max_len={}", target.longest),
        format!("-max_total_time={}", args.seconds),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("can't run {}", binary.display()))?;
    let mut said = Said::default();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            said.hear(String::from_utf8_lossy(&line?).into_owned());
        }
    }
    let status = child.wait()?;
    let found = keep(target, &raw, work, &said)?;
    let told = said.last.join("\n");
    if !status.success() && found.is_empty() {
        bail!("it ended ({status}) and left no input behind:\n{told}");
    }
    let cases_read =
        said.cases.with_context(|| format!("it does not say how many inputs it read:\n{told}"))?;
    ensure!(said.covered > 0, "it was built without coverage");
    Ok(Outcome {
        target: target.name,
        cases: cases_read,
        at_first: said.at_first.unwrap_or(said.covered),
        covered: said.covered,
        corpus: said.corpus,
        seconds: start.elapsed().as_secs_f64(),
        cut_short: cases_read < u64::from(cases),
        found,
    })
}

/// Keeps what was found as text, and says how to see it again.
fn keep(target: &Target, raw: &Path, work: &Path, said: &Said) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(raw)? {
        let entry = entry?;
        let folder = work.join("found").join(target.name);
        std::fs::create_dir_all(&folder)?;
        let name = entry.file_name();
        let file = folder.join(&name).with_extension("hex");
        std::fs::write(&file, found::encode(&std::fs::read(entry.path())?))?;
        let at = said.last.iter().position(|line| line.contains("panicked at"));
        let why = at.map_or_else(
            || said.last.iter().find(|line| line.contains("ERROR:")).cloned().unwrap_or_default(),
            |at| said.last[at..].iter().take(2).cloned().collect::<Vec<_>>().join(" "),
        );
        all.push(format!(
            "{}: {why}\n    the input: {}\n    again:     cargo run -p sterna-fuzz -- replay {} {}",
            target.name,
            file.display(),
            target.name,
            file.display()
        ));
    }
    Ok(all)
}

fn line(one: &Outcome) -> String {
    let Outcome { target, cases, covered, seconds, .. } = one;
    let found = if one.found.is_empty() { String::new() } else { format!("\n{}", one.found.join("\n")) };
    format!("{target}: {cases} inputs, {covered} places, {seconds:.1} s{found}")
}

#[expect(clippy::print_stderr, reason = "progress is for whoever watches, be it in a log")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Builds the guided binary, and tries whether it can run here.
///
/// # Errors
/// When it can't.
pub fn prepare(args: &Args) -> anyhow::Result<ExitCode> {
    let binary = instrument::build()?;
    std::fs::create_dir_all(&args.work).with_context(|| args.work.display().to_string())?;
    let work = args.work.canonicalize()?;
    let target = target::ALL.iter().find(|one| one.name == "names").context("no target to try")?;
    guided(&binary, target, &Args { cases: 1, ..args.clone() }, &work)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzer_is_understood() {
        let mut said = Said::default();
        for line in [
            "#4\tINITED cov: 120 ft: 130 corp: 3/90b exec/s: 0 rss: 40Mb",
            "#99\tNEW    cov: 125 ft: 140 corp: 4/120b lim: 4 exec/s: 0 rss: 41Mb L: 30/30 MS: 1 ChangeByte-",
            "stat::number_of_executed_units: 1000",
        ] {
            said.hear(line.to_owned());
        }
        assert_eq!((said.at_first, said.covered, said.corpus, said.cases), (Some(120), 125, 4, Some(1000)));
    }
}
