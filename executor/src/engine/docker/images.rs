//! The engine's images, with all their layers.

use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::query_parameters::{CreateImageOptionsBuilder, ImportImageOptionsBuilder};
use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sterna_policies::quantity::Bytes;

use super::{Engine, EngineError, failed, image_name, is_not_found};

/// As long as any migration may take. Bounds what nobody else does.
pub const LONGEST_LOAD: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Size of an image with all its layers.
    ///
    /// # Errors
    /// When there is none or the engine does not answer.
    pub async fn image_size(&self, image: &str) -> Result<Bytes, EngineError> {
        let seen = self
            .docker
            .inspect_image(image_name(image)?)
            .await
            .map_err(failed(format!("inspect image {image}")))?;
        Ok(Bytes(seen.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)))
    }

    /// Digest of an image; `None` where this engine has no such image.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn image_digest(&self, image: &str) -> Result<Option<String>, EngineError> {
        match self.docker.inspect_image(image_name(image)?).await {
            Ok(seen) => Ok(seen.id),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(failed(format!("inspect image `{image}`"))(error)),
        }
    }

    /// Has the engine pull an image from its registry, if it lacks it.
    ///
    /// # Errors
    /// When it can't be had there, or not in time.
    pub async fn pull_image(&self, image: &str, within: Duration) -> Result<(), EngineError> {
        let whole = with_tag(image_name(image)?);
        if self.image_digest(&whole).await?.is_some() {
            return Ok(());
        }
        // In whole seconds.
        let within = within.clamp(Duration::from_secs(1), LONGEST_LOAD);
        let docker = self.docker.clone().with_timeout(within);
        let options = CreateImageOptionsBuilder::default().from_image(&whole).build();
        let pulling = docker.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) });
        match tokio::time::timeout(within, pulling).await {
            Ok(Ok(())) => Ok(()),
            Err(_) | Ok(Err(BollardError::RequestTimeoutError)) => {
                Err(EngineError::Late { what: "pull the image", within })
            }
            Ok(Err(source)) => Err(EngineError::Pull { image: whole, source }),
        }
    }

    /// An image with all its layers, as `docker save` writes it. The engine first writes all of it to its disk, for which it has
    /// the time that whoever reads it has.
    pub fn save_image(
        &self,
        image: &str,
    ) -> impl Stream<Item = Result<Data, std::io::Error>> + Send + 'static {
        let docker = self.docker.clone().with_timeout(LONGEST_LOAD);
        let image = image.to_owned();
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(docker.export_image(&image));
            while let Some(piece) = stream.next().await {
                if sender.send(piece.map_err(std::io::Error::other)).await.is_err() {
                    break;
                }
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(receiver)
    }

    /// Takes in an image as `docker save` writes it. The engine answers only once it has unpacked all of it.
    ///
    /// # Errors
    /// When the stream breaks, the engine refuses, or has not done it in time.
    pub async fn load_image<S>(&self, stream: S, within: Duration) -> Result<(), EngineError>
    where
        S: Stream<Item = Result<Data, std::io::Error>> + Send + 'static,
    {
        // In whole seconds.
        let within = within.clamp(Duration::from_secs(1), LONGEST_LOAD);
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let docker = self.docker.clone().with_timeout(within);
        let loading = docker.import_image_stream(options, stream, None).try_for_each(|_| async { Ok(()) });
        loading.await.map_err(|error| match error {
            BollardError::RequestTimeoutError => EngineError::Late { what: "load the image", within },
            error => failed("load the image")(error),
        })
    }
}

/// Without a tag the engine would pull all that there are.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// An engine that answers after so long.
    fn slow(folder: &Path, pause: Duration) -> Engine {
        let engine = Engine::deaf(folder);
        std::fs::remove_file(folder.join("engine.sock")).unwrap();
        let listener = UnixListener::bind(folder.join("engine.sock")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            tokio::time::sleep(pause).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            // Open until the client has read it.
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        engine
    }

    fn archive() -> impl Stream<Item = Result<Data, std::io::Error>> + Send + 'static {
        futures_util::stream::once(async { Ok(Data::from_static(b"archive")) })
    }

    #[test]
    fn one_image_is_meant() {
        for (said, meant) in [
            ("redis", "redis:latest"),
            ("redis:7", "redis:7"),
            ("registry.example:5000/a/redis", "registry.example:5000/a/redis:latest"),
            ("redis@sha256:00", "redis@sha256:00"),
        ] {
            assert_eq!(with_tag(said), meant);
        }
    }

    #[tokio::test]
    async fn a_slow_engine_has_the_time_that_the_caller_has_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        // For all other calls it has a second.
        let engine = slow(folder.path(), Duration::from_millis(1600));
        engine.load_image(archive(), Duration::from_secs(30)).await.unwrap();

        let folder = tempfile::tempdir().unwrap();
        let engine = slow(folder.path(), Duration::from_secs(60));
        let late = engine.load_image(archive(), Duration::from_secs(1)).await.unwrap_err();
        assert!(late.to_string().contains("did not load the image within 1 s"), "{late}");
        assert!(!late.is_refusal());
    }
}
