//! The engine's images, with all their layers.

use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes as Data;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sterna_policies::quantity::Bytes;

use super::{Engine, EngineError, failed, image_name, is_not_found};

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

    /// An image with all its layers, as `docker save` writes it.
    pub fn save_image(
        &self,
        image: &str,
    ) -> impl Stream<Item = Result<Data, std::io::Error>> + Send + 'static {
        let docker = self.docker.clone();
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

    /// Takes in an image as `docker save` writes it.
    ///
    /// # Errors
    /// When the stream breaks or the engine refuses.
    pub async fn load_image<S>(&self, stream: S) -> Result<(), EngineError>
    where
        S: Stream<Item = Result<Data, std::io::Error>> + Send + 'static,
    {
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        self.docker
            .import_image_stream(options, stream, None)
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(failed("load the image"))
    }
}
