//! `sterna run`, beside the test or the demo: what it prints is kept, and shown where that is wanted.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::process::Running;
use crate::sterna::Sterna;

/// The policy's file beside the settings.
const POLICY: &str = "policy.toml";

/// What the scheduler is to work with.
#[derive(Debug, Clone)]
pub struct Work {
    /// The inventory file.
    pub inventory: PathBuf,
    /// The folder of the state.
    pub state: PathBuf,
    /// Address of Prometheus; `None` where the policy has nothing measured.
    pub prometheus: Option<String>,
    /// The policy, as text.
    pub policy: String,
}

impl Work {
    /// Writes settings and policy to `folder`; gives the path of the settings.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        std::fs::write(folder.join(POLICY), &self.policy)?;
        // A port that is free, whatever else runs here; commands find it in the settings.
        let listen = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut settings = toml::Table::from_iter([
            ("inventory".to_owned(), self.inventory.display().to_string().into()),
            ("policy".to_owned(), POLICY.into()),
            ("state".to_owned(), self.state.display().to_string().into()),
            ("listen".to_owned(), listen.to_string().into()),
        ]);
        if let Some(url) = &self.prometheus {
            let prometheus = toml::Table::from_iter([("url".to_owned(), url.clone().into())]);
            settings.insert("prometheus".to_owned(), prometheus.into());
        }
        let config = folder.join("sterna.toml");
        std::fs::write(&config, toml::to_string(&settings)?)?;
        Ok(config)
    }
}

/// The scheduler, running. Dropped, it is asked to end.
#[derive(Debug)]
pub struct Scheduler {
    running: Running,
    policy: PathBuf,
    printed: watch::Receiver<String>,
}

impl Scheduler {
    /// Starts it with settings and policy written to `folder`. Each line that it prints goes to `show` as well.
    ///
    /// # Errors
    /// When the files can't be written or it can't be started.
    pub fn start(
        sterna: &Sterna,
        work: &Work,
        folder: &Path,
        show: impl Fn(&str) + Send + Sync + Clone + 'static,
    ) -> anyhow::Result<Self> {
        let config = work.write(folder)?;
        let mut command = sterna.command();
        // What it logs for operators is said on standard output for people as well; colours are of no use in a log.
        command.env("STERNA_LOG", "warn").env("NO_COLOR", "1");
        command.arg("run").arg("--config").arg(&config).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command).context("can't start `sterna run`")?;
        let (keep, printed) = watch::channel(String::new());
        let (out, err) = (running.child().stdout.take(), running.child().stderr.take());
        tokio::spawn(listen(out, keep.clone(), show.clone()));
        tokio::spawn(listen(err, keep, show));
        Ok(Self { running, policy: folder.join(POLICY), printed })
    }

    /// Writes another policy over the one it was started with.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn change_policy(&self, text: &str) -> std::io::Result<()> {
        // As an editor does it: the file is never half there.
        let new = self.policy.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, &self.policy)
    }

    /// All that it has printed so far, on standard output and standard error.
    pub fn printed(&self) -> String {
        self.printed.borrow().clone()
    }

    /// Where it serves `/metrics` and the rest, once it has said so.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn url(&mut self) -> anyhow::Result<String> {
        let found = |printed: &str| {
            let (_, after) = printed.split_once("serving ")?;
            Some(after.trim_start().split_once("/metrics")?.0.to_owned())
        };
        let printed = self.until(Duration::from_secs(30), |printed| found(printed).is_some()).await?;
        found(&printed).context("the address is gone")
    }

    /// Its process.
    pub fn id(&self) -> Option<u32> {
        self.running.id()
    }

    /// Waits until what it has printed is what is waited for.
    ///
    /// # Errors
    /// When it ends before, or that takes longer than `most`; with all that it printed.
    pub async fn until(&mut self, most: Duration, enough: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let in_time = timeout(most, self.printed.wait_for(|printed| enough(printed)))
            .await
            .map(|closed| closed.is_ok());
        match in_time {
            Ok(true) => Ok(self.printed()),
            Ok(false) => {
                let status = self.running.child().wait().await?;
                bail!("`sterna run` ended ({status}); it had printed:\n{}", self.printed())
            }
            Err(_) => {
                bail!("`sterna run` did not say so within {most:?}; it has printed:\n{}", self.printed())
            }
        }
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.running.child().try_wait(), Ok(None))
    }

    /// Kills it, without a word, and waits until it is gone; gives all that it printed.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(mut self) -> anyhow::Result<String> {
        self.running.child().kill().await.context("killing `sterna run`")?;
        Ok(self.all_printed().await)
    }

    /// Asks it to stop in order: it orders nothing more, and follows what it has ordered to its end.
    pub fn ask_to_stop(&self) {
        self.running.ask_to_end();
    }

    /// Waits for it to end by itself; gives its exit code and all that it printed.
    ///
    /// # Errors
    /// When that takes longer than `most`.
    pub async fn ended(&mut self, most: Duration) -> anyhow::Result<(Option<i32>, String)> {
        let Ok(status) = timeout(most, self.running.child().wait()).await else {
            bail!("`sterna run` did not end within {most:?}; it has printed:\n{}", self.printed());
        };
        Ok((status?.code(), self.all_printed().await))
    }

    /// All that it printed, once it has ended.
    async fn all_printed(&mut self) -> String {
        // Closed when both pipes were read to their end.
        while self.printed.changed().await.is_ok() {}
        self.printed()
    }
}

async fn listen(from: Option<impl AsyncRead + Unpin>, keep: watch::Sender<String>, show: impl Fn(&str)) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        show(&line);
        keep.send_modify(|all| {
            all.push_str(&line);
            all.push('\n');
        });
    }
}
