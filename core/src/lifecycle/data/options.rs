use crate::error::{Error, Result};
use crate::types::{ArchiveFormat, DataExportOptions, DataImportOptions};
use dunnage_archive::{Format, Limits, PackOptions};
use dunnage_transfer::{Keys, Seal};
use std::path::{Component, Path, PathBuf};

/// What of an export's options concerns the archive.
///
/// # Errors
/// INVALID_ARGUMENT for a level that the format has not, and for a malformed pattern.
pub(super) fn pack(options: &DataExportOptions) -> Result<PackOptions> {
    let pack = PackOptions {
        format: match options.format {
            ArchiveFormat::TarGz => Format::TarGz,
            ArchiveFormat::TarZst => Format::TarZst,
            ArchiveFormat::Tar => Format::Tar,
        },
        level: options.level,
        include: options.include.clone(),
        exclude: options.exclude.clone(),
        threads: None,
    };
    if options.format == ArchiveFormat::Tar && options.level.is_some() {
        return Err(Error::invalid_argument("malformed option level: tar alone is not compressed")
            .with("field", "level"));
    }
    pack.check()?;
    Ok(pack)
}

/// Whom an export is encrypted for.
///
/// # Errors
/// INVALID_ARGUMENT unless it is a passphrase or recipients, and well-formed.
pub(super) fn seal(options: &DataExportOptions) -> Result<Option<Seal>> {
    let Some(asked) = &options.seal else { return Ok(None) };
    let mut seal = Seal::default();
    seal.passphrase.clone_from(&asked.passphrase);
    seal.recipients.clone_from(&asked.recipients);
    seal.check().map_err(|e| Error::from(e).with("field", "seal"))?;
    Ok(Some(seal))
}

/// What opens an encrypted archive; nothing when nothing is given.
///
/// # Errors
/// INVALID_ARGUMENT unless it is a passphrase or identities, and well-formed.
pub(super) fn keys(options: &DataImportOptions) -> Result<Keys> {
    let mut keys = Keys::default();
    if let Some(asked) = &options.unseal {
        keys.passphrase.clone_from(&asked.passphrase);
        keys.identities.clone_from(&asked.identities);
        if keys.is_empty() {
            return Err(Error::invalid_argument("malformed option unseal: give a passphrase or identities")
                .with("field", "unseal"));
        }
        keys.check().map_err(|e| Error::from(e).with("field", "unseal"))?;
    }
    Ok(keys)
}

/// The directory within the data directory to export.
///
/// # Errors
/// INVALID_ARGUMENT for a path that could lead out of it.
pub(super) fn subpath(options: &DataExportOptions) -> Result<Option<PathBuf>> {
    let Some(subpath) = &options.subpath else { return Ok(None) };
    let path = Path::new(subpath);
    let within = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if subpath.is_empty() || subpath.contains('\0') || !within {
        return Err(Error::invalid_argument(
            "malformed option subpath: use a path within the data directory, without a slash at its beginning and without `..`",
        )
        .with("field", "subpath")
        .with("value", subpath.escape_debug()));
    }
    Ok(Some(path.to_owned()))
}

/// What of an import's options bounds the archive.
///
/// # Errors
/// INVALID_ARGUMENT for a limit of 0 and for a malformed digest.
pub(super) fn limits(options: &DataImportOptions) -> Result<Limits> {
    for (field, value) in [
        ("max_entries", options.max_entries),
        ("max_bytes", options.max_bytes),
        ("max_ratio", options.max_ratio),
        ("max_path", u64::from(options.max_path)),
    ] {
        if value == 0 {
            return Err(Error::invalid_argument(format!("malformed option {field}: it is 1 or more"))
                .with("field", field));
        }
    }
    if let Some(digest) = &options.digest {
        let digits = digest.strip_prefix("sha256:").unwrap_or_default();
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 64 || !digits.bytes().all(hexadecimal) {
            return Err(Error::invalid_argument(
                "malformed option digest: use sha256: and 64 lowercase hexadecimal digits",
            )
            .with("field", "digest")
            .with("value", digest.escape_debug()));
        }
    }
    Ok(Limits {
        entries: options.max_entries,
        bytes: options.max_bytes,
        ratio: options.max_ratio,
        path: usize::try_from(options.max_path).unwrap_or(usize::MAX),
        devices: options.allow_devices,
        ..Limits::default()
    })
}
