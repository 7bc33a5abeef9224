//! In every situation in which a space can be mounted, a killed server is replaced, and a restart works: programs notice neither.

use super::world::{NOBODY, World};
use crate::common::{is_root, said, skip, stdout};

/// Kills the server of its own mount seven times and restarts it once, each time with a change right after.
const SCRIPT: &str = r#"
supervisor=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$ROBOCORP_HOME"/holofs/spaces/*/mount.json)
cd "$RCC_HOLOTREE_SPACE_ROOT"
for i in 1 2 3 4 5 6 7; do
  # The next server is there as soon as it answers.
  stat -f . > /dev/null; kill -KILL $(cat /proc/$supervisor/task/$supervisor/children)
  mkdir d$i && echo $i >> new && mv d$i e$i && rmdir e$i || exit 3
  for j in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do stat -f . > /dev/null || exit 4; done
done
"$T"/bin/holofs restart s > "$T"/restarted 2>&1 || { cat "$T"/restarted; exit 5; }
echo restarted >> new && tr '\n' ' ' < new
"#;

fn survives(setup: &[&str], method: &str) {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let world = if setup.contains(&"helper") { world.and_helper() } else { world };
    std::fs::File::create(world.path().join("restarted")).unwrap();
    std::os::unix::fs::chown(world.path().join("restarted"), Some(NOBODY), Some(NOBODY)).unwrap();
    let args = ["run", "--json", world.catalog(), "s", "--", "sh", "-c", SCRIPT];
    let output = world.holofs(NOBODY, setup, &args);
    let text = said(&output);
    assert!(output.status.success(), "{setup:?}: {text}");
    assert_eq!(stdout(&output).trim_end(), "1 2 3 4 5 6 7 restarted", "{setup:?}: {text}");
    assert!(text.contains(&format!("\"rung\":\"{method}\"")), "{setup:?}: {text}");
}

#[test]
fn a_killed_server_is_replaced_through_the_helper() {
    survives(&["dev 600", "helper"], "helper");
}

#[test]
fn a_killed_server_is_replaced_under_fusermount() {
    survives(&["dev 666"], "fusermount3");
}

#[test]
fn a_killed_server_is_replaced_in_the_namespace_of_a_command() {
    survives(&["dev 666", "no-fusermount"], "namespace");
}

#[test]
fn a_killed_server_is_replaced_in_a_user_namespace() {
    survives(&["dev 666", "userns"], "mount(2)");
}
