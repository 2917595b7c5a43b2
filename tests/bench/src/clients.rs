//! What clients see while a service is moved ten times behind a front: failed requests, and the longest time without an answer.
//! By load generators that others made, and beside each by a client of our own.
//!
//! | module | what lives there |
//! |---|---|
//! | [`tools`] | redis-benchmark and wrk |
//! | [`closed_loop`] | our own client |

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::front::{Front, Fronted};
use sterna_e2e::inventory::Service;
use sterna_e2e::sterna::Sterna;

use crate::migration::inventory;
use crate::sterna_move::reported_downtime;
use crate::table::{self, progress};
use crate::verdict::{self, Verdict};

pub mod closed_loop;
pub mod tools;

use closed_loop::{ClosedLoop, Question, Seen};
use tools::{Told, Tool};

const IMAGE: &str = "sterna-services:latest";
const NODES: [&str; 2] = ["a1", "b1"];
/// Time between two moves.
const BETWEEN: Duration = Duration::from_secs(2);
/// How long the front may take until it answers for a service.
const TO_ANSWER: Duration = Duration::from_secs(30);

const REDIS: Fronted<'static> = Fronted { name: "redis", port: 6379, protocol: "redis" };
const NGINX: Fronted<'static> = Fronted { name: "nginx", port: 8080, protocol: "http" };
const NGINX_SCRIPT: &str = "sed -i 's/80 default_server/8080 default_server/' /etc/nginx/sites-enabled/default && \
                            echo here >/var/www/html/index.html && exec nginx -g 'daemon off;'";

/// One service with its clients.
#[derive(Debug, Serialize)]
struct Subject {
    service: &'static str,
    tool: Tool,
    told: Told,
    own: Seen,
    moves: u32,
    /// As reported, of each move, in ms.
    downtimes: Vec<f64>,
}

impl Subject {
    fn longest_downtime(&self) -> Option<f64> {
        self.downtimes.iter().copied().reduce(f64::max)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let downtime = self.longest_downtime();
        let (program, ours) =
            (self.tool.program().to_owned(), format!("{}, one question at a time", self.service));
        let mut all = verdict::client(&program, self.told.failed, self.told.longest, downtime);
        all.extend(verdict::client(&ours, self.own.failed, self.own.longest_gap, downtime));
        all
    }
}

/// Everything, as it is written to the file.
#[derive(Debug, Serialize)]
struct Results {
    subjects: Vec<Subject>,
    verdicts: Vec<Verdict>,
}

/// Has the programs that are needed on this machine, by the script that `./check` uses.
///
/// # Errors
/// When they are not there and can't be installed, or `yes` is not said and nobody can be asked.
pub async fn install(yes: bool) -> anyhow::Result<()> {
    let sources: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = ". deploy/setup/prerequisites.sh && install_for clients";
    // In our own process group: whoever sits at the terminal is asked.
    let mut command = tokio::process::Command::new("bash");
    command.args(["-euc", script]).env("yes", if yes { "1" } else { "0" }).current_dir(sources);
    let status = command.kill_on_drop(true).status().await?;
    ensure!(status.success(), "what the clients need could not be installed; why stands above");
    Ok(())
}

fn services() -> anyhow::Result<String> {
    let redis = Service::new("redis", IMAGE, &["redis-server", "--save", "", "--protected-mode", "no"]);
    let nginx = Service::new("nginx", IMAGE, &["sh", "-c", NGINX_SCRIPT]);
    Ok(redis.port(REDIS.port).table(NODES[0])? + &nginx.port(NGINX.port).table(NODES[0])?)
}

/// Measures and prints.
///
/// # Errors
/// When anything does not come up or arrive.
pub async fn run(moves: u32, yes: bool, out: Option<&Path>) -> anyhow::Result<()> {
    let sterna = Sterna::built()?;
    install(yes).await?;
    let continuum = Continuum::up(&sterna, &inventory(&services()?)).await?;
    continuum.services_up().await?;
    let front = Front::start(&sterna, &continuum, &[REDIS, NGINX]).await?;
    let mut results = Results { subjects: Vec::new(), verdicts: Vec::new() };
    for (fronted, question, tool) in
        [(REDIS, Question::Redis, Tool::RedisBenchmark), (NGINX, Question::Http, Tool::Wrk)]
    {
        let one = subject(&sterna, &continuum, &front, (fronted, question, tool), moves).await?;
        results.verdicts.extend(one.verdicts());
        results.subjects.push(one);
    }
    drop(front);
    continuum.down().await?;
    crate::results::write(out, &results)?;
    table::show(&shown(&results));
    Ok(())
}

/// Moves a service; the downtime that is reported, in ms.
async fn migrate(sterna: &Sterna, continuum: &Continuum, service: &str, to: &str) -> anyhow::Result<f64> {
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let order = ["migrate", service, "--to", to, "--inventory", &file, "--state", &state, "--output", "json"];
    reported_downtime(&sterna.must(&order).await?)
}

async fn subject(
    sterna: &Sterna,
    continuum: &Continuum,
    front: &Front,
    (fronted, question, tool): (Fronted<'static>, Question, Tool),
    moves: u32,
) -> anyhow::Result<Subject> {
    let address = front.address(fronted.name)?;
    answers(question, address).await.with_context(|| format!("{} through the front", fronted.name))?;
    // The first moves bring the image: not among those measured.
    for to in [NODES[1], NODES[0]] {
        continuum.migrate(fronted.name, to).await?;
    }
    let own = ClosedLoop::start(question, address)?;
    let stop = AtomicBool::new(false);
    let moving = async {
        let moved = async {
            let mut downtimes = Vec::new();
            for number in 0..moves {
                tokio::time::sleep(BETWEEN).await;
                let to = NODES[if number % 2 == 0 { 1 } else { 0 }];
                let downtime = migrate(sterna, continuum, fronted.name, to).await?;
                progress(&format!("{} moved to {to}, downtime {downtime:.0} ms", fronted.name));
                downtimes.push(downtime);
            }
            tokio::time::sleep(BETWEEN).await;
            anyhow::Ok(downtimes)
        }
        .await;
        stop.store(true, Ordering::SeqCst);
        moved
    };
    let (moved, told) = tokio::join!(moving, tool.rounds(address, &stop));
    Ok(Subject { service: fronted.name, tool, told: told?, own: own.seen(), moves, downtimes: moved? })
}

async fn answers(question: Question, address: std::net::SocketAddr) -> anyhow::Result<()> {
    let client = ClosedLoop::start(question, address)?;
    sterna_e2e::zoo::eventually(TO_ANSWER, || async {
        ensure!(client.seen().answered > 0, "no answer: {:?}", client.seen());
        Ok(())
    })
    .await
}

fn shown(results: &Results) -> String {
    let mut rows = Vec::new();
    for one in &results.subjects {
        let ms = |value: f64| format!("{value:.0} ms");
        let of = |client: &str, answered: u64, failed: u64, longest: f64| {
            [
                format!("{}, {} moves", one.service, one.moves),
                client.to_owned(),
                answered.to_string(),
                failed.to_string(),
                ms(longest),
                one.longest_downtime().map_or_else(|| "unknown".to_owned(), ms),
            ]
        };
        rows.push(of(one.tool.program(), one.told.answered, one.told.failed, one.told.longest));
        rows.push(of("one question at a time", one.own.answered, one.own.failed, one.own.longest_gap));
    }
    let said = results.subjects.iter().flat_map(|one| one.told.said.iter().chain(&one.own.said));
    let said: Vec<String> = said.map(|line| format!("\n  - {line}")).collect();
    let failures = if said.is_empty() {
        String::new()
    } else {
        format!("\n\nwhat was said of failures{}", said.concat())
    };
    let header = ["service", "client", "answered", "failed", "longest without answer", "longest downtime"];
    let (rows, verdicts) = (table::table(header, rows), table::verdicts(&results.verdicts));
    format!("Clients of a service that moves behind a front\n{rows}{failures}\n\n{verdicts}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;

    #[test]
    fn failures_are_shown_with_what_was_said() {
        let told =
            Told { rounds: 1, answered: 10, failed: 2, longest: 800.0, said: vec!["broken".to_owned()] };
        let own = Seen { answered: 5, failed: 0, longest_gap: 900.0, said: Vec::new() };
        let downtimes = vec![650.0, 750.0, 640.0];
        let subject =
            Subject { service: "redis", tool: Tool::RedisBenchmark, told, own, moves: 10, downtimes };
        let verdicts = subject.verdicts();
        assert_eq!(verdicts.iter().filter(|one| one.outcome == Outcome::Missed).count(), 2, "{verdicts:?}");
        let text = shown(&Results { subjects: vec![subject], verdicts });
        for part in ["redis, 10 moves", "redis-benchmark", "800 ms", "900 ms", "750 ms", "  - broken"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_services_publish_what_the_front_stands_before() {
        let text = services().unwrap();
        assert!(text.contains("6379/tcp") && text.contains("8080/tcp"));
    }
}
