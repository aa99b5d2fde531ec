//! Places in S3.

mod backoff;
mod download;
mod engine;
mod parts;
mod refusal;
mod settings;
mod transport;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;

use crate::error::{Error, Result};
use crate::options::{PlaceOptions, WriteOptions};
pub(crate) use download::Download;
use engine::Engine;
use refusal::Refusal;
use settings::Settings;
pub(crate) use upload::Upload;

/// An object's place. Clones share threads and connections.
#[derive(Clone)]
pub(crate) struct S3Place(Arc<Shared>);

struct Shared {
    settings: Settings,
    key: Path,
    engine: Mutex<Option<Arc<Engine>>>,
}

impl S3Place {
    /// Checks everything that can be checked without asking anybody. `env` is where what is not given comes from.
    pub(crate) fn new(
        bucket: String,
        key: &str,
        options: &PlaceOptions,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let settings = Settings::new(bucket, options, env)?;
        let key = Path::parse(key).map_err(|_| Error::invalid("the key is malformed"))?;
        Ok(Self(Arc::new(Shared { settings, key, engine: Mutex::default() })))
    }

    pub(crate) fn write(&self, options: &WriteOptions) -> Result<Upload> {
        Upload::start(self.engine()?, &self.0.settings, self.0.key.clone(), options)
    }

    pub(crate) fn read(&self) -> Result<Download> {
        Download::start(self.engine()?, &self.0.settings, self.0.key.clone())
    }

    /// What does the work, made when it is first needed.
    fn engine(&self) -> Result<Arc<Engine>> {
        let mut engine = self.0.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engine.as_ref() {
            return Ok(Arc::clone(engine));
        }
        let made = Arc::new(Engine::start(&self.0.settings)?);
        *engine = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// An entity tag without its quotes.
fn bare(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}
