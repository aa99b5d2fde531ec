use super::{BackendKind, Config};
use crate::error::{Error, Result};
use crate::json::read_object;
use std::path::Path;

impl Config {
    /// Reads a configuration from JSON text.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with line, column and field.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Self = read_object(text, "configuration")?;
        config.validate()?;
        Ok(config)
    }

    /// Reads a configuration file: JSON when its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such file, INVALID_ARGUMENT with the place of a typo.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::io(e, "cannot read the configuration file").with("path", shown.to_string())
        })?;
        if path.extension().is_some_and(|e| e == "json") {
            return Self::from_json(&text).map_err(|e| e.with("path", shown));
        }
        let config: Self = toml::from_str(&text).map_err(|e| {
            Error::invalid_argument("malformed configuration file")
                .with("path", shown.to_string())
                .caused_by(e)
        })?;
        config.validate().map_err(|e| e.with("path", shown))?;
        Ok(config)
    }

    /// The file named by `$DUNNAGE_CONFIG` or the defaults, then each `DUNNAGE_…` variable that is set over it:
    /// `DATA_ROOT`, `RUNTIME_DIR`, `BACKEND`, `DEFAULT_IMAGE`, `TIMEZONE`, `CONTAINERD_ADDRESS`, `NAMESPACE`,
    /// `SNAPSHOTTER`.
    ///
    /// # Errors
    /// As [`Config::from_file`]; INVALID_ARGUMENT for a variable that is no UTF-8 or names an unknown backend.
    pub fn from_env() -> Result<Self> {
        let mut config = match variable("DUNNAGE_CONFIG")? {
            Some(path) => Self::from_file(path)?,
            None => Self::default(),
        };
        if let Some(value) = variable("DUNNAGE_DATA_ROOT")? {
            config.data_root = value.into();
        }
        if let Some(value) = variable("DUNNAGE_RUNTIME_DIR")? {
            config.runtime_dir = value.into();
        }
        if let Some(value) = variable("DUNNAGE_BACKEND")? {
            config.backend = match value.as_str() {
                "auto" => BackendKind::Auto,
                "containerd" => BackendKind::Containerd,
                _ => {
                    return Err(Error::invalid_argument("unknown backend: use auto or containerd")
                        .with("variable", "DUNNAGE_BACKEND")
                        .with("value", value));
                }
            };
        }
        if let Some(value) = variable("DUNNAGE_DEFAULT_IMAGE")? {
            config.default_image = value;
        }
        if let Some(value) = variable("DUNNAGE_TIMEZONE")? {
            config.timezone = Some(value);
        }
        if let Some(value) = variable("DUNNAGE_CONTAINERD_ADDRESS")? {
            config.containerd.address = Some(value);
        }
        if let Some(value) = variable("DUNNAGE_NAMESPACE")? {
            config.containerd.namespace = value;
        }
        if let Some(value) = variable("DUNNAGE_SNAPSHOTTER")? {
            config.containerd.snapshotter = value;
        }
        config.validate()?;
        Ok(config)
    }
}

fn variable(name: &'static str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::invalid_argument("the environment variable is no UTF-8").with("variable", name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_typo_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dunnage.toml");
        std::fs::write(&path, "data_root = \"/x\"\n[containerd]\nnamespce = \"a\"\n").unwrap();
        let error = Config::from_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.to_string();
        assert!(
            text.contains("namespce") && text.contains("line 3") && text.contains("dunnage.toml"),
            "{text}"
        );
    }

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let json = serde_json::to_string(&Config::default()).unwrap();
        let again = Config::from_json(&json).unwrap();
        assert_eq!(again.names.container_prefix, "workspace-");
        assert_eq!(Config::from_json("{}").unwrap().time_limits.stop_ms, 10_000);
    }

    #[test]
    fn absurd_settings_are_refused_by_name() {
        for (json, field) in [
            (r#"{"data_root":"relative"}"#, "data_root"),
            (r#"{"containerd":{"namespace":"a b"}}"#, "containerd.namespace"),
            (r#"{"time_limits":{"stop_ms":0}}"#, "time_limits.stop_ms"),
            (r#"{"registry":{"parallel_layers":1000}}"#, "registry.parallel_layers"),
            (r#"{"network":{"subnet":"10.0.0.1/8"}}"#, "network.subnet"),
            (r#"{"network":{"bridge":"much-too-long-a-name"}}"#, "network.bridge"),
            (r#"{"default_image":"BAD"}"#, "default_image"),
        ] {
            let error = Config::from_json(json).expect_err(json);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{json}");
            assert!(error.context().any(|(_, v)| v == field), "{error}");
        }
    }
}
