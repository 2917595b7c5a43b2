//! How commands reach the scheduler of a settings file: its history, which can be read at any time, and its API while it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use sterna_core::continuum::Continuum;
use sterna_daemon::api::token;
use sterna_daemon::api::view::{Health, RefusedFile};
use sterna_daemon::control::desk::{Governs, Seen, Standing};
use sterna_daemon::history::HistoryStore;
use sterna_daemon::settings::Settings;

use crate::run::unusable_settings;
use crate::wiring::{self, Output};

/// What commands about a scheduler are asked with.
#[derive(Debug, clap::Args)]
pub struct Of {
    /// The settings file of the scheduler.
    #[arg(long, short, env = "STERNA_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Who says something to a scheduler, and why; kept with it.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// Who says so [default: the name of the user].
    #[arg(long, value_name = "NAME", env = "STERNA_BY")]
    by: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Who {
    /// As the API wants it, with more keys.
    pub fn body(&self, more: &[(&str, &str)]) -> anyhow::Result<Value> {
        let user = || ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let by =
            self.by.clone().or_else(user).context("it is not known who you are: say it with --by NAME")?;
        let mut body = serde_json::Map::new();
        body.insert("by".to_owned(), by.into());
        body.extend(self.reason.clone().map(|reason| ("reason".to_owned(), reason.into())));
        body.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
        Ok(Value::Object(body))
    }
}

/// Answers come soon, or nobody is there.
const PATIENCE: Duration = Duration::from_secs(35);

/// What a scheduler that runs says of itself.
pub struct Live {
    /// Whether its loop works, or why not.
    pub health: Health,
    /// Files whose content it can't use.
    pub refused: Vec<RefusedFile>,
}

/// The scheduler of a settings file.
pub struct Service {
    settings: Settings,
    /// The continuum as the inventory has it.
    pub continuum: Continuum,
    http: reqwest::Client,
}

impl Service {
    /// Reads the settings and the inventory, not the policy: a command that stops a scheduler must not depend on that.
    pub fn open(config: &Path) -> anyhow::Result<Self> {
        let settings = Settings::load(config).map_err(unusable_settings)?;
        let continuum = wiring::inventory(&settings.inventory)?;
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { settings, continuum, http })
    }

    fn folder(&self) -> PathBuf {
        self.settings.state_of(&self.continuum.name)
    }

    /// What happened, to be read only.
    pub fn history(&self) -> anyhow::Result<HistoryStore> {
        let folder = self.folder();
        HistoryStore::read(&folder)?.with_context(|| {
            format!(
                "nothing has happened yet: there is no history in {}; start the scheduler with `sterna run`",
                folder.display()
            )
        })
    }

    /// Where the API is reached from this machine.
    fn url(&self, path: &str) -> String {
        let listen = self.settings.listen;
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}/api/v1{path}", SocketAddr::new(ip, listen.port()))
    }

    /// Asks the scheduler; `None` where none runs.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.http.get(self.url(path)).send().await {
            Ok(response) => Ok(Some(answer(response).await?)),
            Err(error) if error.is_connect() => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} does not answer", self.url(path))),
        }
    }

    /// What only the scheduler itself knows; `None` where none runs for this continuum.
    pub async fn live(&self) -> Option<Live> {
        let status = self.ask("/status").await.ok().flatten()?;
        let ours = status.get("continuum").and_then(Value::as_str) == Some(&self.continuum.name);
        let health = status.get("health").filter(|_| ours)?;
        let reason = health.get("reason").and_then(Value::as_str).map(str::to_owned);
        let health = Health { ready: health.get("ready")?.as_bool()?, reason };
        let refused = status.get("refused").cloned();
        let refused = refused.and_then(|refused| serde_json::from_value(refused).ok()).unwrap_or_default();
        Some(Live { health, refused })
    }

    /// Says something to the scheduler that changes something.
    pub async fn say(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = match &self.settings.token_file {
            Some(file) => token::read(file)?,
            None => token::read(&self.folder().join(token::FILE)).context(
                "the scheduler's token can't be read; it makes one when it starts, for the user that it runs as",
            )?,
        };
        let url = self.url(path);
        match self.http.post(&url).bearer_auth(text).json(body).send().await {
            Ok(response) => answer(response).await,
            Err(error) if error.is_connect() => bail!(
                "no scheduler of `{}` runs at {}: nothing was changed. Start it with `sterna run`",
                self.continuum.name,
                self.settings.listen
            ),
            Err(error) => Err(error).with_context(|| format!("{url} does not answer")),
        }
    }

    /// What was in force and seen at the newest decision; `None` where none was made.
    pub async fn standing(&self, history: &HistoryStore) -> anyhow::Result<Option<Standing>> {
        let mut all = Vec::new();
        for number in history.newest_of_each_policy(jiff::Timestamp::now()).await? {
            all.extend(history.decision(number).await?.map(|recorded| (number, recorded)));
        }
        let newest = all.iter().map(|(_, recorded)| recorded.now).max();
        // One that has not looked for long beside the others was not in force any more.
        all.retain(|(_, recorded)| {
            let interval = recorded.policy.trigger.interval.to_duration();
            let next = recorded.now.checked_add(interval * 3 + Duration::from_secs(600));
            newest.is_none_or(|newest| next.is_ok_and(|next| next >= newest))
        });
        let mut policies = Vec::new();
        for (number, recorded) in all {
            let (policy, mode) = (recorded.policy.name, recorded.policy.mode);
            let (at, observation, decision) = (recorded.now, recorded.observation, recorded.decision);
            let seen = Some(Arc::new(Seen { number, at, observation, decision, notes: Vec::new() }));
            policies.push((recorded.policy.priority, Governs { policy, mode, seen }));
        }
        policies.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.policy.cmp(&other.policy)));
        let policies: Vec<Governs> = policies.into_iter().map(|(_, governs)| governs).collect();
        let continuum = Arc::new(self.continuum.clone());
        Ok((!policies.is_empty()).then_some(Standing { continuum, policies, refused: BTreeMap::new() }))
    }
}

/// An answer, or the error that it is with what to do next.
async fn answer(response: reqwest::Response) -> anyhow::Result<Value> {
    let (status, url) = (response.status(), response.url().clone());
    let value: Value =
        response.json().await.with_context(|| format!("{url} answers {status}, and not as Sterna"))?;
    if status.is_success() {
        return Ok(value);
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?");
    bail!("{}; {}", text("message"), text("next"))
}

/// An instant for people.
pub fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// So long ago, or the instant itself.
pub fn since(text: &str) -> Result<jiff::Timestamp, String> {
    sterna_daemon::api::ask::since(text, jiff::Timestamp::now())
}
