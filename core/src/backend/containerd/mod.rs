//! containerd as a backend: one file per service, wire types only in `convert`.

mod client;
mod content;
mod convert;
pub(crate) mod images;
mod lease;
pub(crate) mod pull;
