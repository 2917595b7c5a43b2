//! Load generators that others made: how they are called, and what they print.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use serde::Serialize;
use sterna_e2e::process::{self, bound};

/// Connections that each of them holds.
const CONNECTIONS: &str = "16";
/// Requests of one round of redis-benchmark, per command: some seconds.
const REQUESTS: &str = "100000";
/// Length of one round of wrk, and the longest that it waits for an answer: the service may stand still meanwhile.
const ROUND: &str = "10s";
const TIMEOUT: &str = "60s";

/// How redis-benchmark begins to say that something failed.
const FAILURES: [&str; 3] = ["Error", "Could not connect", "All clients disconnected"];

/// A load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// Redis's own.
    RedisBenchmark,
    /// The one for HTTP.
    Wrk,
}

/// What one of them told, over all its rounds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Told {
    /// Rounds, as it has an end of its own.
    pub rounds: u32,
    /// Requests that were answered.
    pub answered: u64,
    /// Those that failed; a round of redis-benchmark ends with the first one.
    pub failed: u64,
    /// The longest that any of them took, in ms.
    pub longest: f64,
    /// What it said of failures.
    pub said: Vec<String>,
}

impl Told {
    fn add(&mut self, round: Self) {
        self.rounds += 1;
        self.answered += round.answered;
        self.failed += round.failed;
        self.longest = self.longest.max(round.longest);
        self.said.extend(round.said);
    }
}

impl Tool {
    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::RedisBenchmark => "redis-benchmark",
            Self::Wrk => "wrk",
        }
    }

    fn arguments(self, address: SocketAddr) -> Vec<String> {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let words: Vec<String> = match self {
            Self::RedisBenchmark => {
                let words =
                    ["-h", &host, "-p", &port, "-c", CONNECTIONS, "-n", REQUESTS, "-t", "set,get", "--csv"];
                words.map(str::to_owned).to_vec()
            }
            Self::Wrk => {
                let url = format!("http://{address}/");
                let words = [
                    "--threads",
                    "1",
                    "--connections",
                    CONNECTIONS,
                    "--duration",
                    ROUND,
                    "--timeout",
                    TIMEOUT,
                    &url,
                ];
                words.map(str::to_owned).to_vec()
            }
        };
        words
    }

    /// One round after the other until `stop` says so; the last one is waited for.
    ///
    /// # Errors
    /// When it can't be started, or prints what is not understood.
    pub async fn rounds(self, address: SocketAddr, stop: &AtomicBool) -> anyhow::Result<Told> {
        let mut all = Told::default();
        while !stop.load(Ordering::SeqCst) {
            let mut command = bound(Path::new(self.program()));
            command.args(self.arguments(address)).stdout(Stdio::piped()).stderr(Stdio::piped());
            let finished = process::run(&mut command).await.context(self.program())?;
            let mut round = match self {
                Self::RedisBenchmark => redis_benchmark(&finished.stdout, &finished.stderr)?,
                Self::Wrk => wrk(&finished.stdout)?,
            };
            if !finished.status.success() && round.failed == 0 {
                round.failed = 1;
                round.said.push(format!("{}: {}", finished.status, finished.stderr.trim()));
            }
            all.add(round);
        }
        Ok(all)
    }
}

/// What redis-benchmark printed as CSV: a line per command, with requests per second and latencies in ms.
fn redis_benchmark(out: &str, err: &str) -> anyhow::Result<Told> {
    let mut told = Told::default();
    let failure = |line: &&str| FAILURES.iter().any(|beginning| line.starts_with(beginning));
    for line in out.lines().chain(err.lines()).filter(failure) {
        told.failed += 1;
        told.said.push(line.trim().to_owned());
    }
    let rows: Vec<Vec<&str>> = out
        .lines()
        .filter(|line| line.starts_with('"'))
        .map(|line| line.split(',').map(|cell| cell.trim().trim_matches('"')).collect())
        .collect();
    let Some((header, rows)) = rows.split_first() else { return Ok(told) };
    let longest = header
        .iter()
        .position(|name| *name == "max_latency_ms")
        .context("redis-benchmark tells no latency")?;
    let requests: u64 = REQUESTS.parse()?;
    for row in rows {
        let value = row.get(longest).with_context(|| format!("redis-benchmark says {row:?}"))?;
        told.longest = told.longest.max(value.parse()?);
        told.answered += requests;
    }
    Ok(told)
}

/// A time as wrk writes it, in ms.
fn wrk_time(text: &str) -> Option<f64> {
    // The longer unit first: a number ends with `m` and with `ms`.
    for (unit, millis) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3)] {
        if let Some(number) = text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok()) {
            return Some(number * millis);
        }
    }
    None
}

/// What wrk printed.
fn wrk(out: &str) -> anyhow::Result<Told> {
    let mut told = Told { failed: 0, ..Told::default() };
    let mut understood = false;
    for line in out.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["Latency", _, _, most, ..] = words[..] {
            told.longest = wrk_time(most).with_context(|| format!("wrk says `{line}`"))?;
        } else if let [count, "requests", "in", ..] = words[..] {
            told.answered = count.parse().with_context(|| format!("wrk says `{line}`"))?;
            understood = true;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            for one in errors.split(',') {
                let count = one.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
                told.failed += count.with_context(|| format!("wrk says `{line}`"))?;
            }
            told.said.push(line.to_owned());
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            told.failed += count.trim().parse::<u64>().with_context(|| format!("wrk says `{line}`"))?;
            told.said.push(line.to_owned());
        }
    }
    if !understood {
        bail!("wrk says `{out}`");
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let out = "Running 10s test @ http://127.0.0.1:8080/\n  1 threads and 16 connections\n\
                   \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.54ms   24.33ms   1.02s    99.20%\n\
                   \x20   Req/Sec    17.80k     2.40k   20.70k    80.00%\n  17854 requests in 10.01s, 14.46MB read\n\
                   \x20 Socket errors: connect 0, read 3, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\n\
                   Requests/sec:  17854.93\n";
        let told = wrk(out).unwrap();
        assert_eq!((told.answered, told.failed, told.longest), (17854, 9, 1020.0));
        assert_eq!(told.said.len(), 2);
        assert!(wrk("unable to connect to 127.0.0.1:8080 Connection refused\n").is_err());
    }

    #[test]
    fn the_times_of_wrk_have_units() {
        assert_eq!(wrk_time("512.00us"), Some(0.512));
        assert_eq!(wrk_time("1.50ms"), Some(1.5));
        assert_eq!(wrk_time("2.00s"), Some(2000.0));
        assert_eq!(wrk_time("1.00m"), Some(60_000.0));
        assert_eq!(wrk_time("1.00"), None);
    }

    #[test]
    fn what_redis_benchmark_prints_is_understood() {
        let header = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                      \"p99_latency_ms\",\"max_latency_ms\"\n";
        let out = format!(
            "{header}\"SET\",\"71428.57\",\"0.1\",\"0.1\",\"0.1\",\"0.3\",\"0.4\",\"812.5\"\n\
             \"GET\",\"71428.57\",\"0.1\",\"0.1\",\"0.1\",\"0.3\",\"0.4\",\"3.1\"\n"
        );
        let told = redis_benchmark(&out, "").unwrap();
        assert_eq!((told.answered, told.failed, told.longest), (200_000, 0, 812.5));
        let broken = redis_benchmark(header, "Error: Server closed the connection\n").unwrap();
        assert_eq!((broken.answered, broken.failed), (0, 1));
        assert_eq!(redis_benchmark("", "").unwrap(), Told::default());
    }
}
