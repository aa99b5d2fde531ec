use super::channel::{PiecesIn, PiecesOut};
use super::descriptor::{Direction, Stream, duplicate};
use crate::error::{Error, Result};
use crate::failpoints::step;
use crate::host_file::{Access, Staged, open_source};
use crate::operation::OperationContext;
use crate::types::{DataExportOptions, DataImportOptions, S3Options};
use dunnage_transfer::{Place, PlaceOptions, PlaceWriter, WriteOptions};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Where an archive goes.
pub(crate) enum Outlet {
    /// A file of the host, and whether one that is there is replaced.
    File(String, bool),
    /// A place that an address names, and whether what is there is replaced.
    Place(Place, bool),
    Descriptor(OwnedFd),
    Writer(Box<dyn Write + Send>),
    Pieces(PiecesOut),
}

/// Where an archive comes from.
pub(crate) enum Inlet {
    File(String),
    Place(Place),
    Descriptor(OwnedFd),
    Reader(Box<dyn Read + Send>),
    Pieces(PiecesIn),
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inlet")
    }
}

impl Outlet {
    /// What the options say. A descriptor is the engine's own from here on.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless they name just one place, and a good one.
    pub(crate) fn of(options: &DataExportOptions) -> Result<Self> {
        match (&options.destination, options.fd) {
            (Some(url), None) if url.contains("://") => {
                Ok(Self::Place(place("destination", url, &options.s3)?, options.overwrite))
            }
            (Some(path), None) => Ok(Self::File(absolute("destination", path)?, options.overwrite)),
            (None, Some(number)) => Ok(Self::Descriptor(duplicate(number, Direction::Out)?)),
            _ => Err(one_place("destination")),
        }
    }

    /// A writer that is given beside the options.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the options name a place too.
    pub(crate) fn writer(options: &DataExportOptions, writer: Box<dyn Write + Send>) -> Result<Self> {
        if options.destination.is_some() || options.fd.is_some() {
            return Err(one_place("destination"));
        }
        Ok(Self::Writer(writer))
    }

    /// Begins to write. It may wait for a server.
    pub(super) async fn open(self, context: &OperationContext) -> Result<Opened> {
        let cancel = context.cancel_token().clone();
        blocking(move || self.open_blocking(&cancel)).await
    }

    fn open_blocking(self, cancel: &CancellationToken) -> Result<Opened> {
        Ok(match self {
            Self::File(path, replace) => {
                if !replace && Path::new(&path).symlink_metadata().is_ok() {
                    let there =
                        Error::already_exists("the destination is there: name another, or overwrite it");
                    return Err(there.with("destination", path));
                }
                Opened::File(Staged::begin(&path, Access::Private)?, replace)
            }
            Self::Place(place, replace) => {
                let options = WriteOptions { overwrite: replace, ..WriteOptions::default() };
                Opened::Place(Box::new(place.write(&options)?))
            }
            Self::Descriptor(fd) => {
                Opened::Stream(Box::new(Stream::new(fd, Direction::Out, cancel.clone())?))
            }
            Self::Writer(writer) => Opened::Stream(writer),
            Self::Pieces(mut out) => {
                out.cancel = cancel.clone();
                Opened::Stream(Box::new(out))
            }
        })
    }
}

/// A place that is written to.
pub(super) enum Opened {
    File(Staged, bool),
    Place(Box<PlaceWriter>),
    Stream(Box<dyn Write + Send>),
}

impl Opened {
    pub(super) fn writer(&mut self) -> &mut (dyn Write + Send) {
        match self {
            Self::File(staged, _) => &mut staged.file,
            Self::Place(writer) => writer,
            Self::Stream(writer) => writer,
        }
    }

    /// All is written: it is put in its place. Returns what an object store calls it.
    pub(super) async fn finish(self) -> Result<Option<String>> {
        blocking(move || {
            let _step = step("archive.place");
            match self {
                Self::File(staged, replace) => staged.finish(replace).map(|()| None),
                Self::Place(writer) => Ok(writer.finish()?.etag),
                Self::Stream(_) => Ok(None),
            }
        })
        .await
    }
}

impl Inlet {
    /// What the options say. A descriptor is the engine's own from here on.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless they name just one place, and a good one.
    pub(crate) fn of(options: &DataImportOptions) -> Result<Self> {
        match (&options.source, options.fd) {
            (Some(url), None) if url.contains("://") => Ok(Self::Place(place("source", url, &options.s3)?)),
            (Some(path), None) => Ok(Self::File(absolute("source", path)?)),
            (None, Some(number)) => Ok(Self::Descriptor(duplicate(number, Direction::In)?)),
            _ => Err(one_place("source")),
        }
    }

    /// A reader that is given beside the options.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the options name a place too.
    pub(crate) fn reader(options: &DataImportOptions, reader: Box<dyn Read + Send>) -> Result<Self> {
        if options.source.is_some() || options.fd.is_some() {
            return Err(one_place("source"));
        }
        Ok(Self::Reader(reader))
    }

    /// Begins to read. It may wait for a server. Tells the length too, where it is known.
    pub(super) async fn open(
        self,
        context: &OperationContext,
    ) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
        let cancel = context.cancel_token().clone();
        blocking(move || self.open_blocking(&cancel)).await
    }

    fn open_blocking(self, cancel: &CancellationToken) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
        Ok(match self {
            Self::File(path) => {
                let file = open_source(&path)?;
                let length = file.metadata().map_err(|e| Error::io(e, "cannot look at the source"))?.len();
                (Box::new(file), Some(length))
            }
            Self::Place(place) => {
                let reader = place.read()?;
                let length = reader.size();
                (Box::new(reader), Some(length))
            }
            Self::Descriptor(fd) => (Box::new(Stream::new(fd, Direction::In, cancel.clone())?), None),
            Self::Reader(reader) => (reader, None),
            Self::Pieces(mut pieces) => {
                pieces.cancel = cancel.clone();
                (Box::new(pieces), None)
            }
        })
    }
}

/// Does what waits for files and servers, on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::unexpected("work on files broke off").caused_by(e))?
}

pub(super) fn one_place(field: &'static str) -> Error {
    Error::invalid_argument(format!("name one place: {field}, fd, or a stream beside the options"))
        .with("field", field)
}

fn place(field: &'static str, url: &str, s3: &S3Options) -> Result<Place> {
    let options = PlaceOptions {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        access_key_id: s3.access_key_id.clone(),
        secret_access_key: s3.secret_access_key.clone(),
        session_token: s3.session_token.clone(),
        allow_http: s3.allow_http,
        path_style: s3.path_style,
        ..PlaceOptions::default()
    };
    Place::parse(url, &options).map_err(|e| Error::from(e).with("field", field))
}

fn absolute(field: &'static str, path: &str) -> Result<String> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.to_owned());
    }
    Err(Error::invalid_argument(format!("malformed option {field}: use the absolute path of a file"))
        .with("field", field)
        .with("value", path.escape_debug()))
}
