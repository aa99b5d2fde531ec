//! The manager with the real plugins. Each test has a host of its own: a network and a mount namespace in which the
//! bridges, rules and pins live and with which they go, also when it fails.

mod faults;
mod host;
mod life;
