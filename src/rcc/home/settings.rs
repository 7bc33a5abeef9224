//! What RCC's own settings say: `rcc.yaml` (who this installation is) and `settings.yaml` (the network).
//!
//! A file that is not there means RCC's defaults. One that cannot be read for certain is an error, not a guess.

use std::io;
use std::path::PathBuf;

use super::Home;
use crate::rcc::yaml::{self, Yaml, YamlError};

/// The settings that end up in a space's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The number RCC gave this installation, if it ever ran here.
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
    /// The configuration of pip, if there is one.
    pub pip_config: Option<PathBuf>,
    /// The certificates of this site, if there are any.
    pub ca_bundle: Option<PathBuf>,
}

/// Settings that cannot be used.
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
    /// The file cannot be understood.
    #[error("Cannot be sure what {} says", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: YamlError,
    },
    /// A value is of an unexpected kind.
    #[error("Cannot be sure what '{key}' in {} says: {value:?}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: Yaml,
    },
}

/// A file of settings, or nothing.
struct File {
    path: PathBuf,
    content: Yaml,
}

impl Settings {
    /// Reads what is in `home`.
    pub fn read(home: &Home) -> Result<Settings, SettingsError> {
        let own = File::read(home.root().join("rcc.yaml"))?;
        let shared = File::read(home.root().join("settings.yaml"))?;
        // A section of the user's replaces RCC's own as a whole.
        let certificates = shared.content.get("certificates").is_some_and(|section| !section.is_nothing());
        let existing = |name: &str| Some(home.root().join(name)).filter(|path| path.is_file());
        Ok(Settings {
            installation: Some(own.text("tracking", "identity")?).filter(|text| !text.is_empty()),
            no_revocation: shared.flag("ssl-no-revoke")?,
            verify_ssl: if certificates { shared.flag("verify-ssl")? } else { true },
            legacy_renegotiation: shared.flag("legacy-renegotiation-allowed")?,
            https_proxy: shared.text("network", "https-proxy")?,
            http_proxy: shared.text("network", "http-proxy")?,
            no_proxy: shared.text("network", "no-proxy")?,
            pip_config: existing("piprc"),
            ca_bundle: existing("ca-bundle.pem"),
        })
    }
}

impl File {
    fn read(path: PathBuf) -> Result<File, SettingsError> {
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
            Ok(text) => text,
        };
        match yaml::parse(&text) {
            Ok(content) => Ok(File { path, content }),
            Err(source) => Err(SettingsError::Unclear { path, source }),
        }
    }

    fn text(&self, section: &str, key: &'static str) -> Result<String, SettingsError> {
        match self.content.get(section).and_then(|section| section.get(key)) {
            None => Ok(String::new()),
            Some(value) if value.is_nothing() => Ok(String::new()),
            Some(Yaml::Text(text)) => Ok(text.clone()),
            Some(value) => Err(self.unclear(key, value)),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, SettingsError> {
        match self.content.get("certificates").and_then(|section| section.get(key)) {
            None => Ok(false),
            Some(value) => value.flag().ok_or_else(|| self.unclear(key, value)),
        }
    }

    fn unclear(&self, key: &'static str, value: &Yaml) -> SettingsError {
        SettingsError::Value { path: self.path.clone(), key, value: value.clone() }
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
    fn what_is_not_certain_is_an_error() {
        assert!(settings(&[("settings.yaml", "certificates:\n  verify-ssl: maybe\n")]).is_err());
        assert!(settings(&[("settings.yaml", "network: &n\n")]).is_err());
    }
}
