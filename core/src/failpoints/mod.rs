//! The steps of multi-step writes: every call that changes something tells when it begins and when it is over.
//!
//! Without the feature `failpoints` that is nothing at all. With it, a test's hook hears of every step and may end the
//! process there, or hold it while something else breaks. So that no step can be forgotten, they are told where changes
//! are made and not where operations are written: by a decorator of the backend, one of the store, and the few
//! functions that change files, namespaces and the network.

#[cfg(any(test, feature = "failpoints"))]
mod backend;
#[cfg(feature = "failpoints")]
mod hook;
#[cfg(any(test, feature = "failpoints"))]
mod store;
#[cfg(test)]
mod tests;

#[cfg(feature = "failpoints")]
pub(crate) use backend::ToldBackend;
#[cfg(feature = "failpoints")]
pub(crate) use hook::Step;
#[cfg(feature = "failpoints")]
pub use hook::{Side, on_step, unfinished};
#[cfg(feature = "failpoints")]
pub(crate) use store::ToldStore;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for tests: build without it");

/// A change, from before it to after it.
#[cfg(not(feature = "failpoints"))]
#[must_use = "it lasts as long as it is held"]
pub(crate) struct Step;

/// Begins a change, which is over when what this returns is dropped. Names are `<what is changed>.<how>`.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn step(_name: &'static str) -> Step {
    Step
}

/// Begins a change, which is over when what this returns is dropped. Names are `<what is changed>.<how>`.
#[cfg(feature = "failpoints")]
pub(crate) fn step(name: &'static str) -> Step {
    Step::begin(name)
}
