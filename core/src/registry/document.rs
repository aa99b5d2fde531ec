//! The JSON documents of an image: index, manifest and configuration, in the OCI and the Docker dialect.

use super::hash::Hasher;
use super::platform::Platform;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The longest configuration.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;

/// The most layers an image may have: overlayfs stops at 500, and a workspace needs some of its own.
const MAX_LAYERS: usize = 450;

/// What points at another document or a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    fn check(&self) -> Result<()> {
        Hasher::matching(&self.digest)?;
        if i64::try_from(self.size).is_err() {
            return Err(
                Error::data_corrupt("the image names an impossible size").with("digest", &self.digest)
            );
        }
        Ok(())
    }

    /// Whether it describes the image instead of being one.
    fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(Platform::is_unknown)
            || self.annotations.as_ref().is_some_and(|a| a.contains_key("vnd.docker.reference.type"))
    }
}

/// An index or a manifest.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a document. Returns it with its media type: the one it was served or described with, else its own.
    ///
    /// # Errors
    /// DATA_CORRUPT when it is malformed or ambiguous, UNSUPPORTED for Docker's schema 1 and things that are no images.
    pub(crate) fn parse(bytes: &[u8], served: &str) -> Result<(Self, String)> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|e| Error::data_corrupt("the manifest is malformed").caused_by(e))?;
        if raw.schema_version == 1 || served.contains("distribution.manifest.v1") {
            return Err(Error::unsupported(
                "the image has a manifest of Docker's old schema 1: push it again with a current tool",
            ));
        }
        let own = raw.media_type.unwrap_or_default();
        let served = if matches!(served, "" | "application/json" | "application/octet-stream" | "text/plain")
        {
            own.as_str()
        } else {
            served
        };
        // One document with both meanings would be run by some tools as one image and by others as another.
        if !own.is_empty() && own != served || raw.manifests.is_some() && raw.layers.is_some() {
            return Err(Error::data_corrupt("the manifest contradicts its own media type")
                .with("served", served)
                .with("stated", own));
        }
        let docker = served.contains("docker");
        match (raw.manifests, raw.config) {
            (Some(entries), None) => {
                entries.iter().try_for_each(Descriptor::check)?;
                let named = if served.is_empty() { OCI_INDEX } else { served };
                if named != OCI_INDEX && named != DOCKER_LIST {
                    return Err(not_an_image(named));
                }
                Ok((Self::Index(entries), named.to_owned()))
            }
            (None, Some(config)) => {
                let layers = raw.layers.unwrap_or_default();
                config.check()?;
                layers.iter().try_for_each(Descriptor::check)?;
                if layers.len() > MAX_LAYERS {
                    return Err(Error::unsupported(format!(
                        "the image has more than {MAX_LAYERS} layers: squash it"
                    )));
                }
                let fallback = if docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
                let named = if served.is_empty() { fallback } else { served };
                if named != OCI_MANIFEST && named != DOCKER_MANIFEST {
                    return Err(not_an_image(named));
                }
                let image = matches!(
                    config.media_type.as_str(),
                    "" | "application/vnd.oci.image.config.v1+json"
                        | "application/vnd.docker.container.image.v1+json"
                        | "application/octet-stream"
                );
                if !image {
                    return Err(not_an_image(&config.media_type));
                }
                if let Some(layer) = layers.iter().find(|l| !l.media_type.contains("tar")) {
                    return Err(Error::unsupported("the image has a layer that is no tar archive")
                        .with("media_type", &layer.media_type)
                        .with("digest", &layer.digest));
                }
                if let Some(layer) = layers.iter().find(|l| l.media_type.contains("encrypted")) {
                    return Err(Error::unsupported(
                        "the image has an encrypted layer: decrypt it before pushing",
                    )
                    .with("digest", &layer.digest));
                }
                Ok((Self::Manifest { config, layers }, named.to_owned()))
            }
            _ => Err(Error::data_corrupt("the manifest names neither manifests nor a configuration")),
        }
    }
}

fn not_an_image(media_type: &str) -> Error {
    Error::unsupported("the name points at something that is no container image")
        .with("media_type", media_type)
}

/// The entry of an index that serves `wanted` best.
///
/// # Errors
/// FAILED_PRECONDITION that names the platforms offered.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor> {
    let images = || entries.iter().filter(|entry| !entry.is_attestation());
    let ranked = images().filter_map(|entry| Some((wanted.rank(entry.platform.as_ref()?)?, entry)));
    // `min_by_key` keeps the first of equals, as the image's author ordered them.
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    if let Some(unnamed) = images().find(|entry| entry.platform.is_none()) {
        return Ok(unnamed);
    }
    let mut offered: Vec<String> =
        images().filter_map(|e| e.platform.as_ref()).map(Platform::to_string).collect();
    offered.dedup();
    Err(wrong_platform(wanted, &offered.join(", ")))
}

/// The error of an image that does not run here.
pub(crate) fn wrong_platform(wanted: &Platform, offered: &str) -> Error {
    Error::failed_precondition(
        "the image is not made for this platform: choose another image or set `platform`",
    )
    .with("platform", wanted)
    .with("offered", if offered.is_empty() { "none" } else { offered })
}

/// The parts of an image's configuration that are used.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
    #[serde(default)]
    pub(crate) config: Option<Execution>,
    #[serde(default)]
    rootfs: Option<RootFs>,
}

/// How the image wants to be run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Execution {
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) working_dir: Option<String>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) cmd: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// DATA_CORRUPT when it is malformed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::data_corrupt("the image's configuration is malformed").caused_by(e))?;
        config.diff_ids().iter().try_for_each(|id| Hasher::matching(id).map(drop))?;
        Ok(config)
    }

    /// The platform it names.
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        }
    }

    /// The digests of the uncompressed layers, lowest first.
    pub(crate) fn diff_ids(&self) -> &[String] {
        self.rootfs.as_ref().and_then(|r| r.diff_ids.as_deref()).unwrap_or_default()
    }

    /// The snapshot name of each layer, lowest first: what it stands for with all layers below
    /// (<https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md#layer-chainid>).
    pub(crate) fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::new();
        for id in self.diff_ids() {
            let next = match chain.last() {
                None => id.clone(),
                Some(below) => Hasher::sha256(format!("{below} {id}").as_bytes()),
            };
            chain.push(next);
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn entry(digest: &str, platform: &str) -> String {
        let mut parts = platform.split('/');
        let (os, arch) = (parts.next().unwrap(), parts.next().unwrap());
        let variant = parts.next().map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{arch}"{variant}}}}}"#
        )
    }

    fn index(entries: &[String]) -> Vec<Descriptor> {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        match Document::parse(text.as_bytes(), OCI_INDEX).unwrap() {
            (Document::Index(entries), _) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_index_gives_the_best_platform_and_never_an_attestation() {
        let entries = index(&[entry(A, "unknown/unknown"), entry(B, "linux/arm64/v8")]);
        let arm = Platform::parse(Some("linux/arm64")).unwrap();
        assert_eq!(choose(&entries, &arm).unwrap().digest, B);
        let error = choose(&entries, &Platform::parse(Some("linux/amd64")).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let text = error.to_string();
        assert!(text.contains("offered: linux/arm64/v8") && !text.contains("unknown"), "{text}");
    }

    #[test]
    fn confusing_and_old_documents_are_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{{"digest":"{A}","size":1}}}}"#
        );
        for (text, served, kind) in [
            (both.as_str(), OCI_MANIFEST, ErrorKind::DataCorrupt),
            (r#"{"schemaVersion":1}"#, "", ErrorKind::Unsupported),
            (r#"{"schemaVersion":2}"#, OCI_MANIFEST, ErrorKind::DataCorrupt),
            ("{", OCI_MANIFEST, ErrorKind::DataCorrupt),
            (r#"{"schemaVersion":2,"mediaType":"a","manifests":[]}"#, OCI_INDEX, ErrorKind::DataCorrupt),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1},"layers":[]}"#,
                OCI_MANIFEST,
                ErrorKind::DataCorrupt,
            ),
        ] {
            assert_eq!(
                Document::parse(text.as_bytes(), served).err().map(|e| e.kind()),
                Some(kind),
                "{text}"
            );
        }
    }

    #[test]
    fn artefacts_that_are_no_images_are_refused() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{A}","size":1}},"layers":[]}}"#
        );
        let error = Document::parse(text.as_bytes(), OCI_MANIFEST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn chains_are_named_as_the_specification_says() {
        let config = ImageConfig::parse(
            format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{A}","{B}"]}}}}"#)
                .as_bytes(),
        )
        .unwrap();
        let chain = config.chain_ids();
        assert_eq!(chain[0], A);
        assert_eq!(chain[1], Hasher::sha256(format!("{A} {B}").as_bytes()));
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["sha256:/"]}}"#).is_err());
        assert!(ImageConfig::parse(b"{}").unwrap().chain_ids().is_empty());
    }
}
