//! The one place that golden data names: its catalogs' base, and the target of the absolute links in its tree.
//!
//! One test at a time on the whole machine has it, by a lock that the kernel releases.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::sandbox::Sandbox;
use super::{golden, mounted, run};

/// The home that golden data was made in, empty; gone when dropped.
pub struct FixedHome {
    pub sandbox: Sandbox,
    _lock: File,
}

impl FixedHome {
    /// Waits until no other test has it.
    pub fn take() -> FixedHome {
        let home = Path::new(golden::BASE).parent().unwrap();
        let lock = File::options().create(true).append(true).open(home.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        for path in mounted::below(home) {
            mounted::detach(&path);
        }
        remove(home);
        FixedHome { sandbox: Sandbox::at(Path::new("/home/user"), home), _lock: lock }
    }
}

impl Drop for FixedHome {
    fn drop(&mut self) {
        // Never through a mount that is still there: the sandbox detaches it right after this.
        if mounted::below(self.sandbox.home()).is_empty() {
            remove(self.sandbox.home());
        }
    }
}

fn remove(home: &Path) {
    if home.exists() {
        run(Command::new("chmod").args(["-R", "u+rwX"]).arg(home));
        fs::remove_dir_all(home).unwrap();
    }
}
