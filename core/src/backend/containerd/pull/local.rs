//! Images as containerd has them.

use crate::backend::containerd::client::Client;
use crate::backend::containerd::{content, images};
use crate::error::{Error, Result};
use crate::registry::{
    Descriptor, Document, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Platform, choose, wrong_platform,
};
use containerd_client::services::v1::Image;
use futures::future::try_join_all;

/// Indexes may point at indexes, but not for ever.
pub(super) const MAX_DEPTH: u32 = 4;

/// What is here of an image.
pub(in super::super) enum Local {
    Absent,
    /// A record whose documents are not all here.
    Incomplete,
    /// A record with manifest and configuration; its layers may be here or not.
    Described(Box<LocalImage>),
}

/// An image's record and documents.
pub(in super::super) struct LocalImage {
    pub(in super::super) record: Image,
    pub(in super::super) config: ImageConfig,
    pub(super) config_descriptor: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl LocalImage {
    /// Compressed bytes of configuration and layers.
    pub(in super::super) fn size(&self) -> u64 {
        self.layers.iter().fold(self.config_descriptor.size, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// Reads the image of this name for a platform.
///
/// # Errors
/// FAILED_PRECONDITION when it is not made for the platform, DATA_CORRUPT or UNSUPPORTED for what is no image, else as
/// [`Client::call`].
pub(in super::super) async fn local(client: &Client, name: &str, platform: &Platform) -> Result<Local> {
    match images::find(client, name).await? {
        Some(record) => describe_record(client, record, platform).await.map_err(|e| e.with("image", name)),
        None => Ok(Local::Absent),
    }
}

/// Reads what a record points at.
///
/// # Errors
/// As [`local`].
pub(in super::super) async fn describe_record(
    client: &Client,
    record: Image,
    platform: &Platform,
) -> Result<Local> {
    let target = record.target.clone().unwrap_or_default();
    let (mut digest, mut media_type) = (target.digest, target.media_type);
    for _ in 0..MAX_DEPTH {
        let Some(bytes) = content::read_small(client, &digest, MAX_MANIFEST).await? else {
            return Ok(Local::Incomplete);
        };
        match Document::parse(&bytes, &media_type)?.0 {
            Document::Index(entries) => {
                let entry = choose(&entries, platform)?;
                digest.clone_from(&entry.digest);
                media_type.clone_from(&entry.media_type);
            }
            Document::Manifest { config: config_descriptor, layers } => {
                let Some(bytes) = content::read_small(client, &config_descriptor.digest, MAX_CONFIG).await?
                else {
                    return Ok(Local::Incomplete);
                };
                let config = ImageConfig::parse(&bytes)?;
                check(&config, layers.len(), platform)?;
                return Ok(Local::Described(Box::new(LocalImage {
                    record,
                    config,
                    config_descriptor,
                    layers,
                })));
            }
        }
    }
    Err(too_deep())
}

pub(super) fn too_deep() -> Error {
    Error::unsupported(format!("the image's indexes point at indexes more than {MAX_DEPTH} times"))
}

/// Checks that a configuration goes with its manifest and the platform.
pub(super) fn check(config: &ImageConfig, layers: usize, platform: &Platform) -> Result<()> {
    let own = config.platform();
    // Very old and hand-made images name none.
    if !own.os.is_empty() && !own.architecture.is_empty() && platform.rank(&own).is_none() {
        return Err(wrong_platform(platform, &own.to_string()));
    }
    if config.diff_ids().len() != layers {
        return Err(Error::data_corrupt(
            "the image's manifest and configuration name different numbers of layers",
        )
        .with("manifest", layers)
        .with("configuration", config.diff_ids().len()));
    }
    Ok(())
}

/// Whether all layers are in the content store.
pub(super) async fn is_complete(client: &Client, image: &LocalImage) -> Result<bool> {
    let sizes = try_join_all(image.layers.iter().map(|layer| content::size(client, &layer.digest))).await?;
    Ok(sizes.iter().all(Option::is_some))
}
