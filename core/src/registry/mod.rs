//! The client side of the distribution protocol: which hosts serve a registry, how they are asked, what they answer.
//!
//! It follows containerd's `hosts.toml`, Docker's `config.json` and the distribution specification 1.1. It knows
//! nothing of backends: manifests come out as checked bytes, blobs as streams that survive dropped connections.

mod blob;
mod broken;
mod challenge;
mod client;
mod credentials;
mod document;
mod endpoint;
mod hash;
mod helper;
mod hosts_file;
mod manifest;
mod platform;
mod request;
mod retry;
mod tls;
mod token;

pub(crate) use blob::BlobStream;
pub(crate) use client::{Registry, Repository};
pub(crate) use document::{Descriptor, Document, ImageConfig, MAX_CONFIG, choose, wrong_platform};
pub(crate) use hash::Hasher;
pub(crate) use manifest::{Fetched, MAX_MANIFEST};
pub(crate) use platform::Platform;
