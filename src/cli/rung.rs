//! The ways in which a space can appear, the best first, and why one is not taken.
//!
//! A refusal is kept with its reason, told once on stderr, and is in every report. Nothing is ever skipped silently.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How a space appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Mount; materialize where nothing can be mounted
    Auto,
    /// Mount or fail
    Mount,
    /// Materialize
    Materialize,
}

/// One way, from the best to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rung {
    /// This process mounts by itself.
    #[serde(rename = "mount(2)")]
    Direct,
    /// `holofs-mount-helper` mounts for us.
    #[serde(rename = "helper")]
    Helper,
    /// The setuid program of libfuse mounts for us.
    #[serde(rename = "fusermount3")]
    Fusermount,
    /// In a user and mount namespace of a command's own.
    #[serde(rename = "namespace")]
    Namespace,
    /// Plain files.
    #[serde(rename = "materialize")]
    Materialize,
}

/// Why a rung does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rung.
    pub rung: Rung,
    /// Why, in one line.
    pub reason: String,
}

impl Rung {
    /// Its name, as in reports.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Direct => "mount(2)",
            Rung::Helper => "helper",
            Rung::Fusermount => "fusermount3",
            Rung::Namespace => "namespace",
            Rung::Materialize => "materialize",
        }
    }

    /// What a space costs that appeared so.
    pub fn cost(self) -> &'static str {
        match self {
            Rung::Direct | Rung::Helper | Rung::Fusermount => "costs nothing more once it is mounted",
            Rung::Namespace => "shows it to this command only",
            Rung::Materialize => "costs the time and the disk of writing every file",
        }
    }

    /// What an administrator would have to do to make it hold.
    pub fn allow(self) -> &'static str {
        match self {
            Rung::Direct => "run as root with /dev/fuse (containers: --device /dev/fuse --cap-add SYS_ADMIN)",
            Rung::Helper => "run holofs-mount-helper as root and allow this user in /etc/holofs/mount-policy",
            Rung::Fusermount => "install fuse3 (setuid, no no_new_privs) and chmod 0666 /dev/fuse",
            Rung::Namespace => "allow unprivileged user namespaces, and chmod 0666 /dev/fuse",
            Rung::Materialize => "make the space's directory and the home writable",
        }
    }
}

impl Refusal {
    /// `rung` was refused because of `reason`, which becomes one line without error numbers.
    pub fn new(rung: Rung, reason: impl ToString) -> Refusal {
        let mut reason = reason.to_string().split_whitespace().collect::<Vec<&str>>().join(" ");
        while let Some((before, after)) = reason.split_once(" (os error ") {
            let after = after.split_once(')').map_or("", |(_, after)| after);
            reason = format!("{before}{after}");
        }
        Refusal { rung, reason }
    }
}

/// The reasons in one line.
pub fn told(reasons: &[Refusal]) -> String {
    let each: Vec<String> =
        reasons.iter().map(|refusal| format!("{}: {}", refusal.rung.name(), refusal.reason)).collect();
    each.join("; ")
}

/// The one line that tells which rung it was, and why not a better one; none if it was the best.
pub fn line(rung: Rung, reasons: &[Refusal]) -> Option<String> {
    let line = || format!("by {}, which {} (not by {})", rung.name(), rung.cost(), told(reasons));
    (!reasons.is_empty()).then(line)
}

/// Tells that line on stderr.
#[allow(clippy::print_stderr)]
pub fn tell(rung: Rung, reasons: &[Refusal]) {
    if let Some(line) = line(rung, reasons) {
        eprintln!("holofs: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_whatever_was_said() {
        let refusal = Refusal::new(Rung::Fusermount, "not\n  found \n");
        assert_eq!(told(&[refusal]), "fusermount3: not found");
        let refusal = Refusal::new(Rung::Direct, "no (os error 13): never (os error 1)");
        assert_eq!(told(&[refusal]), "mount(2): no: never");
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn a_rung_is_named_alike_in_text_and_json() {
        for rung in [Rung::Direct, Rung::Helper, Rung::Fusermount, Rung::Namespace, Rung::Materialize] {
            assert_eq!(serde_json::json!(rung), rung.name());
        }
    }
}
