use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old};
use crate::error::{Error, Result};
use crate::types::{ReadTextOptions, TextFile};
use dunnage_bridge::{READ_MAX_LINES, bridgepb};

impl BridgeClient {
    /// Reads lines of a text file, cut to a size that suits a prompt.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for a malformed path or more than 200 lines; FAILED_PRECONDITION for a directory;
    /// UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn read_text(&self, options: &ReadTextOptions) -> Result<TextFile> {
        self.read_text_inner(options)
            .await
            .map_err(|e| e.with("path", &options.path).in_operation("fs.read_text"))
    }

    async fn read_text_inner(&self, options: &ReadTextOptions) -> Result<TextFile> {
        if options.n_lines as usize > READ_MAX_LINES {
            let error = Error::invalid_argument(
                "at most 200 lines are read at a time; ask for the rest by line_offset",
            );
            return Err(self.at(error.with("n_lines", options.n_lines)));
        }
        let Ok(line_offset) = i32::try_from(options.line_offset) else {
            let error = Error::invalid_argument("line_offset is over 2147483647; no file has so many lines");
            return Err(self.at(error.with("line_offset", options.line_offset)));
        };
        let request = bridgepb::ReadFileRequest {
            path: self.clean(&options.path)?,
            line_offset: line_offset.max(1),
            n_lines: i32::try_from(options.n_lines).unwrap_or_default(),
        };
        let (response, _) = self
            .call(Class::Control, Repeat::Always, |_, lane| {
                let request = request.clone();
                async move { Ok(old(lane).read_file(request).await?.into_inner()) }
            })
            .await?;
        Ok(TextFile {
            content: if response.binary { String::new() } else { response.content },
            total_lines: u32::try_from(response.total_lines).unwrap_or_default(),
            binary: response.binary,
        })
    }
}
