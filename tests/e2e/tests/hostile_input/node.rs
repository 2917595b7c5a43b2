//! The node that is called, seen from the host: what must be the same afterwards.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
use sterna_e2e::docker::docker;

/// Everything in one go: containers, volumes, images, files of the agent, runtime and staging.
const QUESTION: &str = r#"
set -e
docker ps --all --no-trunc --format 'container {{.ID}} {{.Names}} {{.State}}'
docker volume ls --format 'volume {{.Name}}'
docker image ls --all --no-trunc --format 'image {{.ID}} {{.Repository}}:{{.Tag}}'
find /var/lib/sterna /dev/shm /run/sterna /etc/sterna /root /tmp -printf 'file %p %y %m %U\n' | sort
"#;

/// Of the agent: its number, its start in clock ticks, the most memory that it had in KiB.
const AGENT: &str = r#"
for pid in $(grep -l '^sterna$' /proc/[0-9]*/comm | cut -d / -f 3); do
    grep -qz '^agent$' "/proc/$pid/cmdline" || continue
    echo "$pid $(cut -d ' ' -f 22 "/proc/$pid/stat") $(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")"
done
"#;

/// A node's container.
#[derive(Debug, Clone)]
pub struct Node {
    container: String,
    register: PathBuf,
}

/// An agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent {
    /// Its number in the node.
    pub pid: u32,
    /// When it was started, in clock ticks.
    pub start: u64,
    /// The most memory that it had, in KiB.
    pub peak: u64,
}

impl Node {
    /// The node that this container is.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn find(container: &str) -> anyhow::Result<Self> {
        let volume = format!("{container}-state");
        let state = docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]).await?;
        Ok(Self { container: container.to_owned(), register: PathBuf::from(state).join("agent.db") })
    }

    async fn run(&self, script: &str) -> anyhow::Result<String> {
        docker(&["exec", &self.container, "sh", "-c", script]).await
    }

    /// What it holds, a line each.
    ///
    /// # Errors
    /// When it does not run or its register can't be read.
    pub async fn holds(&self) -> anyhow::Result<Vec<String>> {
        let mut all: Vec<String> = self.run(QUESTION).await?.lines().map(str::to_owned).collect();
        all.extend(self.rows()?);
        all.sort();
        Ok(all)
    }

    /// Every row of the register.
    fn rows(&self) -> anyhow::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let register = Connection::open_with_flags(&self.register, flags).context("the register")?;
        let mut tables = register.prepare("select name from sqlite_master where type = 'table'")?;
        let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut all = Vec::new();
        for table in tables {
            let mut rows = register.prepare(&format!("select * from \"{table}\""))?;
            let columns = rows.column_count();
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let mut line = format!("row {table}");
                for column in 0..columns {
                    line.push_str(&format!(" {:?}", row.get_ref(column)?));
                }
                all.push(line);
            }
        }
        Ok(all)
    }

    /// Its agent.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub async fn agent(&self) -> anyhow::Result<Agent> {
        let text = self.run(AGENT).await?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|one| one.parse().ok()).collect();
        let [pid, start, peak] = numbers[..] else { anyhow::bail!("not one agent: `{text}`") };
        Ok(Agent { pid: u32::try_from(pid)?, start, peak })
    }

    /// Lines of its log that have one of these words.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn log_with(&self, words: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut command = tokio::process::Command::new("docker");
        let output = command.args(["logs", &self.container]).stdin(Stdio::null()).output().await?;
        ensure!(output.status.success(), "the log of {} can't be read", self.container);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(text
            .lines()
            .filter(|line| words.iter().any(|word| line.contains(word)))
            .map(str::to_owned)
            .collect())
    }
}
