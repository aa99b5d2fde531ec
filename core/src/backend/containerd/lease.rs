use super::client::Client;
use crate::error::{ErrorKind, Result};
use containerd_client::services::v1::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// When containerd may take back what a crash left under a lease.
const EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// A lease: what is made under it survives garbage collection until it is deleted.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    id: String,
}

impl Lease {
    /// Makes a lease. If this process dies, it runs out after a day.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn create(client: &Client) -> Result<Self> {
        let id = format!("dunnage-pull-{}", uuid::Uuid::now_v7().simple());
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

    /// Deletes the lease. With `sync`, what only it protected is gone when this returns.
    ///
    /// # Errors
    /// As [`Client::call`]; a lease that is gone already is none.
    pub(crate) async fn delete(&self, client: &Client, sync: bool) -> Result<()> {
        let request = client.request(DeleteRequest { id: self.id.clone(), sync });
        match client.call("delete a lease", client.leases().delete(request)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
