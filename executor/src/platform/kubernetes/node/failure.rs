//! What went wrong with a request, before it is known what the request was for.

use kube::core::Status;

use super::ClusterError;
use super::condition::refusal;
use super::place::Place;
use crate::error_chain::chain;

/// Why an object could not be made or asked for.
pub enum Failure {
    /// The API server's answer.
    Status(Box<Status>),
    /// It did not answer.
    Silent(String),
    /// It was not asked.
    Other(ClusterError),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status),
            error => Self::Silent(chain(&error)),
        }
    }
}

impl Failure {
    /// As an error of what was being done at that place.
    pub fn told(self, doing: String, place: &Place) -> ClusterError {
        match self {
            Self::Status(status) => ClusterError::Refused {
                doing,
                said: status.message.clone(),
                remedy: refusal(&status).remedy(place.context.as_deref(), &place.namespace),
            },
            Self::Silent(reason) => ClusterError::Refused {
                doing,
                said: format!("the API server does not answer: {reason}"),
                remedy: "Is the cluster up, and does the kubeconfig lead to it? `kubectl cluster-info` asks it too. What \
                         runs on its nodes runs on."
                    .to_owned(),
            },
            Self::Other(error) => error,
        }
    }
}
