//! The methods by which a space can appear, best first, and why one is not used.
//!
//! A method is a mount by one of several [`Mounter`]s, or plain files. A refusal is kept with its reason, reported once, and part of every
//! report. No method is skipped silently.

use serde::{Deserialize, Serialize};

/// How a space should appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Mount; materialize where nothing can be mounted
    Auto,
    /// Mount or fail
    Mount,
    /// Materialize
    Materialize,
}

/// What performs the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounter {
    /// This process itself.
    Direct,
    /// `holofs-mount-helper`.
    Helper,
    /// The setuid program of libfuse.
    Fusermount,
    /// This process, in a user and mount namespace for a command.
    Namespace,
}

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Method {
    /// Mounted by this mounter.
    Fuse(Mounter),
    /// Materialized.
    Files,
}

/// Why a method does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The method.
    #[serde(rename = "rung")]
    pub method: Method,
    /// Why, in one line.
    pub reason: String,
}

impl Method {
    /// All methods, best first.
    pub const ALL: [Method; 5] = [
        Method::Fuse(Mounter::Direct),
        Method::Fuse(Mounter::Helper),
        Method::Fuse(Mounter::Fusermount),
        Method::Fuse(Mounter::Namespace),
        Method::Files,
    ];

    /// Its name, as in reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::Fuse(Mounter::Direct) => "mount(2)",
            Method::Fuse(Mounter::Helper) => "helper",
            Method::Fuse(Mounter::Fusermount) => "fusermount3",
            Method::Fuse(Mounter::Namespace) => "namespace",
            Method::Files => "materialize",
        }
    }

    /// The drawback of a space that appeared by this method.
    pub fn cost(self) -> &'static str {
        match self {
            Method::Fuse(Mounter::Namespace) => "makes it visible to this command only",
            Method::Fuse(_) => "has no cost after the mount",
            Method::Files => "takes the time and the disk space to write every file",
        }
    }

    /// What an administrator has to do to enable it.
    pub fn allow(self) -> &'static str {
        match self {
            Method::Fuse(Mounter::Direct) => {
                "run as root with /dev/fuse (containers: --device /dev/fuse --cap-add SYS_ADMIN)"
            }
            Method::Fuse(Mounter::Helper) => {
                "run holofs-mount-helper as root and allow this user in /etc/holofs/mount-policy"
            }
            Method::Fuse(Mounter::Fusermount) => {
                "install fuse3 (setuid, no no_new_privs) and chmod 0666 /dev/fuse"
            }
            Method::Fuse(Mounter::Namespace) => {
                "allow unprivileged user namespaces, and chmod 0666 /dev/fuse"
            }
            Method::Files => "make the space's directory and the home writable",
        }
    }
}

impl From<Method> for &'static str {
    fn from(method: Method) -> &'static str {
        method.name()
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(name: String) -> Result<Method, String> {
        let found = Method::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| format!("Unknown mount method {name:?}"))
    }
}

impl Refusal {
    /// A refusal of `method`, with `reason` as one line without error numbers.
    pub fn new(method: Method, reason: impl ToString) -> Refusal {
        let mut reason = reason.to_string().split_whitespace().collect::<Vec<&str>>().join(" ");
        while let Some((before, after)) = reason.split_once(" (os error ") {
            let after = after.split_once(')').map_or("", |(_, after)| after);
            reason = format!("{before}{after}");
        }
        Refusal { method, reason }
    }
}

/// All refusals in one line.
pub fn described(reasons: &[Refusal]) -> String {
    let each: Vec<String> =
        reasons.iter().map(|refusal| format!("{}: {}", refusal.method.name(), refusal.reason)).collect();
    each.join("; ")
}

/// One line with the method and why no better one was used; `None` if it was the best.
pub fn line(method: Method, reasons: &[Refusal]) -> Option<String> {
    let line = || format!("by {}, which {} (not by {})", method.name(), method.cost(), described(reasons));
    (!reasons.is_empty()).then(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_whatever_was_said() {
        let refusal = Refusal::new(Method::Fuse(Mounter::Fusermount), "not\n  found \n");
        assert_eq!(described(&[refusal]), "fusermount3: not found");
        let refusal = Refusal::new(Method::Fuse(Mounter::Direct), "no (os error 13): never (os error 1)");
        assert_eq!(described(&[refusal]), "mount(2): no: never");
        assert_eq!(described(&[]), "");
    }

    #[test]
    fn a_method_is_named_alike_in_text_and_json() {
        for method in Method::ALL {
            assert_eq!(serde_json::json!(method), method.name());
            assert_eq!(serde_json::from_value::<Method>(serde_json::json!(method.name())).unwrap(), method);
        }
    }
}
