//! Pulling an image: from a registry into containerd's content store and, at the same time, into snapshots.
//!
//! [`pull`] decides whether the registry is asked and lets equal pulls share one [`flight`]; `run` carries one out under
//! a lease and undoes it when it fails; `fetch` brings a blob, once for the whole process and, by containerd's
//! lock on the name of a write, once for all processes; `apply` writes layers; `chain` makes snapshots of them in
//! order. Names, labels and keys are those of containerd's own client, so `ctr` and CRI use what is pulled here.

mod apply;
mod chain;
mod fetch;
mod flight;
mod keyed_lock;
mod local;
mod plan;
mod run;
mod scratch;
mod session;
mod snapshots;

pub(super) use local::{Local, LocalImage, describe_record, local};
pub(super) use run::unpack_local;
pub(super) use snapshots::exists as snapshot_exists;

use super::client::Client;
use super::images;
use crate::backend::{PullRequest, PullTracker, Pulled};
use crate::config::RegistryConfig;
use crate::error::{Error, Result};
use crate::registry::Platform;
use crate::types::PullPolicy;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Fetches an image and unpacks it, as the policy says.
///
/// # Errors
/// NOT_FOUND when the registry does not have it, or the policy is `never` and it is not here; FAILED_PRECONDITION for
/// another platform's image, and, with `never`, for one of which parts are missing; UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE and TIMEOUT as registry and daemon behave;
/// RESOURCE_EXHAUSTED on a full disk; DATA_CORRUPT naming the blob; CANCELLED. After any of them nothing of the pull
/// is left.
///
/// # Cancel safety
/// Dropping the future lets go of the pull: it is undone in the background unless another caller shares it.
pub(crate) async fn pull(
    client: &Client,
    config: &RegistryConfig,
    request: &PullRequest,
    tracker: &PullTracker,
    cancel: &CancellationToken,
) -> Result<Pulled> {
    let name = request.image.to_string();
    let platform = Platform::parse(request.platform.as_deref())?;
    if request.policy != PullPolicy::Always {
        let here = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled().with("image", name)),
            here = present(client, request, &name, &platform) => here?,
        };
        if let Some(pulled) = here {
            tracker.skipped();
            return Ok(pulled);
        }
        if request.policy == PullPolicy::Never {
            return Err(match images::find(client, &name).await? {
                Some(_) => images::incomplete(&name),
                None => Error::not_found("the image is not here and the pull policy is never: pull it first")
                    .with("image", name),
            });
        }
    }
    tracker.pulling();
    flight::join(client, config, request, platform, tracker, cancel).await.map_err(|e| e.with("image", name))
}

/// The image, when it is here with all its layers. They are unpacked if they are not yet.
async fn present(
    client: &Client,
    request: &PullRequest,
    name: &str,
    platform: &Platform,
) -> Result<Option<Pulled>> {
    let begun = Instant::now();
    let Local::Described(image) = local(client, name, platform).await? else { return Ok(None) };
    let unpacked = match image.config.chain_ids().last() {
        Some(top) => snapshot_exists(client, &request.snapshotter, top).await?,
        None => true,
    };
    if !unpacked {
        if !local::is_complete(client, &image).await? {
            return Ok(None);
        }
        unpack_local(client, &image, &request.snapshotter).await?;
    }
    Ok(Some(Pulled {
        unpacked: images::start_of(&image),
        image: images::shown(image.record.clone(), Some(&image)),
        skipped: true,
        downloaded_bytes: 0,
        pull_ms: 0,
        unpack_ms: if unpacked { 0 } else { begun.elapsed().as_millis() as u64 },
    }))
}

fn cancelled() -> Error {
    Error::cancelled("the pull was cancelled")
}

#[cfg(test)]
mod tests;
