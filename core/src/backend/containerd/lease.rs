use super::client::Client;
use crate::error::{Error, ErrorKind, Result};
use containerd_client::services::v1::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// When containerd may take back what a crash left under a lease.
const EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// Leases that this process could not delete, with address and namespace of their daemon: it was away.
static LEFT: Mutex<Vec<(String, String, Lease)>> = Mutex::new(Vec::new());

/// A lease: what is made under it survives garbage collection until it is deleted.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    id: String,
}

impl Lease {
    /// Makes a lease, named after what it is for. If this process dies, it runs out after a day. Those that could not be deleted before are deleted
    /// now.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn create(client: &Client, purpose: &str) -> Result<Self> {
        while let Some(lease) = left(client) {
            if let Err(error) = lease.delete(client, true).await {
                let error = error.message();
                tracing::warn!(lease = lease.id, error, "cannot delete a lease that is left");
                break;
            }
        }
        let id = format!("dunnage-{purpose}-{}", uuid::Uuid::now_v7().simple());
        let expiry = Timestamp::now().saturating_add(EXPIRY).unwrap_or(Timestamp::MAX);
        let expiry = expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expiry)]);
        let request = client.request(CreateRequest { id: id.clone(), labels });
        client.call("create a lease", client.leases().create(request)).await?;
        Ok(Self { id })
    }

    /// Its id, for [`Client::leased`].
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Puts a snapshot that is there already under the lease.
    ///
    /// # Errors
    /// NOT_FOUND when it has gone, else as [`Client::call`].
    pub(crate) async fn protect_snapshot(
        &self,
        client: &Client,
        snapshotter: &str,
        name: &str,
    ) -> Result<()> {
        let resource = Resource { id: name.to_owned(), r#type: format!("snapshots/{snapshotter}") };
        let request = client.request(AddResourceRequest { id: self.id.clone(), resource: Some(resource) });
        client.call("put a snapshot under a lease", client.leases().add_resource(request)).await?;
        Ok(())
    }

    /// Deletes the lease. With `sync`, what only it protected is gone when this returns. When the daemon is away, the next
    /// lease that this process makes there deletes it.
    ///
    /// # Errors
    /// As [`Client::call`]; a lease that is gone already is none.
    pub(crate) async fn delete(&self, client: &Client, sync: bool) -> Result<()> {
        let request = client.request(DeleteRequest { id: self.id.clone(), sync });
        match client.call("delete a lease", client.leases().delete(request)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.remember(client, &error);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Notes a lease that is there still, when trying again may help.
    fn remember(&self, client: &Client, error: &Error) {
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            let of = (client.address().to_owned(), client.namespace().to_owned());
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).push((of.0, of.1, self.clone()));
        }
    }
}

/// Takes one of the leases that were left on this daemon.
fn left(client: &Client) -> Option<Lease> {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let here = left
        .iter()
        .position(|(address, namespace, _)| address == client.address() && namespace == client.namespace())?;
    Some(left.swap_remove(here).2)
}
