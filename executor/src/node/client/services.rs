//! Services and images of a node: asked for, started, read, removed.

use std::io;
use std::time::Duration;

use bytes::Bytes as Data;
use futures_util::Stream;
use reqwest::{Body, Method};
use sterna_core::continuum::ServiceName;
use sterna_policies::quantity::Millis;

use crate::node::api::{Arriving, Output, PullImage, ServiceFacts, StartService};
use crate::node::output;

use super::{ANSWER, AgentClient, ClientError};

/// Time for a service to be stopped and removed. It may have been given more to stop in: then it is removed all the same.
const REMOVED: Duration = Duration::from_secs(15 * 60);

impl AgentClient {
    /// The services that the node owns.
    ///
    /// # Errors
    /// When the agent does not answer or refuses; so for all calls below.
    pub async fn services(&self) -> Result<Vec<ServiceFacts>, ClientError> {
        self.answer(self.request(Method::GET, "/services").timeout(ANSWER)).await
    }

    /// What comes in there and is not finished, and which services its node has.
    ///
    /// # Errors
    /// As above.
    pub async fn holdings(&self) -> Result<(Vec<Arriving>, Vec<ServiceFacts>), ClientError> {
        tokio::try_join!(self.coming_in(), self.services())
    }

    /// Starts a service; one that is there already stays as it is.
    ///
    /// # Errors
    /// As above.
    pub async fn start_service(&self, start: &StartService) -> Result<ServiceFacts, ClientError> {
        self.post("/services", start).await
    }

    /// All that a service has written, from the beginning of its container on the node; with `follow` also what it is to write,
    /// until its container ends or goes. It ends after the last that was written there, or with an error where it broke off.
    ///
    /// # Errors
    /// As above, and when the service does not stand there.
    pub async fn logs(
        &self,
        service: &ServiceName,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Output, io::Error>> + Send + 'static + use<>, ClientError> {
        self.logs_at(service, None, follow).await
    }

    /// As [`AgentClient::logs`], of the container that the service has there at this epoch: it may have gone and come back.
    ///
    /// # Errors
    /// As above, and when the service does not stand there at this epoch.
    pub async fn logs_at(
        &self,
        service: &ServiceName,
        epoch: Option<u64>,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Output, io::Error>> + Send + 'static + use<>, ClientError> {
        let request = self.request(Method::GET, &format!("/services/{service}/logs"));
        let request = request.query(&[("follow", follow)]);
        let epoch = epoch.map(|epoch| [("epoch", epoch)]);
        let request = request.query(epoch.as_ref().map_or(&[][..], |epoch| epoch));
        Ok(output::pieces(self.send(request).await?.bytes_stream()))
    }

    /// Has a service stopped and removed, with the volumes that only it used. `false` where the node does not own it.
    ///
    /// # Errors
    /// As above, and while it is being moved.
    pub async fn remove_service(&self, service: &ServiceName) -> Result<bool, ClientError> {
        let request = self.request(Method::DELETE, &format!("/services/{service}")).timeout(REMOVED);
        match self.answer::<()>(request).await {
            Ok(()) => Ok(true),
            Err(ClientError::Absent { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the node's engine pull an image from its registry, if it lacks it. The engine may take so long.
    ///
    /// # Errors
    /// As above, and when the image can't be had.
    pub async fn pull_image(&self, image: &str, within: Duration) -> Result<(), ClientError> {
        let pull = PullImage { image: image.to_owned(), within: Millis::from_duration(within) };
        let request = self.request(Method::POST, "/images/pull").json(&pull);
        self.answer(request.timeout(within.saturating_add(ANSWER))).await
    }

    /// Whether the node's engine has an image with this digest or name; its digest.
    ///
    /// # Errors
    /// As above.
    pub async fn image_digest(&self, image: &str) -> Result<Option<String>, ClientError> {
        let request = self.request(Method::GET, "/images").query(&[("image", image)]).timeout(ANSWER);
        self.answer(request).await
    }

    /// Gives the node's engine an image, as `docker save` writes it. The engine may take so long.
    ///
    /// # Errors
    /// As above.
    pub async fn load_image<S>(&self, stream: S, within: Duration) -> Result<(), ClientError>
    where
        S: Stream<Item = Result<Data, io::Error>> + Send + 'static,
    {
        let request = self.request(Method::PUT, "/images").query(&[("within", within.as_secs())]);
        self.answer(request.body(Body::wrap_stream(stream))).await
    }
}
