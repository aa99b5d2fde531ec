//! The native half of the npm package `dunnage`.
//!
//! It converts between JavaScript and the `dunnage` crate and does nothing else: options and results pass as JSON text,
//! bytes as buffers, failures as errors whose message is the library's error in JSON. Its classes are private to the
//! package; the TypeScript face over them is what programs see.

// napi's attribute writes functions of its own, and what it exports is reached from JavaScript only.
#![allow(unreachable_pub)]
// In a test build napi registers nothing, so nothing seems to be called.
#![cfg_attr(test, allow(dead_code))]

mod call;
mod data;
mod engine;
mod failure;
mod files;
mod items;
mod process;
mod promise;
