//! Real daemons and real images for dunnage's tests, benches and tours.
//!
//! - [`Containerd`]: a containerd with its own root, state, socket, namespaces and container network, in any of the
//!   versions that dunnage supports.
//! - [`Registry`]: a docker-registry on a loopback port, open or with a password, plain or behind TLS.
//! - [`S3`]: an S3 server on a loopback port, with buckets of its own.
//! - [`FaultProxy`]: what makes a registry or an S3 server misbehave.
//! - [`fixtures`]: images made at run time, from the smallest to the broken.
//!
//! Nothing outlives the process that asked for it, whatever its end: a second process, the warden, owns all daemons
//! and removes every trace as soon as its owner is gone. All calls block; in asynchronous tests they are short
//! enough to be called directly, but the first use of a big fixture or of a fetched containerd takes seconds.
//!
//! The program `dunnage-harness` offers the same to hosts in other languages.

mod apt;
mod cni;
mod containerd;
mod error;
pub mod fetch;
pub mod fixtures;
mod home;
mod leaks;
pub mod model;
mod paths;
mod proxy;
mod registry;
mod s3;
mod seed;
mod teardown;
mod tls;
pub mod warden;

pub use cni::{Network, PLUGIN_DIR};
pub use containerd::{Containerd, ContainerdOptions, Version};
pub use error::{Context, Error, Result};
pub use home::shut_down;
pub use leaks::Leaks;
pub use paths::{repository, target_dir};
pub use proxy::{Counts, Fault, FaultProxy, Seen};
pub use registry::{Auth, Registry, RegistryOptions};
pub use s3::{S3, S3Options};
pub use tls::{Authority, Identity, Tls};
