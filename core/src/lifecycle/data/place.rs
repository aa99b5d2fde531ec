use super::descriptor::{Direction, Stream, duplicate};
use crate::error::{Error, Result};
use crate::host_file::{Access, Staged, open_source};
use crate::types::{DataExportOptions, DataImportOptions};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Where an archive goes.
pub(crate) enum Outlet {
    /// A file of the host, and whether one that is there is replaced.
    File(String, bool),
    Descriptor(OwnedFd),
    Writer(Box<dyn Write + Send>),
}

/// Where an archive comes from.
pub(crate) enum Inlet {
    File(String),
    Descriptor(OwnedFd),
    Reader(Box<dyn Read + Send>),
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

    /// Begins to write.
    pub(super) fn open(self, cancel: &CancellationToken) -> Result<Opened> {
        Ok(match self {
            Self::File(path, replace) => {
                if !replace && Path::new(&path).symlink_metadata().is_ok() {
                    let there =
                        Error::already_exists("the destination is there: name another, or overwrite it");
                    return Err(there.with("destination", path));
                }
                Opened::File(Staged::begin(&path, Access::Private)?, replace)
            }
            Self::Descriptor(fd) => {
                Opened::Stream(Box::new(Stream::new(fd, Direction::Out, cancel.clone())?))
            }
            Self::Writer(writer) => Opened::Stream(writer),
        })
    }
}

/// A place that is written to.
pub(super) enum Opened {
    File(Staged, bool),
    Stream(Box<dyn Write + Send>),
}

impl Opened {
    pub(super) fn writer(&mut self) -> &mut (dyn Write + Send) {
        match self {
            Self::File(staged, _) => &mut staged.file,
            Self::Stream(writer) => writer,
        }
    }

    /// All is written: a file is put in its place.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::File(staged, replace) => staged.finish(replace),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl Inlet {
    /// What the options say. A descriptor is the engine's own from here on.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless they name just one place, and a good one.
    pub(crate) fn of(options: &DataImportOptions) -> Result<Self> {
        match (&options.source, options.fd) {
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

    /// Begins to read. Tells the length too, where it is known.
    pub(super) fn open(self, cancel: &CancellationToken) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
        Ok(match self {
            Self::File(path) => {
                let file = open_source(&path)?;
                let length = file.metadata().map_err(|e| Error::io(e, "cannot look at the source"))?.len();
                (Box::new(file), Some(length))
            }
            Self::Descriptor(fd) => (Box::new(Stream::new(fd, Direction::In, cancel.clone())?), None),
            Self::Reader(reader) => (reader, None),
        })
    }
}

fn one_place(field: &'static str) -> Error {
    Error::invalid_argument(format!("name one place: {field}, fd, or a stream beside the options"))
        .with("field", field)
}

fn absolute(field: &'static str, path: &str) -> Result<String> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.to_owned());
    }
    Err(Error::invalid_argument(format!("malformed option {field}: use the absolute path of a file"))
        .with("field", field)
        .with("value", path.escape_debug()))
}
