//! Putting images into a registry's storage directory, without sending them through the registry.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::fixtures::{
    Descriptor, Entry, Family, Image, Layer, LayerWriter, Layout, Packing, Variant, hex_of,
};

/// Puts `image`, changed as `variant` says, under `repository:tag`.
pub(crate) fn add(
    storage: &Path,
    image: &Image,
    variant: &Variant,
    repository: &str,
    tag: &str,
) -> Result<()> {
    let names = repository.split('/').chain([tag]);
    if names.into_iter().any(|name| name.is_empty() || name.starts_with('.')) {
        return Err(Error::new(format!("{repository}:{tag} is no name for a registry")));
    }
    let target = Target { storage, repository };
    let digest = match &variant.marker {
        None => {
            target.add_tree(image, image.root())?;
            image.root().digest.clone()
        }
        Some(marker) => {
            // New blobs are made in the storage's own file system, then linked like all others.
            let scratch = storage.join(format!(".marked-{}", crate::paths::random_hex(6)?));
            let made = target.add_marked(image, &Layout::create(&scratch)?, marker);
            fs::remove_dir_all(&scratch).context("cannot remove a scratch directory")?;
            made?
        }
    };
    let tags = target.repository().join("_manifests/tags").join(tag);
    link_file(&tags.join("current"), &digest)?;
    link_file(&tags.join("index/sha256").join(hex_of(&digest)?), &digest)
}

struct Target<'a> {
    storage: &'a Path,
    repository: &'a str,
}

impl Target<'_> {
    fn repository(&self) -> std::path::PathBuf {
        self.storage.join("repositories").join(self.repository)
    }

    /// Adds a manifest or an index with all it refers to.
    fn add_tree(&self, image: &Image, root: &Descriptor) -> Result<()> {
        let document = image.json(&root.digest)?;
        for child in descriptors(&document, "manifests")? {
            self.add_tree(image, &child)?;
        }
        let config = document.get("config").cloned().map(serde_json::from_value::<Descriptor>).transpose();
        let config = config.context("cannot read a manifest")?;
        for blob in descriptors(&document, "layers")?.into_iter().chain(config) {
            self.add_layer(&image.served_blob(&blob.digest)?, &blob.digest)?;
        }
        self.add_manifest(&image.served_blob(&root.digest)?, &root.digest)
    }

    /// Adds a marked copy of an image's tree and returns the digest of its new root.
    fn add_marked(&self, image: &Image, scratch: &Layout, marker: &str) -> Result<String> {
        self.mark(image, scratch, marker, image.root()).map(|root| root.digest)
    }

    fn mark(&self, image: &Image, scratch: &Layout, marker: &str, root: &Descriptor) -> Result<Descriptor> {
        let mut document = image.json(&root.digest)?;
        let family = Family::of(&root.media_type);
        let children = descriptors(&document, "manifests")?;
        let mut made = if children.is_empty() {
            let layer = marker_layer(scratch, marker)?;
            self.add_layer(&blob(scratch, &layer.digest)?, &layer.digest)?;
            let old = document.pointer("/config/digest").and_then(Value::as_str).unwrap_or_default();
            let config = scratch.put_json(family.config(), &marked_config(image.json(old)?, &layer)?)?;
            self.add_layer(&blob(scratch, &config.digest)?, &config.digest)?;
            for blob in descriptors(&document, "layers")? {
                self.add_layer(&image.served_blob(&blob.digest)?, &blob.digest)?;
            }
            document["config"] = json!(config);
            push(
                &mut document,
                "/layers",
                json!({
                    "mediaType": family.layer(layer.packing), "digest": layer.digest, "size": layer.size,
                }),
            )?;
            scratch.put_json(&root.media_type, &document)?
        } else {
            let made: Vec<Descriptor> = children
                .iter()
                .map(|child| self.mark(image, scratch, marker, child))
                .collect::<Result<_>>()?;
            document["manifests"] = json!(made);
            scratch.put_json(&root.media_type, &document)?
        };
        self.add_manifest(&blob(scratch, &made.digest)?, &made.digest)?;
        made.platform.clone_from(&root.platform);
        made.annotations.clone_from(&root.annotations);
        Ok(made)
    }

    fn add_layer(&self, file: &Path, digest: &str) -> Result<()> {
        self.add_blob(file, digest)?;
        link_file(&self.repository().join("_layers/sha256").join(hex_of(digest)?), digest)
    }

    fn add_manifest(&self, file: &Path, digest: &str) -> Result<()> {
        self.add_blob(file, digest)?;
        link_file(&self.repository().join("_manifests/revisions/sha256").join(hex_of(digest)?), digest)
    }

    /// Hard-links a blob into the storage, or copies it where the file systems differ.
    fn add_blob(&self, file: &Path, digest: &str) -> Result<()> {
        let name = hex_of(digest)?;
        let dir = self.storage.join("blobs/sha256").join(name.get(..2).unwrap_or_default()).join(name);
        fs::create_dir_all(&dir).context("cannot make a directory of the registry")?;
        let data = dir.join("data");
        match fs::hard_link(file, &data) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(_) => {
                let part = dir.join(format!(".{}", crate::paths::random_hex(6)?));
                fs::copy(file, &part)
                    .and_then(|_| fs::rename(&part, &data))
                    .context(format_args!("cannot copy {} into the registry", file.display()))
            }
        }
    }
}

fn blob(layout: &Layout, digest: &str) -> Result<std::path::PathBuf> {
    Ok(layout.blobs().join(hex_of(digest)?))
}

fn marker_layer(scratch: &Layout, marker: &str) -> Result<Layer> {
    let mut layer = LayerWriter::create(&scratch.blobs(), Packing::Gzip)?;
    layer.add_bytes(&Entry::file("marker"), marker)?;
    layer.finish()
}

fn marked_config(mut config: Value, layer: &Layer) -> Result<Value> {
    push(&mut config, "/rootfs/diff_ids", json!(layer.diff_id))?;
    // The history is optional, and must match the layers when it is there.
    if config.get("history").is_some() {
        push(&mut config, "/history", json!({"created_by": "marker"}))?;
    }
    Ok(config)
}

fn push(document: &mut Value, pointer: &str, item: Value) -> Result<()> {
    let list = document.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.ok_or_else(|| Error::new(format!("the document has no list {pointer}")))?.push(item);
    Ok(())
}

fn descriptors(document: &Value, key: &str) -> Result<Vec<Descriptor>> {
    match document.get(key) {
        Some(list) => serde_json::from_value(list.clone()).context("cannot read descriptors"),
        None => Ok(Vec::new()),
    }
}

/// The registry's way to say that a name stands for a digest: a directory with a file `link`.
fn link_file(dir: &Path, digest: &str) -> Result<()> {
    fs::create_dir_all(dir).context("cannot make a directory of the registry")?;
    let part = dir.join(format!(".{}", crate::paths::random_hex(6)?));
    fs::write(&part, digest).context("cannot write into the registry")?;
    fs::rename(&part, dir.join("link")).context("cannot write into the registry")
}
