use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, v1};
use super::super::failure::needs;
use super::entries::{DATA_DIR, Entries, entry_path, limit};
use crate::error::{Error, Result};
use crate::types::{GrepMatch, GrepOptions, GrepResult};
use bytes::Bytes;
use dunnage_bridge::v1 as wire;

/// The most bytes of lines that are taken into memory, whatever the agent says.
const MAX_BYTES: usize = 64 << 20;
const MAX_PATTERN: usize = 16 << 10;

impl BridgeClient {
    /// Searches the text of files.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for a malformed path, pattern or glob, or a limit out of range; FAILED_PRECONDITION when the
    /// path is neither a directory nor a file; UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it ends the search.
    pub(crate) async fn grep(&self, options: &GrepOptions) -> Result<GrepResult> {
        let path = options.path.as_deref().unwrap_or(DATA_DIR);
        self.grep_inner(path, options)
            .await
            .map_err(|e| self.at(e).with("path", path).in_operation("fs.grep"))
    }

    async fn grep_inner(&self, path: &str, options: &GrepOptions) -> Result<GrepResult> {
        let path = self.clean(path)?;
        let request = request(&path, options)?;
        let (mut answers, connection) = self
            .call(Class::Control, Repeat::Always, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().grep, "search text")?;
                    Ok(v1(lane).grep(request).await?.into_inner())
                }
            })
            .await?;
        let mut found = Entries::new(&path);
        let mut result = GrepResult {
            matches: Vec::new(),
            files_searched: 0,
            files_matched: 0,
            truncated: false,
            problems: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(answer) = self.next_piece(&connection, answers.message()).await? {
            result.files_searched += answer.files_searched;
            result.files_matched += answer.files_matched;
            result.truncated |= answer.truncated;
            found.add_problems(answer.problems);
            for one in answer.matches {
                bytes +=
                    one.before.iter().chain(&one.after).chain(&one.text).map(|l| l.text.len()).sum::<usize>();
                // The agent keeps to its limits; one that does not is not believed.
                if result.matches.len() >= options.max_matches as usize || bytes > MAX_BYTES {
                    result.truncated = true;
                    break;
                }
                result.matches.extend(convert(&path, one));
            }
        }
        result.problems = found.problems;
        Ok(result)
    }
}

fn request(path: &str, options: &GrepOptions) -> Result<wire::GrepRequest> {
    if options.pattern.is_empty() || options.pattern.len() > MAX_PATTERN {
        return Err(Error::invalid_argument("a pattern has 1 to 16384 bytes"));
    }
    limit("max_matches", options.max_matches, 1..=10_000)?;
    limit("context_before", options.context_before, 0..=50)?;
    limit("context_after", options.context_after, 0..=50)?;
    limit("max_line_bytes", options.max_line_bytes, 1..=10_000)?;
    if options.max_matches_per_file == Some(0) {
        return Err(Error::invalid_argument("max_matches_per_file counts from 1; leave it out for no limit"));
    }
    Ok(wire::GrepRequest {
        path: Bytes::copy_from_slice(path.as_bytes()),
        pattern: options.pattern.clone(),
        include: options.include.clone(),
        exclude: options.exclude.clone(),
        ignore_case: options.ignore_case,
        fixed_strings: options.fixed_strings,
        word: options.word,
        hidden: options.hidden,
        respect_ignore: options.respect_ignore,
        max_matches: options.max_matches,
        max_matches_per_file: options.max_matches_per_file.unwrap_or_default(),
        context_before: options.context_before,
        context_after: options.context_after,
        max_line_bytes: options.max_line_bytes,
    })
}

/// None for a file that the agent says lies elsewhere.
fn convert(root: &str, found: wire::GrepMatch) -> Option<GrepMatch> {
    // The path is empty when one file was searched.
    let path = if found.path.is_empty() { root.to_owned() } else { entry_path(root, &found.path)? };
    let text = |line: &wire::GrepLine| String::from_utf8_lossy(&line.text).into_owned();
    let line = found.text.unwrap_or_default();
    Some(GrepMatch {
        path,
        line: found.line,
        column: found.column,
        text: text(&line),
        before: found.before.iter().map(text).collect(),
        after: found.after.iter().map(text).collect(),
        truncated: line.truncated,
    })
}
