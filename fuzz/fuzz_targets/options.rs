//! Options and configurations as JSON: any text is refused, or read to something that its own text reads to again.
#![no_main]

use dunnage::types::{CreateOptions, ExecOptions, ListOptions, PullOptions, RunOptions, WriteOptions};
use dunnage::{Config, catalog};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq>(text: &str) {
    let Ok(options) = catalog::parse::<T>(text) else { return };
    let again = serde_json::to_string(&options).expect("options can be written");
    assert!(catalog::parse::<T>(&again).is_ok_and(|read| read == options), "{again}");
}

fuzz_target!(|text: &str| {
    check::<CreateOptions>(text);
    check::<ExecOptions>(text);
    check::<ListOptions>(text);
    check::<PullOptions>(text);
    check::<RunOptions>(text);
    check::<WriteOptions>(text);
    if let Ok(config) = Config::from_json(text) {
        config.validate().expect("what was read is valid");
    }
});
