//! Image records, and what they point at.

use super::client::Client;
use super::convert;
use super::pull::{self, Local, LocalImage};
use crate::backend::UnpackedImage;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Platform;
use crate::types::ImageInfo;
use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use futures::{StreamExt, TryStreamExt};

/// Records that are looked into at a time.
const AT_A_TIME: usize = 8;

/// The image of this full name, also when its record has a short one.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn get(client: &Client, name: &str) -> Result<Option<ImageInfo>> {
    match find(client, name).await? {
        Some(record) => info(client, record, &Platform::host()).await.map(Some),
        None => Ok(None),
    }
}

/// All images of the namespace.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn list(client: &Client) -> Result<Vec<ImageInfo>> {
    let ask = || {
        let request = client.request(ListImagesRequest { filters: Vec::new() });
        let mut service = client.images();
        async move { service.list(request).await }
    };
    let records = client.read("list images", ask).await?.images;
    let host = Platform::host();
    futures::stream::iter(records)
        .map(|record| info(client, record, &host))
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

/// Removes an image's record. Returns whether there was one. What only it pointed at is collected by containerd.
///
/// # Errors
/// As [`Client::call`].
pub(crate) async fn delete(client: &Client, name: &str) -> Result<bool> {
    let Some(record) = find(client, name).await? else { return Ok(false) };
    let request = client.request(DeleteImageRequest { name: record.name, sync: false, target: None });
    match client.call("delete an image", client.images().delete(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("image", name)),
    }
}

/// The error of an image whose record is here without all that it points at.
pub(super) fn incomplete(name: &str) -> Error {
    Error::failed_precondition("parts of the image are missing: pull it again").with("image", name)
}

/// What a container of an image starts from, once it is unpacked.
pub(super) fn start_of(image: &LocalImage) -> UnpackedImage {
    let run = image.config.config.clone().unwrap_or_default();
    UnpackedImage {
        name: image.record.name.clone(),
        top_snapshot: image.config.chain_ids().last().cloned().unwrap_or_default(),
        env: run.env.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        command: run.entrypoint.unwrap_or_default().into_iter().chain(run.cmd.unwrap_or_default()).collect(),
    }
}

/// The record of an image: under its full name, else under a short one that means the same.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Image>> {
    for name in names(name) {
        let ask = || {
            let request = client.request(GetImageRequest { name: name.to_owned() });
            let mut service = client.images();
            async move { service.get(request).await }
        };
        match client.read("look for an image", ask).await {
            Ok(reply) => return Ok(reply.image),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.with("image", name)),
        }
    }
    Ok(None)
}

/// The names under which an image may be recorded, the full one first.
fn names(full: &str) -> Vec<&str> {
    let mut names = vec![full];
    if let Some(short) = full.strip_prefix("docker.io/") {
        names.push(short);
        names.extend(short.strip_prefix("library/"));
    }
    names
}

/// Points a name at a target: a new record, or the old one changed.
///
/// # Errors
/// As [`Client::call`].
pub(super) async fn put(client: &Client, lease: &str, name: &str, target: Descriptor) -> Result<Image> {
    let image = Image { name: name.to_owned(), target: Some(target), ..Image::default() };
    let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    let created = client.call("record an image", client.images().create(client.leased(create, lease)?)).await;
    let reply = match created {
        Ok(reply) => reply.image,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let update = UpdateImageRequest {
                image: Some(image.clone()),
                update_mask: Some(prost_types::FieldMask { paths: vec!["target".to_owned()] }),
                source_date_epoch: None,
            };
            let request = client.leased(update, lease)?;
            client.call("change an image's record", client.images().update(request)).await?.image
        }
        Err(error) => return Err(error.with("image", name)),
    };
    Ok(reply.unwrap_or(image))
}

/// What is told of an image; its content is looked into for platform and size.
async fn info(client: &Client, record: Image, platform: &Platform) -> Result<ImageInfo> {
    // An image of another platform or a broken one is listed all the same.
    let described = match pull::describe_record(client, record.clone(), platform).await {
        Ok(Local::Described(image)) => Some(image),
        Ok(_) => None,
        Err(error) => match error.kind() {
            ErrorKind::FailedPrecondition | ErrorKind::DataCorrupt | ErrorKind::Unsupported => None,
            _ => return Err(error),
        },
    };
    Ok(shown(record, described.as_deref()))
}

/// A record as it is told, with what is known of its content.
pub(super) fn shown(record: Image, image: Option<&LocalImage>) -> ImageInfo {
    let target = record.target.unwrap_or_default();
    ImageInfo {
        name: record.name,
        digest: target.digest,
        media_type: target.media_type,
        platform: image.map(|i| i.config.platform().to_string()).unwrap_or_default(),
        size: image.map_or(0, LocalImage::size),
        created_at: convert::timestamp(record.created_at).to_string(),
        updated_at: convert::timestamp(record.updated_at).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_the_same_are_tried() {
        assert_eq!(names("docker.io/library/a:1"), ["docker.io/library/a:1", "library/a:1", "a:1"]);
        assert_eq!(names("docker.io/me/a:1"), ["docker.io/me/a:1", "me/a:1"]);
        assert_eq!(names("ghcr.io/me/a:1"), ["ghcr.io/me/a:1"]);
    }
}
