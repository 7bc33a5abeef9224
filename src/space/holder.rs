//! The holders of RCC's locks: marker files in `<hololib>/pids`, written, touched and expired exactly as by RCC.
//!
//! `<controller>___<ppid>___<space>___<pid>___<username>___<lock file>`, empty, touched every 7 s while the lock is held. They are
//! only informative: the lock itself is the kernel's, so errors here are ignored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::sys::fs::shared;
use crate::sys::process;

/// How often RCC touches a marker it owns.
const TOUCH_EVERY: Duration = Duration::from_secs(7);
/// The age at which RCC considers a marker abandoned.
const EXPIRES_AFTER: Duration = Duration::from_secs(35);

/// A holder of a lock, as its marker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// RCC's `--controller`.
    pub controller: String,
    /// The space it works on.
    pub space: String,
    /// Its process id.
    pub pid: String,
    /// Its user.
    pub user: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { controller, space, pid, user } = self;
        write!(f, "process {pid} of {user} (controller {controller}, space {space})")
    }
}

/// The possible holders of a lock; displayed as a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders(pub Vec<Holder>);

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_first() {
            None => f.write_str("an unidentified process"),
            Some((first, rest)) => {
                write!(f, "{first}")?;
                rest.iter().try_for_each(|holder| write!(f, " or {holder}"))
            }
        }
    }
}

/// Reads the markers in `pids_dir` for `lock_file`.
pub fn holders(pids_dir: &Path, lock_file: &str) -> Holders {
    let entries = std::fs::read_dir(pids_dir).into_iter().flatten().flatten();
    let fresh = entries.filter(|entry| {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        modified.is_ok_and(|time| SystemTime::now().duration_since(time).unwrap_or_default() < EXPIRES_AFTER)
    });
    let wanted = field(lock_file);
    let mut found: Vec<Holder> =
        fresh.filter_map(|entry| parse(entry.file_name().to_str()?, &wanted)).collect();
    found.sort_by(|left, right| left.pid.cmp(&right.pid));
    Holders(found)
}

fn parse(name: &str, lock_file: &str) -> Option<Holder> {
    let fields: Vec<&str> = name.split("___").collect();
    let [controller, _, space, pid, user, lock] = fields.as_slice() else { return None };
    (*lock == lock_file).then(|| Holder {
        controller: (*controller).to_owned(),
        space: (*space).to_owned(),
        pid: (*pid).to_owned(),
        user: (*user).to_owned(),
    })
}

/// One field of a marker's name: trimmed; runs of blanks, slashes, backslashes and underscores become one underscore.
fn field(text: &str) -> String {
    let mut out = String::new();
    for symbol in text.trim().chars() {
        let joiner = symbol.is_whitespace() || matches!(symbol, '/' | '\\' | '_');
        match joiner {
            true if out.ends_with('_') => {}
            true => out.push('_'),
            false => out.push(symbol),
        }
    }
    out
}

/// The name of this process' marker.
fn marker_name(controller: &str, space: &str, lock_file: &str) -> String {
    let (parent, pid) = (process::parent_id().to_string(), std::process::id().to_string());
    let user = process::user_name();
    [controller, &parent, space, &pid, &user, lock_file].map(field).join("___")
}

/// A marker that is refreshed until it is dropped.
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Marker {
    /// Creates the marker; `None` if RCC's directory is not writable.
    pub fn put(pids_dir: &Path, controller: &str, space: &str, lock_file: &str) -> Option<Marker> {
        let path = pids_dir.join(marker_name(controller, space, lock_file));
        if let Err(error) = touch(&path) {
            log::debug!("No lock marker at {}: {error}", path.display());
            return None;
        }
        let (stop, stopped) = channel();
        let kept = path.clone();
        let keep = move || {
            while stopped.recv_timeout(TOUCH_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = touch(&kept) {
                    log::debug!("Cannot refresh the lock marker {}: {error}", kept.display());
                }
            }
        };
        let keeper = std::thread::Builder::new().name("lock-marker".to_owned()).spawn(keep).ok();
        Some(Marker { path, stop: Some(stop), keeper })
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            log::debug!("The keeper of {} panicked", self.path.display());
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("The lock marker {} stays until it expires: {error}", self.path.display());
        }
    }
}

fn touch(path: &Path) -> std::io::Result<()> {
    let file = shared::open_append(path, 0o666)?;
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn fields_are_joined_as_rcc_joins_them() {
        assert_eq!(field("  a b//c\\\\d__e "), "a_b_c_d_e");
        assert_eq!(field("59acff1_5a1fac3_9fcd2534.lck"), "59acff1_5a1fac3_9fcd2534.lck");
    }

    #[test]
    fn a_marker_names_its_holder_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::put(dir.path(), "user", "my space", "global.lck").unwrap();
        let found = holders(dir.path(), "global.lck");
        assert_eq!(found.0.len(), 1);
        assert_eq!((found.0[0].controller.as_str(), found.0[0].space.as_str()), ("user", "my_space"));
        assert_eq!(found.0[0].pid, std::process::id().to_string());
        assert_eq!(holders(dir.path(), "other.lck"), Holders::default());
        drop(marker);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn markers_of_long_ago_and_strangers_are_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let old = File::create(dir.path().join("user___1___s___2___me___global.lck")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(36)).unwrap();
        std::fs::write(dir.path().join("global.lck"), "").unwrap();
        assert_eq!(holders(dir.path(), "global.lck"), Holders::default());
        assert!(Marker::put(&dir.path().join("absent"), "user", "s", "global.lck").is_none());
    }
}
