//! How the API server is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

use crate::error_chain::chain;

/// How long the API server may take to answer.
const TO_ANSWER: Duration = Duration::from_secs(10);

/// The API server can't be reached.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The kubeconfig can't be used.
    #[error("can't use the kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The kubeconfig can't be used with that context.
    #[error(
        "can't use the context `{context}` of the kubeconfig ($KUBECONFIG, else ~/.kube/config): {reason}"
    )]
    Context {
        /// The context.
        context: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing says where it is.
    #[error(
        "nothing says where the Kubernetes API server is: name a kubeconfig, or run as a pod with a service account ({0})"
    )]
    Nowhere(String),
    /// No client can be made.
    #[error("can't make a client of the Kubernetes API server: {0}")]
    Client(String),
}

/// A client of the API server that a kubeconfig names. Without one: that of the cluster whose pod this is, or that of
/// `$KUBECONFIG` or `~/.kube/config`.
///
/// # Errors
/// When neither can be used.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ConnectionError> {
    let config = match kubeconfig {
        Some(path) => named(path).await?,
        None => inferred().await?,
    };
    to(config, TO_ANSWER)
}

/// A client of the API server that a context of `$KUBECONFIG` or `~/.kube/config` names. Without one: the current one, or that
/// of the cluster whose pod this is.
///
/// # Errors
/// When neither can be used.
pub async fn client_of_context(context: Option<&str>) -> Result<Client, ConnectionError> {
    to(of_context(context).await?, TO_ANSWER)
}

/// The same for watches, which may say nothing for as long as `quiet`.
///
/// # Errors
/// As above.
pub async fn watching_client(context: Option<&str>, quiet: Duration) -> Result<Client, ConnectionError> {
    to(of_context(context).await?, quiet)
}

async fn of_context(context: Option<&str>) -> Result<Config, ConnectionError> {
    let Some(context) = context else { return inferred().await };
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
    let wrong = |reason| ConnectionError::Context { context: context.to_owned(), reason };
    Config::from_kubeconfig(&options).await.map_err(|error| wrong(chain(&error)))
}

async fn inferred() -> Result<Config, ConnectionError> {
    Config::infer().await.map_err(|error| ConnectionError::Nowhere(chain(&error)))
}

fn to(mut config: Config, to_answer: Duration) -> Result<Client, ConnectionError> {
    config.connect_timeout = Some(TO_ANSWER);
    config.read_timeout = Some(to_answer);
    Client::try_from(config).map_err(|error| ConnectionError::Client(chain(&error)))
}

async fn named(path: &Path) -> Result<Config, ConnectionError> {
    let wrong = |reason| ConnectionError::Kubeconfig { path: path.to_owned(), reason };
    let file = Kubeconfig::read_from(path).map_err(|error| wrong(chain(&error)))?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(chain(&error)))
}
