//! containerd as a backend: one file per service, wire types only in `convert`.

mod client;
mod convert;
