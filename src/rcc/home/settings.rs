//! RCC's own settings: `rcc.yaml` (the id of this installation) and `settings.yaml` (the network, and how spaces are restored). This
//! is the only reader of both.
//!
//! A missing file means RCC's defaults. Keys that we do not need are ignored, whatever their value; a needed key with a value of the
//! wrong kind is an error, not a guess.

use std::io;
use std::path::PathBuf;

use super::Home;
use crate::error::Failure;
use crate::rcc::yaml::{self, Yaml, YamlError};

/// The settings that affect a space's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The id that RCC gave this installation, if it ever ran here.
    pub installation: Option<String>,
    /// `certificates: ssl-no-revoke`.
    pub no_revocation: bool,
    /// `certificates: verify-ssl`.
    pub verify_ssl: bool,
    /// `certificates: legacy-renegotiation-allowed`.
    pub legacy_renegotiation: bool,
    /// `network: https-proxy`; empty for none.
    pub https_proxy: String,
    /// `network: http-proxy`; empty for none.
    pub http_proxy: String,
    /// `network: no-proxy`; empty for none.
    pub no_proxy: String,
    /// `holotree: restoration-strategy`, as written.
    pub restoration_strategy: Option<String>,
    /// The configuration of pip, if there is one.
    pub pip_config: Option<PathBuf>,
    /// The certificates of this site, if there are any.
    pub ca_bundle: Option<PathBuf>,
}

impl Failure for SettingsError {}

/// Settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("Cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be parsed.
    #[error("Cannot read {}", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: YamlError,
    },
    /// A value is of the wrong kind.
    #[error("The value of {key:?} in {} is not {wanted}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What was expected.
        wanted: &'static str,
    },
}

/// The maximum size of a settings file, in bytes.
const MOST: u64 = 4 << 20;

/// A settings file, or nothing.
struct File {
    path: PathBuf,
    content: Yaml,
}

impl Settings {
    /// Reads the settings in `home`.
    pub fn read(home: &Home) -> Result<Settings, SettingsError> {
        let own = File::read(home.root().join("rcc.yaml"))?;
        let shared = File::read(home.root().join("settings.yaml"))?;
        // A section in the user's file replaces RCC's own as a whole.
        let certificates = shared.section("certificates")?.is_some();
        let existing = |name: &str| Some(home.root().join(name)).filter(|path| path.is_file());
        Ok(Settings {
            installation: Some(own.text("tracking", "identity")?).filter(|text| !text.is_empty()),
            no_revocation: shared.flag("ssl-no-revoke")?,
            verify_ssl: if certificates { shared.flag("verify-ssl")? } else { true },
            legacy_renegotiation: shared.flag("legacy-renegotiation-allowed")?,
            https_proxy: shared.text("network", "https-proxy")?,
            http_proxy: shared.text("network", "http-proxy")?,
            no_proxy: shared.text("network", "no-proxy")?,
            restoration_strategy: Some(shared.text("holotree", "restoration-strategy")?)
                .filter(|text| !text.is_empty()),
            pip_config: existing("piprc"),
            ca_bundle: existing("ca-bundle.pem"),
        })
    }
}

impl File {
    fn read(path: PathBuf) -> Result<File, SettingsError> {
        let bytes = match crate::sys::fs::stat::read_regular(&path, MOST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
            Ok(bytes) => bytes,
        };
        match yaml::parse_bytes(&bytes) {
            Ok(content) => Ok(File { path, content }),
            Err(source) => Err(SettingsError::Unclear { path, source }),
        }
    }

    fn section(&self, name: &'static str) -> Result<Option<&Yaml>, SettingsError> {
        match self.content.get(name).filter(|section| !section.is_nothing()) {
            Some(section @ Yaml::Map(_)) => Ok(Some(section)),
            Some(_) => Err(self.unclear(name, "a map")),
            None => Ok(None),
        }
    }

    fn value(&self, section: &'static str, key: &'static str) -> Result<Option<&Yaml>, SettingsError> {
        let value = self.section(section)?.and_then(|section| section.get(key));
        Ok(value.filter(|value| !value.is_nothing()))
    }

    fn text(&self, section: &'static str, key: &'static str) -> Result<String, SettingsError> {
        let Some(value) = self.value(section, key)? else { return Ok(String::new()) };
        value.as_written().map(str::to_owned).ok_or_else(|| self.unclear(key, "a text"))
    }

    fn flag(&self, key: &'static str) -> Result<bool, SettingsError> {
        let Some(value) = self.value("certificates", key)? else { return Ok(false) };
        value.flag().ok_or_else(|| self.unclear(key, "true or false"))
    }

    fn unclear(&self, key: &'static str, wanted: &'static str) -> SettingsError {
        SettingsError::Value { path: self.path.clone(), key, wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::home;
    use super::*;
    use std::path::Path;

    fn settings(files: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let root = dir.path().to_str().unwrap();
        Settings::read(&home(&[("HOME", "/h"), ("ROBOCORP_HOME", root)], Path::new("/nonexistent")))
    }

    #[test]
    fn without_files_everything_is_at_rccs_defaults() {
        let found = settings(&[]).unwrap();
        assert_eq!((found.installation, found.verify_ssl, found.no_revocation), (None, true, false));
        assert_eq!((found.pip_config, found.ca_bundle, found.no_proxy.as_str()), (None, None, ""));
    }

    #[test]
    fn sections_replace_the_defaults_as_a_whole() {
        let own = "tracking:\n    consent: false\n    identity: 72b5124f-e667-8e5b-e266-4fd105bac84e\n";
        let found =
            settings(&[("rcc.yaml", own), ("settings.yaml", "certificates:\n  ssl-no-revoke: true\n")])
                .unwrap();
        assert_eq!(found.installation.as_deref(), Some("72b5124f-e667-8e5b-e266-4fd105bac84e"));
        assert_eq!((found.verify_ssl, found.no_revocation), (false, true));
        let proxies = settings(&[("settings.yaml", "network:\n  http-proxy: http://p:1\n")]).unwrap();
        assert_eq!((proxies.http_proxy.as_str(), proxies.verify_ssl), ("http://p:1", true));
    }

    #[test]
    fn everything_that_rcc_writes_is_read() {
        let text = concat!(
            "meta:\n  description: Company settings for all robots of the finance department, maintained by IT,\n",
            "    ask helpdesk for changes\n  version: 2024.1\n",
            "certificates: &c\n  verify-ssl: yes\n  ssl-no-revoke: off\n  legacy-renegotiation-allowed: True\n",
            "network: {https-proxy: \"http://proxy.example.org:8080\"}\n",
            "holotree: {restoration-strategy: copy}\nnotes: &n |\n  text\n  over lines\nother: [*n, *c]\n",
        );
        let found = settings(&[("settings.yaml", text)]).unwrap();
        assert_eq!((found.verify_ssl, found.no_revocation, found.legacy_renegotiation), (true, false, true));
        assert_eq!(found.https_proxy, "http://proxy.example.org:8080");
        assert_eq!(found.restoration_strategy.as_deref(), Some("copy"));
    }

    #[test]
    fn a_key_that_holds_something_else_is_an_error_that_names_it() {
        for (text, expected) in [
            ("certificates:\n  verify-ssl: maybe\n", "\"verify-ssl\""),
            ("certificates:\n  verify-ssl: \"true\"\n", "\"verify-ssl\""),
            ("network: [a]\n", "\"network\""),
            ("network:\n  http-proxy: [a]\n", "\"http-proxy\""),
        ] {
            let error = settings(&[("settings.yaml", text)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(settings(&[("settings.yaml", "network: &n\n")]).is_ok());
    }
}
