//! containerd's `hosts.toml`: which hosts stand in for a registry, and how each is reached
//! (<https://github.com/containerd/containerd/blob/main/docs/hosts.md>).

use super::endpoint::{Capabilities, Endpoint};
use super::tls::TlsSettings;
use crate::error::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, Spanned<Host>>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Deserialize, Default, Clone)]
struct Host {
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    ca: Option<OneOrMany>,
    #[serde(default)]
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    override_path: bool,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn values(&self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::Many(values) => values.clone(),
        }
    }
}

/// One file with certificate and key, or a list of such files and of pairs `[certificate, key]`. A pair's key may be
/// empty: then its first file holds both.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Many(Vec<OneOrMany>),
}

/// The endpoints of `registry` in the order they are asked. Without a file: the registry itself.
///
/// # Errors
/// INVALID_ARGUMENT for a malformed file, with its path; an error of the file system other than absence.
pub(super) fn endpoints(directory: &Path, registry: &str) -> Result<Vec<Endpoint>> {
    for folder in folders(registry) {
        let path = directory.join(&folder).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return parse(&text, registry, &directory.join(&folder))
                    .map_err(|error| error.with("path", path.display()));
            }
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(e) => {
                return Err(Error::io(e, "cannot read the hosts file").with("path", path.display()));
            }
        }
    }
    Ok(vec![Endpoint::of_registry(registry)])
}

/// The folders in which a registry's file may be, the first that has one decides.
fn folders(registry: &str) -> Vec<String> {
    let mut folders = Vec::new();
    // containerd's form for file systems that allow no colon.
    if let Some((host, port)) = registry.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        folders.push(format!("{host}_{port}_"));
    }
    folders.push(registry.to_owned());
    folders.push("_default".to_owned());
    folders
}

fn parse(text: &str, registry: &str, folder: &Path) -> Result<Vec<Endpoint>> {
    let file: File =
        toml::from_str(text).map_err(|e| Error::invalid_argument("malformed hosts file").caused_by(e))?;
    // A table forgets the order of its keys; the places in the text remember it.
    let mut hosts: Vec<(usize, &String, &Host)> =
        file.host.iter().map(|(url, host)| (host.span().start, url, host.get_ref())).collect();
    hosts.sort_by_key(|(place, ..)| *place);
    let mut endpoints = Vec::new();
    for (_, url, host) in hosts {
        endpoints.push(endpoint(url, host, registry, folder)?);
    }
    match &file.server {
        Some(server) => endpoints.push(endpoint(server, &file.own, registry, folder)?),
        None => {
            let mut own = Endpoint::of_registry(registry);
            if own.tls == TlsSettings::default() {
                own.tls = tls(&file.own, folder)?;
                own.headers = headers(&file.own)?;
            }
            endpoints.push(own);
        }
    }
    Ok(endpoints)
}

fn endpoint(url: &str, host: &Host, registry: &str, folder: &Path) -> Result<Endpoint> {
    let fail = |why: &str| {
        Error::invalid_argument(format!("malformed host in the hosts file: {why}"))
            .with("host", format!("{url:?}"))
    };
    let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed = reqwest::Url::parse(&full).map_err(|e| fail("it is no URL").caused_by(e))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(fail("use http or https"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(fail("put credentials into the configuration, not into the URL"));
    }
    let mut path = parsed.path().trim_end_matches('/').to_owned();
    if !host.override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    Ok(Endpoint::new(
        parsed.scheme(),
        &authority(&parsed),
        &path,
        registry,
        capabilities(&host.capabilities)
            .map_err(|unknown| fail(&format!("unknown capability {unknown:?}")))?,
        headers(host)?,
        tls(host, folder)?,
    ))
}

fn authority(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn capabilities(names: &[String]) -> Result<Capabilities, String> {
    if names.is_empty() {
        return Ok(Capabilities { pull: true, resolve: true });
    }
    let mut found = Capabilities { pull: false, resolve: false };
    for name in names {
        match name.as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" | "referrers" => {}
            other => return Err(other.to_owned()),
        }
    }
    Ok(found)
}

fn headers(host: &Host) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in &host.header {
        let fail = || {
            Error::invalid_argument("malformed header in the hosts file").with("header", format!("{name:?}"))
        };
        let key = HeaderName::try_from(name.as_str()).map_err(|_| fail())?;
        for value in values.values() {
            let mut value = HeaderValue::try_from(value).map_err(|_| fail())?;
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

fn tls(host: &Host, folder: &Path) -> Result<TlsSettings> {
    let place = |name: &String| folder.join(name);
    let pairs = match &host.client {
        None => Vec::new(),
        Some(ClientFiles::One(file)) => vec![(place(file), None)],
        Some(ClientFiles::Many(many)) => {
            let pair = |files: &OneOrMany| match files.values().as_slice() {
                [both] => Ok((place(both), None)),
                [certificate, key] => Ok((place(certificate), (!key.is_empty()).then(|| place(key)))),
                _ => Err(Error::invalid_argument(
                    "malformed `client` in the hosts file: write [[\"certificate.pem\", \"key.pem\"]]",
                )),
            };
            many.iter().map(pair).collect::<Result<_>>()?
        }
    };
    Ok(TlsSettings {
        skip_verify: host.skip_verify.unwrap_or(false),
        ca: host.ca.as_ref().map(OneOrMany::values).unwrap_or_default().iter().map(place).collect(),
        client: pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::path::PathBuf;

    fn bases(endpoints: &[Endpoint]) -> Vec<&str> {
        endpoints.iter().map(|e| e.base.as_str()).collect()
    }

    #[test]
    fn mirrors_keep_the_files_order_and_the_server_comes_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://zz.example"]
              capabilities = ["pull", "resolve"]
            [host."http://10.0.0.1:5000/team/v2"]
              capabilities = ["pull"]
              override_path = true
              [host."http://10.0.0.1:5000/team/v2".header]
                x-tenant = "t"
            [host."https://aa.example/cache"]
              ca = ["ca.pem", "/abs/ca.pem"]
              client = [["c.pem", "k.pem"]]
              skip_verify = true
        "#;
        let found = parse(text, "docker.io", Path::new("/etc/x")).unwrap();
        assert_eq!(
            bases(&found),
            [
                "https://zz.example/v2",
                "http://10.0.0.1:5000/team/v2",
                "https://aa.example/cache/v2",
                "https://registry-1.docker.io/v2"
            ]
        );
        assert!(!found[1].capabilities.resolve && found[1].capabilities.pull);
        assert_eq!(found[1].headers["x-tenant"], "t");
        assert!(found[2].tls.skip_verify);
        assert_eq!(found[2].tls.ca, [PathBuf::from("/etc/x/ca.pem"), PathBuf::from("/abs/ca.pem")]);
        assert_eq!(
            found[2].tls.client,
            [(PathBuf::from("/etc/x/c.pem"), Some(PathBuf::from("/etc/x/k.pem")))]
        );
        assert!(found[0].is_mirror && !found[3].is_mirror);
    }

    #[test]
    fn client_certificates_are_named_in_many_forms() {
        let both = |name: &str| (PathBuf::from("/etc/x").join(name), None);
        let pair = (PathBuf::from("/etc/x/c.pem"), Some(PathBuf::from("/k.pem")));
        for (text, wanted) in [
            (r#""b.pem""#, vec![both("b.pem")]),
            (r#"["b.pem", "/d.pem"]"#, vec![both("b.pem"), both("/d.pem")]),
            (r#"[["c.pem", "/k.pem"]]"#, vec![pair.clone()]),
            (r#"[["c.pem", "/k.pem"], ["b.pem", ""], ["e.pem"], "f.pem"]"#, {
                vec![pair, both("b.pem"), both("e.pem"), both("f.pem")]
            }),
        ] {
            let text = format!("[host.\"https://a.example\"]\nclient = {text}\n");
            let found = parse(&text, "x.example", Path::new("/etc/x")).unwrap();
            assert_eq!(found[0].tls.client, wanted, "{text}");
        }
    }

    #[test]
    fn override_path_leaves_even_an_empty_path() {
        let text = "[host.\"https://a.example\"]\noverride_path = true\n";
        assert_eq!(bases(&parse(text, "x.example", Path::new("/")).unwrap())[0], "https://a.example");
    }

    #[test]
    fn the_folder_with_the_port_decides_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let write = |folder: &str, server: &str| {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            let text = format!("server = \"{server}\"\n");
            std::fs::write(dir.path().join(folder).join("hosts.toml"), text).unwrap();
        };
        let ask = |registry: &str| endpoints(dir.path(), registry).unwrap().pop().unwrap().base;
        assert_eq!(ask("a.example:5000"), "https://a.example:5000/v2");
        write("_default", "https://d.example");
        assert_eq!(ask("a.example:5000"), "https://d.example/v2");
        write("a.example:5000", "http://p.example");
        assert_eq!(ask("a.example:5000"), "http://p.example/v2");
        write("a.example_5000_", "http://q.example");
        assert_eq!(ask("a.example:5000"), "http://q.example/v2");
    }

    #[test]
    fn malformed_files_are_refused_with_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("_default");
        std::fs::create_dir_all(&path).unwrap();
        for text in [
            "server = ",
            "server = \"ftp://x\"",
            "[host.\"https://u:p@x\"]",
            "[host.\"https://x\"]\ncapabilities = [\"fly\"]",
            "[host.\"https://x\".header]\n\"b d\" = \"v\"",
            "[host.\"https://x\"]\nclient = [[\"a\", \"b\", \"c\"]]",
            "[host.\"https://x\"]\nclient = [[]]",
            "client = [[]]",
        ] {
            std::fs::write(path.join("hosts.toml"), text).unwrap();
            let error = endpoints(dir.path(), "x.example").expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.to_string().contains("_default/hosts.toml"), "{error}");
        }
    }
}
