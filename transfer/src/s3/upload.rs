//! Writing an object: by one request when it is small, else in parts of which some are under way while another is filled.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, MultipartId, ObjectStore, PutMultipartOptions, PutOptions, PutResult,
};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

use super::engine::{Engine, gone};
use super::settings::Settings;
use super::transport::Guard;
use super::{Refusal, bare, parts};
use crate::error::{Error, ErrorKind, Result};
use crate::options::WriteOptions;
use crate::place::Stored;

/// Under this name an object says which upload it comes from. An upload whose last answer was lost knows its object by it.
const MARK: &str = "dunnage-upload";

/// What is allocated at once for a part; a larger one grows there.
const AT_FIRST: u64 = 64 << 20;

/// How long the parts under way are waited for when all is given up.
const MOMENT: Duration = Duration::from_secs(1);

/// One upload.
pub(crate) struct Upload {
    engine: Arc<Engine>,
    store: AmazonS3,
    guard: Arc<Guard>,
    key: Path,
    mark: String,
    first: u64,
    most_at_once: usize,
    /// The part that is filled, and the size it is to have.
    part: Vec<u8>,
    size: u64,
    /// All bytes in parts before it.
    sent: u64,
    begun: Option<Begun>,
    failed: Option<Error>,
}

/// An upload in parts that the server knows of.
struct Begun {
    id: MultipartId,
    /// What the server calls each part, by their order.
    done: Vec<Option<PartId>>,
    under_way: usize,
    tasks: Vec<JoinHandle<()>>,
    sender: mpsc::Sender<(usize, Result<PartId, Refusal>)>,
    receiver: mpsc::Receiver<(usize, Result<PartId, Refusal>)>,
}

/// An object as a look finds it.
struct Found {
    etag: Option<String>,
    mark: Option<String>,
}

impl Upload {
    pub(super) fn start(
        engine: Arc<Engine>,
        settings: &Settings,
        key: Path,
        options: &WriteOptions,
    ) -> Result<Self> {
        if !(parts::SMALLEST..=parts::LARGEST).contains(&options.part_size) {
            return Err(Error::invalid("the size of parts is out of bounds: it is from 5 MiB to 5 GiB"));
        }
        if !(1..=16).contains(&options.parts_at_once) {
            return Err(Error::invalid("the number of parts at once is out of bounds: it is from 1 to 16"));
        }
        let (store, guard) = engine.store(settings, !options.overwrite)?;
        let random = || RandomState::new().build_hasher().finish();
        let upload = Self {
            engine,
            store,
            guard,
            key,
            mark: format!("{:016x}{:016x}", random(), random()),
            first: options.part_size,
            most_at_once: options.parts_at_once,
            part: Vec::new(),
            size: options.part_size,
            sent: 0,
            begun: None,
            failed: None,
        };
        if !options.overwrite {
            upload.must_be_free()?;
        }
        Ok(upload)
    }

    /// Takes bytes, and waits while enough parts are under way.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if let Some(failed) = &self.failed {
            return Err(failed.again());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full part goes only when there is more: then it is known not to be all.
        if self.part.len() as u64 >= self.size {
            self.send_part().inspect_err(|error| self.failed = Some(error.again()))?;
        }
        if self.part.is_empty() {
            let parts = self.begun.as_ref().map_or(0, |begun| begun.done.len());
            let next = parts::next(self.first, parts, self.sent);
            self.size = next.inspect_err(|error| self.failed = Some(error.again()))?;
            self.part.reserve_exact(usize::try_from(self.size.min(AT_FIRST)).unwrap_or(usize::MAX));
        }
        let room = usize::try_from(self.size - self.part.len() as u64).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.part.extend_from_slice(taken);
        Ok(taken.len())
    }

    pub(crate) fn finish(mut self) -> Result<Stored> {
        if let Some(failed) = &self.failed {
            return Err(failed.again());
        }
        let bytes = self.sent + self.part.len() as u64;
        let etag = if self.begun.is_some() {
            // Never empty: a part goes only when there is more.
            self.send_part()?;
            self.complete()?
        } else {
            self.put()?
        };
        Ok(Stored { bytes, etag: etag.as_deref().map(bare), guarded: self.guard.closed() })
    }

    pub(crate) fn abort(mut self) -> Result<()> {
        self.remove()
    }

    /// All of a small archive.
    fn put(&mut self) -> Result<Option<String>> {
        let body = Bytes::from(std::mem::take(&mut self.part));
        self.publish(move |upload| {
            let (store, key, body) = (upload.store.clone(), upload.key.clone(), body.clone());
            let options = PutOptions { attributes: upload.attributes(), ..PutOptions::default() };
            async move { store.put_opts(&key, body.into(), options).await }
        })
    }

    /// All parts are there: makes them one object.
    fn complete(&mut self) -> Result<Option<String>> {
        while self.begun.as_ref().is_some_and(|begun| begun.under_way > 0) {
            self.wait_for_one()?;
        }
        let Some(begun) = &self.begun else { return Err(gone()) };
        let id = begun.id.clone();
        let done: Option<Vec<PartId>> = begun.done.iter().cloned().collect();
        let done = done.ok_or_else(gone)?;
        let etag = self.publish(move |upload| {
            let (store, key, id, done) = (upload.store.clone(), upload.key.clone(), id.clone(), done.clone());
            async move { store.complete_multipart(&key, &id, done).await }
        })?;
        self.begun = None;
        Ok(etag)
    }

    /// Makes the object visible by a request, and finds out what became of it when its answer was lost.
    fn publish<F>(&self, request: impl Fn(&Self) -> F) -> Result<Option<String>>
    where
        F: Future<Output = object_store::Result<PutResult>> + Send + 'static,
    {
        loop {
            let refusal = match self.engine.run(request(self))? {
                Ok(put) => return Ok(put.e_tag),
                Err(error) => Refusal::of(&error),
            };
            if self.guard.closed() && refusal.status == Some(StatusCode::NOT_IMPLEMENTED) {
                self.guard.open();
                self.must_be_free()?;
                continue;
            }
            if refusal.uncertain
                && let Ok(Some(found)) = self.look()
                && found.mark.as_deref() == Some(&self.mark)
            {
                return Ok(found.etag);
            }
            return Err(refusal.into());
        }
    }

    /// Sends the part that is filled, and begins with the next.
    fn send_part(&mut self) -> Result<()> {
        let index = self.begun.as_ref().map_or(0, |begun| begun.done.len());
        let bytes = self.part.len() as u64;
        if self.begun.is_none() {
            self.begin()?;
        }
        // Each part that waits holds its bytes.
        let most = parts::at_once(self.first, self.most_at_once, bytes);
        while self.begun.as_ref().is_some_and(|begun| begun.under_way >= most) {
            self.wait_for_one()?;
        }
        let Some(begun) = &mut self.begun else { return Err(gone()) };
        let body = Bytes::from(std::mem::take(&mut self.part));
        let (store, key, id) = (self.store.clone(), self.key.clone(), begun.id.clone());
        let sender = begun.sender.clone();
        let task = self.engine.spawn(async move {
            let result = store.put_part(&key, &id, index, body.into()).await;
            let _ = sender.send((index, result.map_err(|error| Refusal::of(&error))));
        })?;
        begun.tasks.retain(|task| !task.is_finished());
        begun.tasks.push(task);
        begun.done.push(None);
        begun.under_way += 1;
        self.sent += bytes;
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let options = PutMultipartOptions { attributes: self.attributes(), ..PutMultipartOptions::default() };
        let id = self
            .engine
            .run(async move { store.create_multipart_opts(&key, options).await })?
            .map_err(|error| Refusal::of(&error))?;
        let (sender, receiver) = mpsc::channel();
        self.begun = Some(Begun { id, done: Vec::new(), under_way: 0, tasks: Vec::new(), sender, receiver });
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<()> {
        let Some(begun) = &mut self.begun else { return Err(gone()) };
        let (index, result) = begun.receiver.recv().map_err(|_| gone())?;
        begun.under_way -= 1;
        let part = result?;
        if let Some(done) = begun.done.get_mut(index) {
            *done = Some(part);
        }
        Ok(())
    }

    /// Fails when there is an object.
    fn must_be_free(&self) -> Result<()> {
        match self.look() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let message = "there is an object already: choose another key, or overwrite it";
                Err(Error::new(ErrorKind::Exists, message))
            }
            // Who may only write is not told what is there. The server still keeps it from being replaced.
            Err(refusal) if refusal.status == Some(StatusCode::FORBIDDEN) && self.guard.closed() => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn look(&self) -> Result<Option<Found>, Refusal> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let options = GetOptions { head: true, ..GetOptions::default() };
        let asked = self.engine.run(async move { store.get_opts(&key, options).await });
        let asked = asked
            .map_err(|error| Refusal::new(error.kind(), super::backoff::Again::Never, error.to_string()))?;
        match asked {
            Ok(found) => {
                let mark = found
                    .attributes
                    .get(&Attribute::Metadata(MARK.into()))
                    .map(|mark| mark.as_ref().to_owned());
                Ok(Some(Found { etag: found.meta.e_tag, mark }))
            }
            Err(error) => match Refusal::of(&error) {
                refusal if refusal.kind == ErrorKind::NotFound => Ok(None),
                refusal => Err(refusal),
            },
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes::from_iter([(Attribute::Metadata(MARK.into()), self.mark.clone())])
    }

    /// Ends what is under way and has the server forget the parts.
    ///
    /// A part that has arrived may be taken in after the upload was given up, and brings it back. So parts get a moment to be
    /// answered; one that is cut off then has not arrived whole, or is caught by giving up once more.
    fn remove(&mut self) -> Result<()> {
        self.part = Vec::new();
        let Some(begun) = self.begun.take() else { return Ok(()) };
        let (store, key) = (self.store.clone(), self.key.clone());
        let removed = self.engine.run(async move {
            let stop: Vec<_> = begun.tasks.iter().map(JoinHandle::abort_handle).collect();
            let all = futures::future::join_all(begun.tasks);
            let cut = timeout(MOMENT, all).await.is_err();
            stop.iter().for_each(AbortHandle::abort);
            let removed = store.abort_multipart(&key, &begun.id).await;
            if cut {
                sleep(MOMENT).await;
                let _ = store.abort_multipart(&key, &begun.id).await;
            }
            removed
        })?;
        match removed.map_err(|error| Refusal::of(&error)) {
            // Gone is gone.
            Err(refusal) if refusal.status != Some(StatusCode::NOT_FOUND) => Err(refusal.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Whoever wants to know calls `abort`.
        let _ = self.remove();
    }
}
