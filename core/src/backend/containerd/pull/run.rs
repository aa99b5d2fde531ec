use super::apply::Applied;
use super::chain;
use super::fetch;
use super::local::LocalImage;
use super::plan::{self, Layer, Plan};
use super::scratch::Scratch;
use super::session::Session;
use crate::backend::containerd::client::Client;
use crate::backend::containerd::lease::Lease;
use crate::backend::containerd::{content, images};
use crate::backend::{PullRequest, PullTracker, Pulled};
use crate::config::RegistryConfig;
use crate::error::{Error, Result};
use crate::registry::{Platform, Registry};
use futures::future::try_join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Layers unpacked at a time when nothing is fetched.
const LOCAL_LAYERS: usize = 4;

/// Pulls an image. When it fails or is cancelled, it is undone before this returns.
pub(super) async fn run(
    client: &Client,
    config: &RegistryConfig,
    request: &PullRequest,
    platform: &Platform,
    tracker: Arc<PullTracker>,
    cancel: &CancellationToken,
) -> Result<Pulled> {
    let begun = Instant::now();
    let repository = Arc::new(Registry::new(config)?.repository(&request.image, request.credential.clone())?);
    let plan = until(cancel, plan::plan(client, &repository, platform)).await?;
    tracker.set_layers(plan.layers.iter().map(|l| (l.descriptor.digest.clone(), l.descriptor.size)));
    let lease = Lease::create(client, "pull").await?;
    let parallel = config.parallel_layers as usize;
    let name = request.image.to_string();
    let mut session = Session::new(client, &name, &request.snapshotter, lease, tracker, parallel, begun);
    session.repository = Some(repository);
    session.downloaded = plan.downloaded.into();
    session.source = Some((
        format!("containerd.io/distribution.source.{}", request.image.registry()),
        request.image.repository().to_owned(),
    ));
    let work = async |session: &Arc<Session>| {
        let documents = try_join_all(plan.documents.iter().map(|d| fetch::document(session, d)));
        futures::try_join!(documents, layers(session, &plan.layers, true))?;
        point_at_snapshot(session, &plan.config_descriptor.digest, &plan.layers).await?;
        images::put(&session.client, session.lease.id(), &session.image, plan.target.clone()).await
    };
    let (session, record) = carried_out(session, cancel, work).await?;
    let (pull_ms, unpack_ms) = session.phases();
    let image = described(&plan, record);
    Ok(Pulled {
        unpacked: images::start_of(&image),
        image: images::shown(image.record.clone(), Some(&image)),
        skipped: false,
        downloaded_bytes: session.downloaded.load(Ordering::Relaxed),
        pull_ms,
        unpack_ms,
    })
}

/// Unpacks an image whose layers are in the content store.
///
/// # Errors
/// FAILED_PRECONDITION when one is not, else as a pull.
pub(in super::super) async fn unpack_local(
    client: &Client,
    image: &LocalImage,
    snapshotter: &str,
) -> Result<()> {
    let tracker = Arc::new(PullTracker::default());
    let lease = Lease::create(client, "pull").await?;
    let name = image.record.name.clone();
    let session = Session::new(client, &name, snapshotter, lease, tracker, LOCAL_LAYERS, Instant::now());
    let wanted = plan::layers(&image.config, &image.layers);
    let config = image.config_descriptor.digest.clone();
    let work = async move |session: &Arc<Session>| {
        layers(session, &wanted, false).await?;
        point_at_snapshot(session, &config, &wanted).await
    };
    // A caller that is gone must not leave a half-made snapshot: the work goes on without it.
    let task =
        tokio::spawn(async move { carried_out(session, &CancellationToken::new(), work).await.map(drop) });
    task.await
        .unwrap_or_else(|e| Err(Error::unexpected("a task that unpacks an image broke").caused_by(e)))
        .map_err(|e| e.with("image", name))
}

/// Does the work of a session and ends it: closed on success, undone otherwise.
async fn carried_out<T>(
    mut session: Session,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(&Arc<Session>) -> Result<T>,
) -> Result<(Arc<Session>, T)> {
    let scratch = until(cancel, Scratch::create(&session)).await;
    let (session, outcome) = match scratch {
        Ok(scratch) => {
            session.scratch = scratch;
            let session = Arc::new(session);
            let outcome = until(cancel, work(&session)).await;
            (session, outcome)
        }
        Err(error) => (Arc::new(session), Err(error)),
    };
    match outcome {
        Ok(done) => {
            if let Err(error) = session.close().await {
                // The image is here and recorded; the lease runs out by itself.
                tracing::warn!(error = error.message(), "cannot delete the lease of a pull");
            }
            Ok((session, done))
        }
        Err(error) => {
            session.undo().await;
            Err(error)
        }
    }
}

async fn until<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(super::cancelled()),
        done = work => done,
    }
}

/// Brings all layers, side by side, and makes their snapshots, one after the other.
async fn layers(session: &Arc<Session>, layers: &[Layer], fetching: bool) -> Result<()> {
    let here = unpacked(session, layers).await?;
    let mut tasks = JoinSet::new();
    let mut coming = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        if n < here && !fetching {
            continue;
        }
        let (tell, result) = oneshot::channel::<Option<Applied>>();
        if n >= here {
            coming.push((n, result));
        }
        let (owned, layer) = (session.clone(), layer.clone());
        let name = (n >= here).then(|| n.to_string());
        let task = async move {
            let applied = fetch::layer(&owned, &layer, name.as_deref()).await?;
            if name.is_none()
                && let Some(counter) = owned.tracker.layer(&layer.descriptor.digest)
            {
                counter.exists();
            }
            // Nobody waits for a layer that is unpacked already.
            let _ = tell.send(applied);
            Ok(())
        };
        tasks.spawn(session.alive.track_future(task));
    }
    let fetched = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap_or_else(|e| Err(Error::unexpected("a task of the pull broke").caused_by(e)))?;
        }
        Ok(())
    };
    let settled = async {
        for (n, result) in coming {
            // A task that failed has told its error to the other side, which ends all.
            let Ok(applied) = result.await else { return std::future::pending().await };
            chain::settle(session, &layers[n], &n.to_string(), applied).await?;
            if let Some(counter) = session.tracker.layer(&layers[n].descriptor.digest) {
                counter.done();
            }
        }
        Ok(())
    };
    futures::try_join!(fetched, settled).map(drop)
}

/// How many layers, from the lowest, are unpacked already. They are put under the lease.
async fn unpacked(session: &Session, layers: &[Layer]) -> Result<usize> {
    for n in (1..=layers.len()).rev() {
        if chain::adopt(session, &layers[n - 1].chain_id).await? {
            return Ok(n);
        }
    }
    Ok(0)
}

/// Makes the image's configuration keep the top snapshot from garbage collection.
async fn point_at_snapshot(session: &Session, config: &str, layers: &[Layer]) -> Result<()> {
    let Some(top) = layers.last() else { return Ok(()) };
    let label = format!("containerd.io/gc.ref.snapshot.{}", session.snapshotter);
    content::add_labels(&session.client, config, &HashMap::from([(label, top.chain_id.clone())])).await
}

fn described(plan: &Plan, record: containerd_client::services::v1::Image) -> LocalImage {
    LocalImage {
        record,
        config: plan.config.clone(),
        config_descriptor: plan.config_descriptor.clone(),
        layers: plan.layers.iter().map(|l| l.descriptor.clone()).collect(),
    }
}
