use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PullPolicy {
    /// Only when the image is not here.
    #[default]
    IfNotPresent,
    /// Always; layers that are here are not fetched again.
    Always,
    /// Never: the image must be here.
    Never,
}

/// How to pull an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PullOptions {
    /// The image, short or full.
    pub image: String,
    /// When to ask the registry. Default `always`: a pull that is asked for is done.
    pub policy: Option<PullPolicy>,
    /// The platform, as `os/arch[/variant]`. Default: the host's.
    pub platform: Option<String>,
    /// The snapshotter to unpack into. Default: the configured one.
    pub snapshotter: Option<String>,
}

setters!(PullOptions {
    image: String;
    policy: PullPolicy => Some;
    platform: String => Some;
    snapshotter: String => Some;
});

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PullResult {
    /// The image as it is kept.
    pub image: ImageInfo,
    /// Whether the registry was not asked.
    pub skipped: bool,
    /// Bytes that came over the network.
    pub downloaded_bytes: u64,
    /// Milliseconds from the start until the last byte was stored.
    pub pull_ms: u64,
    /// Milliseconds from then until the last layer was unpacked.
    pub unpack_ms: u64,
}

/// An image by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImageName {
    /// The image, short or full.
    pub image: String,
}

setters!(ImageName { image: String; });

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Its name, in the full form.
    pub name: String,
    /// The digest of what the name points at: an index or a manifest.
    pub digest: String,
    /// The media type of that.
    pub media_type: String,
    /// The platform of the manifest chosen, as `os/arch[/variant]`; empty when its content is not here.
    pub platform: String,
    /// Compressed bytes of configuration and layers; 0 when the content is not here.
    pub size: u64,
    /// When the record was made, RFC 3339, UTC.
    pub created_at: String,
    /// When the record was last changed, RFC 3339, UTC.
    pub updated_at: String,
}

/// The images that are here, ordered by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ImageList {
    /// The images.
    pub images: Vec<ImageInfo>,
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ImageDeleteResult {
    /// Whether the image was here.
    pub deleted: bool,
}

/// What a registry says a name points at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResolvedDigest {
    /// The name, in the full form.
    pub image: String,
    /// The digest of the index or manifest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}
