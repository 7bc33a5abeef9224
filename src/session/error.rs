//! Why a space cannot be used: what front ends tell apart.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::method::{Refusal, told};

/// Nothing can be mounted: no device, no permission, no helper.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error(
    "Cannot mount {what}: {}; `holofs materialize` needs no mount, `holofs doctor` tells what would help",
    told(refused)
)]
pub struct CannotMount {
    /// The mountpoint.
    pub what: String,
    /// Each way that was tried, and why it failed.
    pub refused: Vec<Refusal>,
}

/// There is no such thing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// Something is in use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(pub String);

/// A command did not begin.
#[derive(Debug, thiserror::Error)]
#[error("Cannot run {}", program.display())]
pub struct CannotStart {
    /// The command.
    pub program: OsString,
    /// There is such a file: it cannot be executed.
    pub is_there: bool,
    /// Why.
    pub source: std::io::Error,
}

/// The process that was to serve a mount failed, and said why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct DaemonFailed {
    /// The exit code of the failure's class.
    pub code: u8,
    /// What failed.
    pub message: String,
    /// What that was caused by.
    pub source: Option<Box<DaemonFailed>>,
}

impl DaemonFailed {
    /// What `error`, whose class has `code`, says, with all that caused it.
    pub fn of(error: &anyhow::Error, code: u8) -> DaemonFailed {
        let mut told: Option<Box<DaemonFailed>> = None;
        for cause in error.chain().collect::<Vec<_>>().into_iter().rev() {
            told = Some(Box::new(DaemonFailed { code, message: cause.to_string(), source: told }));
        }
        told.map_or_else(|| DaemonFailed { code, message: error.to_string(), source: None }, |told| *told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_causes_on_the_way() {
        let error = anyhow::anyhow!("no such file").context("Cannot open it");
        let told = serde_json::to_string(&DaemonFailed::of(&error, 3)).unwrap();
        let heard: DaemonFailed = serde_json::from_str(&told).unwrap();
        assert_eq!(heard.code, 3);
        assert_eq!(format!("{:#}", anyhow::Error::from(heard)), "Cannot open it: no such file");
    }
}
