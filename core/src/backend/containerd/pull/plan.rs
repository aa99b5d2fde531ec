//! What there is to fetch: documents first, layers from them.

use super::local::{MAX_DEPTH, check, too_deep};
use crate::backend::containerd::client::Client;
use crate::backend::containerd::content;
use crate::error::{Error, Result};
use crate::registry::{
    BlobStream, Descriptor, Document, Fetched, Hasher, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Platform,
    Repository, choose,
};
use bytes::Bytes;
use containerd_client::types::Descriptor as Target;
use std::collections::HashMap;
use std::sync::Arc;

/// A document to keep, byte for byte as it was served.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// What the write of it is called, as containerd's own client has it.
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) bytes: Bytes,
    /// What it points at, so that garbage collection keeps that too.
    pub(super) labels: HashMap<String, String>,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: String,
    /// The snapshot it becomes.
    pub(super) chain_id: String,
    /// The snapshot it stands on; empty for none.
    pub(super) parent: String,
}

/// An image to pull.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) documents: Vec<Stored>,
    pub(super) config: ImageConfig,
    pub(super) config_descriptor: Descriptor,
    pub(super) layers: Vec<Layer>,
    /// Bytes of documents that came over the network.
    pub(super) downloaded: u64,
}

/// The layers of an image, lowest first.
pub(super) fn layers(config: &ImageConfig, descriptors: &[Descriptor]) -> Vec<Layer> {
    let chain = config.chain_ids();
    let mut parent = String::new();
    let mut layers = Vec::new();
    for ((descriptor, diff_id), chain_id) in descriptors.iter().zip(config.diff_ids()).zip(chain) {
        layers.push(Layer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            chain_id: chain_id.clone(),
            parent: std::mem::replace(&mut parent, chain_id),
        });
    }
    layers
}

/// Asks the registry what an image is made of. Documents that are here by digest are not fetched again.
pub(super) async fn plan(client: &Client, repository: &Arc<Repository>, platform: &Platform) -> Result<Plan> {
    let mut fetched = repository.root().await?;
    let mut downloaded = fetched.bytes.len() as u64;
    let mut target: Option<Target> = None;
    let mut documents = Vec::new();
    for _ in 0..MAX_DEPTH {
        let (document, media_type) = Document::parse(&fetched.bytes, &fetched.media_type)?;
        target.get_or_insert_with(|| Target {
            media_type,
            digest: fetched.digest.clone(),
            size: fetched.bytes.len() as i64,
            annotations: HashMap::new(),
        });
        match document {
            Document::Index(entries) => {
                documents.push(stored("index", &fetched, index_labels(&entries)));
                let entry = choose(&entries, platform)?.clone();
                fetched = match content::read_small(client, &entry.digest, MAX_MANIFEST).await? {
                    Some(bytes) => Fetched { bytes, digest: entry.digest, media_type: entry.media_type },
                    None => {
                        let mut fetched = repository.manifest(&entry.digest, Some(&entry.digest)).await?;
                        downloaded += fetched.bytes.len() as u64;
                        // What the index says decides: some registries name no type.
                        if !entry.media_type.is_empty() {
                            fetched.media_type = entry.media_type;
                        }
                        fetched
                    }
                };
            }
            Document::Manifest { config: descriptor, layers: descriptors } => {
                documents.push(stored("manifest", &fetched, manifest_labels(&descriptor, &descriptors)));
                let bytes = match content::read_small(client, &descriptor.digest, MAX_CONFIG).await? {
                    Some(bytes) => bytes,
                    None => {
                        downloaded += descriptor.size;
                        small_blob(repository, &descriptor).await?
                    }
                };
                let config = ImageConfig::parse(&bytes)?;
                check(&config, descriptors.len(), platform)?;
                documents.push(Stored {
                    name: format!("config-{}", descriptor.digest),
                    digest: descriptor.digest.clone(),
                    bytes,
                    labels: HashMap::new(),
                });
                let target = target.ok_or_else(|| Error::unexpected("a pull without a target"))?;
                let layers = layers(&config, &descriptors);
                return Ok(Plan {
                    target,
                    documents,
                    config,
                    config_descriptor: descriptor,
                    layers,
                    downloaded,
                });
            }
        }
    }
    Err(too_deep())
}

fn stored(kind: &str, fetched: &Fetched, labels: HashMap<String, String>) -> Stored {
    Stored {
        name: format!("{kind}-{}", fetched.digest),
        digest: fetched.digest.clone(),
        bytes: fetched.bytes.clone(),
        labels,
    }
}

fn index_labels(entries: &[Descriptor]) -> HashMap<String, String> {
    let label = |(n, entry): (usize, &Descriptor)| {
        (format!("containerd.io/gc.ref.content.m.{n}"), entry.digest.clone())
    };
    entries.iter().enumerate().map(label).collect()
}

fn manifest_labels(config: &Descriptor, layers: &[Descriptor]) -> HashMap<String, String> {
    let label = |(n, layer): (usize, &Descriptor)| {
        (format!("containerd.io/gc.ref.content.l.{n}"), layer.digest.clone())
    };
    let mut labels: HashMap<String, String> = layers.iter().enumerate().map(label).collect();
    labels.insert("containerd.io/gc.ref.content.config".to_owned(), config.digest.clone());
    labels
}

async fn small_blob(repository: &Arc<Repository>, descriptor: &Descriptor) -> Result<Bytes> {
    if descriptor.size > MAX_CONFIG {
        return Err(Error::data_corrupt(format!(
            "the image's configuration is longer than {MAX_CONFIG} bytes"
        ))
        .with("blob", &descriptor.digest));
    }
    let mut stream = BlobStream::new(repository.clone(), &descriptor.digest, descriptor.size, 0)?;
    let mut bytes = Vec::with_capacity(descriptor.size as usize);
    while let Some(more) = stream.next().await? {
        bytes.extend_from_slice(&more);
    }
    Hasher::check(&bytes, &descriptor.digest, "configuration")?;
    Ok(bytes.into())
}
