use super::Engine;
use crate::backend::{PullRequest, PullTracker};
use crate::error::{Error, Result};
use crate::names::ImageRef;
use crate::operation::Operation;
use crate::store::NewEvent;
use crate::types::{
    ImageDeleteResult, ImageInfo, ImageList, ImageName, LifecycleKind, PullOptions, PullPolicy, PullResult,
    ResolvedDigest,
};

/// The images of an engine's backend.
#[derive(Debug, Clone)]
pub struct Images {
    engine: Engine,
}

impl Images {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Fetches and unpacks an image. Layers that are here are not fetched again. Events: `pulling`, `pull_progress`…,
    /// or `pull_skipped`; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed name; NOT_FOUND when the registry, or with policy `never` the backend, has no
    /// such image; UNAUTHENTICATED; UNAVAILABLE; TIMEOUT after stalls; DATA_CORRUPT when bytes do not match their
    /// digest; FAILED_PRECONDITION when the image has nothing for the platform; RESOURCE_EXHAUSTED on a full disk;
    /// CANCELLED. In each case nothing half is kept.
    pub fn pull(&self, options: PullOptions) -> Operation<PullResult> {
        let engine = self.engine.clone();
        let image = ImageRef::parse(&options.image);
        let about = image.as_ref().ok().map(|image| ("image", image.to_string()));
        self.engine.inner.runner.run_about("image.pull", about, async move |context| {
            let image = image?;
            let name = image.to_string();
            let request = PullRequest {
                image,
                policy: options.policy.unwrap_or(PullPolicy::Always),
                platform: options.platform,
                snapshotter: options.snapshotter.unwrap_or(engine.config().containerd.snapshotter.clone()),
                credential: None,
            };
            let tracker = PullTracker::default();
            let pull = engine.inner.backend.pull(&request, &tracker, context.cancel_token());
            let pulled = context.with_pull_progress(&name, &tracker, pull).await?;
            if !pulled.skipped {
                let event = NewEvent::new(LifecycleKind::Pull).image(&name).operation(context.id());
                engine.inner.store.tell(&event).await?;
            }
            context.complete_with(|event| event.image_info = Some(Box::new(pulled.image.clone())));
            Ok(PullResult {
                image: pulled.image,
                skipped: pulled.skipped,
                downloaded_bytes: pulled.downloaded_bytes,
                pull_ms: pulled.pull_ms,
                unpack_ms: pulled.unpack_ms,
            })
        })
    }

    /// Asks the registry what a name points at, and fetches nothing.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED, UNAVAILABLE.
    pub async fn resolve_digest(&self, name: ImageName) -> Result<ResolvedDigest> {
        const OPERATION: &str = "image.resolve_digest";
        let inner = &self.engine.inner;
        inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        let image = ImageRef::parse(&name.image).map_err(|e| e.in_operation(OPERATION))?;
        inner.registry.resolve_digest(&image, None).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// The images that are here.
    ///
    /// # Errors
    /// UNAVAILABLE when the backend does not answer.
    pub async fn list(&self) -> Result<ImageList> {
        self.engine.inner.runner.check_open().map_err(|e| e.in_operation("image.list"))?;
        let mut images =
            self.engine.inner.backend.images().await.map_err(|e| e.in_operation("image.list"))?;
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ImageList { images })
    }

    /// One image that is here. Short and full names find the same.
    ///
    /// # Errors
    /// INVALID_ARGUMENT; NOT_FOUND when it is not here; UNAVAILABLE.
    pub async fn get(&self, name: ImageName) -> Result<ImageInfo> {
        self.get_inner(name).await.map_err(|e| e.in_operation("image.get"))
    }

    async fn get_inner(&self, name: ImageName) -> Result<ImageInfo> {
        self.engine.inner.runner.check_open()?;
        let image = ImageRef::parse(&name.image)?.to_string();
        self.engine
            .inner
            .backend
            .image(&image)
            .await?
            .ok_or_else(|| Error::not_found("the image is not here: pull it").with("image", image))
    }

    /// Removes an image's name. Its content goes with the backend's next garbage collection, unless something stands
    /// on it. One that is not here is no error.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, UNAVAILABLE.
    pub async fn delete(&self, name: ImageName) -> Result<ImageDeleteResult> {
        self.delete_inner(name).await.map_err(|e| e.in_operation("image.delete"))
    }

    async fn delete_inner(&self, name: ImageName) -> Result<ImageDeleteResult> {
        self.engine.inner.runner.check_open()?;
        let image = ImageRef::parse(&name.image)?.to_string();
        Ok(ImageDeleteResult { deleted: self.engine.inner.backend.delete_image(&image).await? })
    }
}
