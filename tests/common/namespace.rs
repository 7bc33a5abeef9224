//! Mount namespaces of tests. A new one has a copy of every mount of the machine, and the server of a mount runs as long as a copy
//! exists: the tests that run at the same time would wait for each other.

use std::process::Command;

use super::test_home::TestHome;

/// Removes the copies of the mounts of other tests, then executes its arguments. Sends no request to their servers.
const WITHOUT_OTHERS: &str = r#"
table=$(cat /proc/self/mountinfo)
echo "$table" | while read -r _ _ _ _ point rest; do
  case $rest in *" - fuse"*) ;; *) continue ;; esac
  case $point in "$OWN_MOUNTS"/*) ;; *) umount --lazy --internal-only --no-canonicalize "$point" 2>/dev/null ;; esac
done
unset OWN_MOUNTS table
exec "$@""#;

/// `unshare` with these options; the caller adds the program, which sees only those FUSE mounts that this test made.
pub fn unshare(test_home: &TestHome, options: &[&str]) -> Command {
    let mut command = test_home.command("unshare");
    command.env("OWN_MOUNTS", test_home.home());
    command.args(options).args(["sh", "-c", WITHOUT_OTHERS, "sh"]);
    command
}
