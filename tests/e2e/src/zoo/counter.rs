//! Servers that count in memory: Python, Node.js and Java. Each draws a token when it starts, so that another life of it
//! would be known by it, and answers with token, count, and the counters of its own threads where it has some.

use anyhow::{Context as _, ensure};

use super::load::{Load, http, page};
use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

/// A server that counts.
#[derive(Debug)]
pub struct Counter {
    service: Service,
    port: u16,
    load: Option<Load>,
    before: Option<State>,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    token: String,
    count: u64,
    threads: Vec<u64>,
}

impl State {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut words = text.split_whitespace();
        let token = words.next().context("the server says nothing")?.to_owned();
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let (count, threads) = numbers.split_first().context("the server tells no count")?;
        Ok(Self { token, count: *count, threads: threads.to_vec() })
    }
}

/// Puts a program into the container and runs it.
fn written(file: &str, program: &str, run: &str) -> String {
    format!("cat >{file} <<'END'\n{program}\nEND\nexec {run}")
}

impl Counter {
    fn new(name: &str, port: u16, command: &[&str]) -> Self {
        let service = Service::new(name, IMAGE, command).port(port);
        Self { service, port, load: None, before: None }
    }

    /// In Python, on a thread per request.
    pub fn python() -> Self {
        Self::new("python", 8101, &["python3", "-c", include_str!("programs/counter.py"), "8101"])
    }

    /// In JavaScript, on Node.js.
    pub fn node() -> Self {
        Self::new("node", 8102, &["node", "-e", include_str!("programs/counter.js"), "8102"])
    }

    /// In Java, with threads that count for themselves.
    pub fn java() -> Self {
        let run = "java -Xmx96m /Counter.java 8103";
        Self::new(
            "java",
            8103,
            &["sh", "-c", &written("/Counter.java", include_str!("programs/Counter.java"), run)],
        )
    }

    async fn state<G: Ground>(&self, place: Place<'_, G>) -> anyhow::Result<State> {
        State::read(&page(&http()?, place.address(self.port).await?, "/").await?)
    }
}

impl Workload for Counter {
    fn service(&self) -> Service {
        self.service.clone()
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let state = eventually(std::time::Duration::from_secs(30), || self.state(place)).await?;
        let client = http()?;
        let load = Load::start(place.addresses(self.port).await?, move |address, _| {
            let client = client.clone();
            async move {
                client.post(format!("http://{address}/")).send().await?.error_for_status()?;
                Ok(())
            }
        });
        load.more(50).await?;
        self.load = Some(load);
        self.before = Some(state);
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let (load, before) = self.load.as_ref().zip(self.before.as_ref()).context("it was not driven")?;
        load.more(50).await?;
        let low = load.counts();
        let state = self.state(place).await?;
        let high = load.counts();
        ensure!(state.token == before.token, "another process: {} was {}", state.token, before.token);
        ensure!(
            low.acknowledged <= state.count && state.count <= high.asked,
            "it counted {}, its client had {low:?} acknowledged before and {high:?} after",
            state.count
        );
        ensure!(
            state.threads.len() == before.threads.len()
                && state.threads.iter().zip(&before.threads).all(|(now, then)| now > then),
            "its threads do not all go on: {:?} were {:?}",
            state.threads,
            before.threads
        );
        let seen = format!("counts on at {}, {} acknowledged", state.count, low.acknowledged);
        self.before = Some(state);
        Ok(seen)
    }

    async fn rest<G: Ground>(&mut self, _place: Place<'_, G>) -> anyhow::Result<()> {
        self.load = None;
        Ok(())
    }
}
