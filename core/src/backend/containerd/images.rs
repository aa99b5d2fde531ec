//! Images that are here: a small reader for images that were imported and unpacked by `ctr`.

use super::client::Client;
use super::convert;
use crate::backend::UnpackedImage;
use crate::error::{Error, ErrorKind, Result};
use crate::types::ImageInfo;
use containerd_client::services::v1::{
    DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, ReadContentRequest,
};
use oci_spec::image::{ImageConfiguration, ImageManifest};
use sha2::{Digest, Sha256};

pub(super) async fn get(client: &Client, name: &str) -> Result<Option<ImageInfo>> {
    Ok(record(client, name).await?.map(info))
}

pub(super) async fn list(client: &Client) -> Result<Vec<ImageInfo>> {
    let mut service = client.images();
    let reply =
        client.call("list images", service.list(client.request(ListImagesRequest::default()))).await?;
    Ok(reply.images.into_iter().map(info).collect())
}

pub(super) async fn delete(client: &Client, name: &str) -> Result<bool> {
    let mut service = client.images();
    let request = DeleteImageRequest { name: name.to_owned(), ..DeleteImageRequest::default() };
    match client.call("delete the image", service.delete(client.request(request))).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.with("image", name)),
    }
}

pub(super) async fn unpacked(
    client: &Client,
    name: &str,
    _platform: Option<&str>,
    _snapshotter: &str,
) -> Result<UnpackedImage> {
    let Some(record) = record(client, name).await? else {
        return Err(Error::not_found("the image is not here").with("image", name));
    };
    let corrupt = |e: oci_spec::OciSpecError| Error::data_corrupt("the image cannot be read").caused_by(e);
    let target = record.target.unwrap_or_default();
    let manifest = ImageManifest::from_reader(&read(client, &target.digest).await?[..]).map_err(corrupt)?;
    let config = read(client, manifest.config().digest().as_ref()).await?;
    let config = ImageConfiguration::from_reader(&config[..]).map_err(corrupt)?;
    let mut chain = String::new();
    for diff in config.rootfs().diff_ids() {
        chain = if chain.is_empty() {
            diff.clone()
        } else {
            let sum = Sha256::digest(format!("{chain} {diff}"));
            format!("sha256:{}", sum.iter().map(|b| format!("{b:02x}")).collect::<String>())
        };
    }
    let run = config.config().clone().unwrap_or_default();
    Ok(UnpackedImage {
        name: name.to_owned(),
        top_snapshot: chain,
        env: run.env().clone().unwrap_or_default(),
        user: run.user().clone().unwrap_or_default(),
        working_dir: run.working_dir().clone().unwrap_or_default(),
    })
}

async fn record(client: &Client, name: &str) -> Result<Option<Image>> {
    let mut service = client.images();
    let request = client.request(GetImageRequest { name: name.to_owned() });
    match client.call("read the image", service.get(request)).await {
        Ok(reply) => Ok(reply.image),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("image", name)),
    }
}

async fn read(client: &Client, digest: &str) -> Result<Vec<u8>> {
    const DOING: &str = "read content";
    let mut service = client.content();
    let request = client.request(ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 });
    let mut stream = client.call_unbounded(DOING, service.read(request)).await?;
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await.map_err(|status| client.failed(DOING, status))? {
        bytes.extend(part.data);
    }
    Ok(bytes)
}

fn info(image: Image) -> ImageInfo {
    let target = image.target.unwrap_or_default();
    ImageInfo {
        name: image.name,
        digest: target.digest,
        media_type: target.media_type,
        platform: String::new(),
        size: 0,
        created_at: convert::timestamp(image.created_at).to_string(),
        updated_at: convert::timestamp(image.updated_at).to_string(),
    }
}
