//! The two fixed paths in golden data: the base of its catalogs, and the target of the absolute links in its tree.
//!
//! A lock, which the kernel releases, allows one test at a time on the whole machine to use them.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::test_home::TestHome;
use super::{golden, mounted, run};

/// The home in which the golden data was made, empty; removed when dropped.
pub struct FixedHome {
    pub test_home: TestHome,
    _lock: File,
}

impl FixedHome {
    /// Waits until no other test holds the lock.
    pub fn take() -> FixedHome {
        let home = Path::new(golden::BASE).parent().unwrap();
        let lock = File::options().create(true).append(true).open(home.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        for path in mounted::below(home) {
            mounted::detach(&path);
        }
        remove(home);
        FixedHome { test_home: TestHome::at(Path::new("/home/user"), home), _lock: lock }
    }
}

impl Drop for FixedHome {
    fn drop(&mut self) {
        // Do not remove through a mount that still exists: `TestHome` detaches it right after this.
        if mounted::below(self.test_home.home()).is_empty() {
            remove(self.test_home.home());
        }
    }
}

fn remove(home: &Path) {
    if home.exists() {
        run(Command::new("chmod").args(["-R", "u+rwX"]).arg(home));
        fs::remove_dir_all(home).unwrap();
    }
}
