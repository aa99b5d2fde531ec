use crate::error::{Error, Result};
use serde::Deserialize;
use std::fmt;

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// The host's.
    pub(crate) fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "x86" => ("386", None),
            "arm" if cfg!(target_feature = "v7") => ("arm", Some("v7")),
            "arm" => ("arm", Some("v6")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// The platform named, or the host's.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when it is not `os/arch[/variant]`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::host()) };
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| word(part)) {
            return Err(Error::invalid_argument("malformed platform: use os/arch or os/arch/variant")
                .with("platform", format!("{text:?}")));
        }
        let named = Self {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|variant| (*variant).to_owned()),
        };
        Ok(named.normalised())
    }

    /// With the names that indexes use.
    fn normalised(&self) -> Self {
        let os = self.os.to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or("").to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", _) => ("amd64", variant.as_str()),
            ("i386" | "x86" | "i686", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8") => ("arm64", "v8"),
            ("aarch64", _) => ("arm64", variant.as_str()),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            _ => (architecture.as_str(), variant.as_str()),
        };
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
        }
    }

    /// Whether it stands for something that does not run, such as an attestation.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// How well an image of `offered` serves: 0 is best, none not at all. A newer variant than the one wanted never
    /// serves; an older one does, the newest first.
    pub(crate) fn rank(&self, offered: &Self) -> Option<u32> {
        let (wanted, offered) = (self.normalised(), offered.normalised());
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        let level = |platform: &Self| match platform.variant.as_deref() {
            None => Some(1),
            Some(variant) => variant.strip_prefix('v').and_then(|v| v.parse::<u32>().ok()),
        };
        match (level(&wanted), level(&offered)) {
            (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
            _ => (wanted.variant == offered.variant).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    #[test]
    fn variants_rank_as_processors_run_them() {
        for (wanted, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
        ] {
            assert_eq!(platform(wanted).rank(&platform(offered)), rank, "{wanted} of {offered}");
        }
    }

    #[test]
    fn names_are_completed_or_refused() {
        assert_eq!(Platform::parse(Some("linux/x86_64")).unwrap().to_string(), "linux/amd64");
        assert_eq!(Platform::parse(Some("linux/aarch64")).unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(Platform::parse(None).unwrap(), Platform::host());
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/am d64", "linux/../x"] {
            assert!(Platform::parse(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
