use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, v1};
use super::super::failure::needs;
use super::entries::{DATA_DIR, Entries, limit};
use crate::error::{Error, Result};
use crate::types::{GlobOptions, GlobResult, WalkOptions, WalkPage};
use bytes::Bytes;
use dunnage_bridge::{MAX_PAGE, v1 as wire};

/// The most entries of a search for names.
const MAX_GLOB: u32 = 100_000;
/// The longest place to go on from, before it is read.
const MAX_AFTER: usize = 3 * 4096;

impl BridgeClient {
    /// Tells one page of a tree. Nothing is kept between pages, in the agent or here.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a malformed path, pattern or place to
    /// go on from, or a limit out of range; UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn walk(&self, options: &WalkOptions) -> Result<WalkPage> {
        let path = options.path.as_deref().unwrap_or(DATA_DIR);
        self.walk_inner(path, options)
            .await
            .map_err(|e| self.at(e).with("path", path).in_operation("fs.walk"))
    }

    async fn walk_inner(&self, path: &str, options: &WalkOptions) -> Result<WalkPage> {
        let path = self.clean(path)?;
        limit("limit", options.limit, 1..=MAX_PAGE)?;
        if options.max_depth == Some(0) {
            return Err(Error::invalid_argument("max_depth counts from 1; leave it out for no limit"));
        }
        let request = wire::WalkRequest {
            path: Bytes::copy_from_slice(path.as_bytes()),
            max_depth: options.max_depth.unwrap_or_default(),
            limit: options.limit,
            after: options.after.as_deref().map(decode).transpose()?.unwrap_or_default(),
            include: options.include.clone(),
            exclude: options.exclude.clone(),
        };
        let (page, _) = self
            .call(Class::Control, Repeat::Always, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().walk, "walk trees")?;
                    Ok(v1(lane).walk(request).await?.into_inner())
                }
            })
            .await?;
        let mut entries = Entries::new(&path);
        entries.add(&page.entries, page.problems);
        let next = (!page.next.is_empty()).then(|| encode(&page.next));
        Ok(WalkPage { entries: entries.entries, problems: entries.problems, path, next })
    }

    /// Tells what matches a pattern of names.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when `path` is no directory; INVALID_ARGUMENT for a malformed path or pattern, or a limit
    /// out of range; UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn glob(&self, options: &GlobOptions) -> Result<GlobResult> {
        self.glob_inner(options)
            .await
            .map_err(|e| self.at(e).with("pattern", options.pattern.escape_default()).in_operation("fs.glob"))
    }

    async fn glob_inner(&self, options: &GlobOptions) -> Result<GlobResult> {
        limit("limit", options.limit, 1..=MAX_GLOB)?;
        // An absolute pattern says itself where to begin.
        let (path, pattern) = match (options.path.as_deref(), options.pattern.strip_prefix('/')) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_argument(
                    "the pattern is absolute: leave path out, or its leading slash",
                ));
            }
            (None, Some(rest)) => ("/", rest),
            (path, None) => (path.unwrap_or(DATA_DIR), options.pattern.as_str()),
        };
        let path = self.clean(path)?;
        let request = wire::GlobRequest {
            path: Bytes::copy_from_slice(path.as_bytes()),
            pattern: pattern.to_owned(),
            limit: options.limit,
            hidden: options.hidden,
        };
        let (mut batches, connection) = self
            .call(Class::Control, Repeat::Always, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().walk, "look for names")?;
                    Ok(v1(lane).glob(request).await?.into_inner())
                }
            })
            .await?;
        let (mut entries, mut truncated) = (Entries::new(&path), false);
        while let Some(batch) = self.next_piece(&connection, batches.message()).await? {
            truncated |= batch.truncated;
            entries.add(&batch.entries, batch.problems);
            // The agent keeps to the limit; one that does not is not believed.
            if entries.entries.len() > options.limit as usize {
                entries.entries.truncate(options.limit as usize);
                truncated = true;
                break;
            }
        }
        Ok(GlobResult { entries: entries.entries, truncated, problems: entries.problems })
    }
}

/// A place to go on from as text: file names need not be any.
fn encode(place: &[u8]) -> String {
    let mut text = String::with_capacity(place.len());
    for chunk in place.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' => text.push_str("%25"),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}

fn decode(text: &str) -> Result<Bytes> {
    let refuse = || {
        Error::invalid_argument("after is no place to go on from; give the next of the page before as it is")
    };
    if text.is_empty() || text.len() > MAX_AFTER || text.contains('\0') {
        return Err(refuse());
    }
    let mut place = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            place.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(refuse());
        };
        place.push(u8::try_from(high * 16 + low).map_err(|_| refuse())?);
    }
    Ok(place.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_survive_as_text(place in proptest::collection::vec(1_u8..=255, 1..40)) {
            prop_assert_eq!(decode(&encode(&place)).unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        assert_eq!(encode(b"a/100%\xff"), "a/100%25%ff");
        for text in ["", "%", "%4", "%zz", "a\0b"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
