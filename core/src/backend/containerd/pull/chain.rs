//! From a layer's directory, or its blob, to a committed snapshot.

use super::apply::{self, Applied};
use super::plan::Layer;
use super::scratch::Directories;
use super::session::Session;
use super::snapshots;
use crate::error::{Error, Result};
use containerd_client::services::v1::ApplyRequest;
use containerd_client::types::{Descriptor, Mount};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// What says which snapshot an active one becomes.
const REF_LABEL: &str = "containerd.io/snapshot.ref";

/// A key is new each time, but somebody else may be quicker to make what it is for.
const ATTEMPTS: u32 = 5;

/// A key of an active snapshot, in the form that containerd's own client has.
pub(super) fn key(what: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let random = RandomState::new().build_hasher().finish();
    format!("extract-{nanos}-{random:016x} {what}")
}

/// Makes a layer's snapshot on top of its parent, which is there. `name` is its directory's in the scratch area.
/// One that somebody else made in the meantime is as good.
pub(super) async fn settle(
    session: &Session,
    layer: &Layer,
    name: &str,
    mut applied: Option<Applied>,
) -> Result<()> {
    let (client, lease, snapshotter) = (&session.client, session.lease.id(), session.snapshotter.as_str());
    let chain = layer.chain_id.as_str();
    let labels = HashMap::from([(REF_LABEL.to_owned(), chain.to_owned())]);
    for _ in 0..ATTEMPTS {
        let key = key(chain);
        session.active().insert(key.clone());
        let prepared =
            snapshots::prepare(client, lease, snapshotter, &key, &layer.parent, labels.clone()).await?;
        let Some(mounts) = prepared else {
            session.active().remove(&key);
            if adopt(session, chain).await? {
                return Ok(());
            }
            continue;
        };
        let moved = match applied.take() {
            Some(applied) => put_in_place(session, name, &mounts, applied)
                .await
                .map_err(|e| e.with("blob", &layer.descriptor.digest))?,
            None => false,
        };
        if !moved {
            diff_apply(session, layer, mounts).await?;
        }
        if snapshots::commit(client, lease, snapshotter, chain, &key, labels.clone()).await? {
            session.active().remove(&key);
            return Ok(());
        }
        // Somebody else was quicker. Ours is removed with what else is left at the end.
        if adopt(session, chain).await? {
            return Ok(());
        }
    }
    Err(Error::unavailable("the snapshot of a layer appears and disappears: somebody else removes it")
        .with("snapshot", chain))
}

/// Keeps a snapshot that is there. Returns false when it is not.
pub(super) async fn adopt(session: &Session, chain: &str) -> Result<bool> {
    use crate::error::ErrorKind;
    if !snapshots::exists(&session.client, &session.snapshotter, chain).await? {
        return Ok(false);
    }
    match session.lease.protect_snapshot(&session.client, &session.snapshotter, chain).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // It may have been collected between the two.
    snapshots::exists(&session.client, &session.snapshotter, chain).await
}

async fn put_in_place(session: &Session, name: &str, mounts: &[Mount], applied: Applied) -> Result<bool> {
    let (Some(scratch), Some(directories)) = (&session.scratch, Directories::of(mounts)) else {
        return Ok(false);
    };
    // Before the exchange: the snapshot's own directory has the owner that its parent gave it.
    let lower = directories.lower;
    let token = session.alive.token();
    let work = move || {
        let done = applied.settle(&lower).map_err(apply::failed);
        drop(token);
        done
    };
    let settled = tokio::task::spawn_blocking(work).await;
    settled.map_err(|e| Error::unexpected("a task of the pull broke").caused_by(e))??;
    scratch.exchange(name, &directories.upper)
}

/// Lets containerd unpack a layer that is in its content store.
async fn diff_apply(session: &Session, layer: &Layer, mounts: Vec<Mount>) -> Result<()> {
    let client = &session.client;
    let diff = Descriptor {
        media_type: layer.descriptor.media_type.clone(),
        digest: layer.descriptor.digest.clone(),
        size: layer.descriptor.size as i64,
        annotations: HashMap::new(),
    };
    let message = ApplyRequest { diff: Some(diff), mounts, ..ApplyRequest::default() };
    let request = client.leased(message, session.lease.id())?;
    let reply = client
        .call_unbounded("unpack a layer", client.diff().apply(request))
        .await
        .map_err(|e| e.with("blob", &layer.descriptor.digest))?;
    let found = reply.applied.map(|applied| applied.digest).unwrap_or_default();
    if found != layer.diff_id {
        return Err(Error::data_corrupt(
            "the unpacked layer does not have the digest that the configuration names",
        )
        .with("blob", &layer.descriptor.digest)
        .with("diff_id", &layer.diff_id)
        .with("found", found));
    }
    Ok(())
}
