//! Places by address, and what is written to and read from them.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::address::{self, Address};
use crate::error::{Error, Result};
use crate::file::{FilePlace, FileReader, FileWriter};
use crate::options::{PlaceOptions, WriteOptions};
use crate::s3::{Download, S3Place, Upload};

/// Where an archive goes to or comes from.
///
/// Clones share connections. All calls block, on whichever thread: a place in S3 has two threads of its own for what goes on
/// over the network, from the first call on until the last clone, writer and reader are gone, and needs no runtime of the host's.
/// On a thread that a host's runtime runs futures on, a call holds up that runtime's other work, as every blocking call does.
#[derive(Clone)]
pub struct Place {
    shown: String,
    at: At,
}

#[derive(Clone)]
enum At {
    File(FilePlace),
    S3(S3Place),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How many bytes.
    pub bytes: u64,
    /// What the server calls this state of the object.
    pub etag: Option<String>,
    /// Whether the step that made it visible would have refused to replace anything. It is not when replacing was allowed, and
    /// not when the server does not know such a condition: then there was only a look before.
    pub guarded: bool,
}

impl Place {
    /// Takes an address: `s3://bucket/key`, or `file:///absolute/path`.
    ///
    /// A key stands as it is; in a path, `%` and two digits stand for a byte, as in every `file:` address. Nobody is asked yet and
    /// nothing is made.
    ///
    /// # Errors
    /// Unsupported for another scheme, Invalid for an address or an option that makes no sense, Denied when there are no
    /// credentials for S3. No error repeats the address or a secret.
    pub fn parse(url: &str, options: &PlaceOptions) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let (shown, at) = match address::parse(url)? {
            Address::File(path) => (shown_path(&path), At::File(FilePlace::new(path))),
            Address::S3 { bucket, key } => {
                let shown = format!("s3://{bucket}/{key}");
                let place = S3Place::new(bucket, &key, options, &env).map_err(|error| error.at(&shown))?;
                (shown, At::S3(place))
            }
        };
        Ok(Self { shown, at })
    }

    /// Begins to write. Nobody sees anything at the place before [`PlaceWriter::finish`].
    ///
    /// A file is made beside its final name, for its owner alone (0600), brought to the disk, and then renamed; a symbolic link at
    /// that name is replaced, not followed. An object in S3 goes in parts, each repeated by itself when its connection breaks.
    ///
    /// # Errors
    /// Exists when something is there and may not be replaced, NotFound without a directory or a bucket, Denied, Unavailable,
    /// Invalid for an option out of its bounds.
    pub fn write(&self, options: &WriteOptions) -> Result<PlaceWriter> {
        let to = match &self.at {
            At::File(place) => place.write(options.overwrite).map(To::File),
            At::S3(place) => place.write(options).map(|upload| To::S3(Box::new(upload))),
        };
        let to = to.map_err(|error| error.at(&self.shown))?;
        Ok(PlaceWriter { shown: self.shown.clone(), to })
    }

    /// Begins to read what is there. A connection to S3 that breaks is made anew where it broke.
    ///
    /// # Errors
    /// NotFound, Denied, Unavailable; Invalid for a path that is no file.
    pub fn read(&self) -> Result<PlaceReader> {
        let from = match &self.at {
            At::File(place) => place.read().map(Source::File),
            At::S3(place) => place.read().map(Source::S3),
        };
        let from = from.map_err(|error| error.at(&self.shown))?;
        Ok(PlaceReader { shown: self.shown.clone(), from })
    }
}

/// A path as an address, with what is no text told by its number.
fn shown_path(path: &std::path::Path) -> String {
    format!("file://{}", PathBuf::from(path).to_string_lossy())
}

/// Writes to a place. Dropped without [`PlaceWriter::finish`], it leaves nothing behind.
pub struct PlaceWriter {
    shown: String,
    to: To,
}

enum To {
    File(FileWriter),
    S3(Box<Upload>),
}

impl fmt::Debug for PlaceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlaceWriter").field(&self.shown).finish()
    }
}

impl PlaceWriter {
    /// Makes what was written visible, all at once, when it is safe where it is.
    ///
    /// # Errors
    /// Exists when something has come there meanwhile and may not be replaced. Whatever the error, nothing is left behind; only when
    /// the last answer of S3 was lost and it could not be asked afterwards, the object may be there, and then it is whole.
    pub fn finish(self) -> Result<Stored> {
        match self.to {
            To::File(writer) => writer.finish(),
            To::S3(upload) => upload.finish(),
        }
        .map_err(|error| error.at(&self.shown))
    }

    /// Gives up and removes what was written, as dropping does; this one tells.
    ///
    /// # Errors
    /// What could not be removed: for S3, an unfinished upload stays until a rule of the bucket removes it.
    pub fn abort(self) -> Result<()> {
        match self.to {
            To::File(writer) => writer.abort(),
            To::S3(upload) => upload.abort(),
        }
        .map_err(|error| error.at(&self.shown))
    }
}

impl Write for PlaceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::File(writer) => writer
                .write(bytes)
                .map_err(|cause| Error::io(cause, "cannot write the file").at(&self.shown).into()),
            To::S3(upload) => upload.write(bytes).map_err(|error| error.at(&self.shown).into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a place.
pub struct PlaceReader {
    shown: String,
    from: Source,
}

enum Source {
    File(FileReader),
    S3(Download),
}

impl fmt::Debug for PlaceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceReader").field("place", &self.shown).field("size", &self.size()).finish()
    }
}

impl PlaceReader {
    /// How many bytes there are in all.
    pub fn size(&self) -> u64 {
        match &self.from {
            Source::File(reader) => reader.size(),
            Source::S3(download) => download.size(),
        }
    }

    /// What the server calls this state of the object; none for a file.
    pub fn etag(&self) -> Option<&str> {
        match &self.from {
            Source::File(_) => None,
            Source::S3(download) => download.etag(),
        }
    }
}

impl Read for PlaceReader {
    /// Reads on. Changed tells that what is there is not what was begun with: nothing of the other is handed out.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.from {
            Source::File(reader) => reader.read(into).map_err(|cause| match cause.kind() {
                io::ErrorKind::Interrupted => cause,
                _ => Error::io(cause, "cannot read the file").at(&self.shown).into(),
            }),
            Source::S3(download) => download.read(into).map_err(|error| error.at(&self.shown).into()),
        }
    }
}
