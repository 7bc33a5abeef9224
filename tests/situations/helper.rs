//! Two users and one mount helper: each gets its own mounts, and no access to the other's.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::world::{GAMES, NOBODY, World};
use crate::common::{is_root, project, run, said, skip, stderr, stdout};

/// Starts the helper in the same mount namespace as the following commands: `$S` is its socket, its log is `$T/helper.log`.
const HELPER: &str = r#"
export S=$T/mount.sock
helper() {
  printf '%s\n' "$1" > $T/policy; chmod 644 $T/policy
  $T/bin/holofs-mount-helper --socket $S --policy $T/policy 2> $T/helper.log &
  H=$!; trap 'kill $H' EXIT
  while [ ! -S $S ] || ! grep -qs ready $T/helper.log; do kill -0 $H || { cat $T/helper.log; exit 99; }; sleep 0.02; done
  export HOLOFS_MOUNT_HELPER=$S
}
as() { u=$1; shift; setpriv --reuid $u --regid $u --clear-groups -- "$@"; }
"#;

/// The helper next to the program under test; built if only the program was.
pub fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_holofs")).with_file_name("holofs-mount-helper");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "holofs-mount-helper"]).current_dir(project());
        // For another profile, `cargo test --workspace` has built it already.
        if binary.parent().is_some_and(|dir| dir.ends_with("debug")) {
            run(&mut cargo);
        }
        binary
    };
    BUILT.get_or_init(build).clone()
}

pub fn world(uid: u32) -> World {
    World::golden(uid).and_helper()
}

/// A script run by root, with the helper running under this policy; only root can use the device, so that only the helper can mount.
pub fn with_helper(world: &World, policy: &str, script: &str) -> Output {
    let script = format!("{HELPER}helper '{policy}'\n{script}");
    world.shell(0, &["dev 600", "no-fusermount"], &script)
}

pub fn audit(world: &World) -> String {
    std::fs::read_to_string(world.path().join("helper.log")).unwrap()
}

#[test]
fn helper_mounts_and_unmounts_for_a_user_without_any_right() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    let (catalog, policy) = (world.catalog(), format!("allow {NOBODY} {} 2", world.path().display()));
    let script = format!(
        "as {NOBODY} $0 run --json {catalog} a -- sh -c 'cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool | head -1; cat /proc/self/mountinfo | grep fuse.holofs'
         as {NOBODY} $0 mount {catalog} b; as {NOBODY} $0 unmount b; ! grep fuse.holofs /proc/self/mountinfo | grep $T
         grep -e CapPrm -e CapBnd -e NoNewPrivs /proc/$H/status"
    );
    let output = with_helper(&world, &policy, &script);
    assert!(output.status.success(), "{}\n{}", said(&output), audit(&world));
    assert!(stderr(&output).contains("\"rung\":\"helper\""), "{}", said(&output));
    let text = stdout(&output);
    assert!(text.contains("nosuid,nodev") && text.contains(&format!("user_id={NOBODY}")), "{text}");
    assert!(text.contains("CapPrm:\t0000000000200000\nCapBnd:\t0000000000200000\nNoNewPrivs:\t1"), "{text}");
    let log = audit(&world);
    assert_eq!(log.matches(": mounted ").count(), 2, "{log}");
    assert_eq!(log.matches(": unmounted ").count(), 2, "{log}");
}

#[test]
fn neither_user_can_mount_on_unmount_or_read_what_is_the_others() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    let policy = format!("allow * {} 8", world.path().display());
    // The other user tries to reach the first one's mount through the helper, by path and by descriptor, and to read from it.
    let script = format!(
        "as {NOBODY} $0 mount {catalog} a > $T/where; where=$(cat $T/where)
         mkdir $T/theirs $T/mine; chown {NOBODY} $T/theirs; chown {GAMES} $T/mine; chmod 777 $T/theirs
         as {GAMES} python3 $T/ask mount $T/theirs || true
         as {GAMES} python3 $T/ask unmount $where || true
         as {GAMES} ls $where 2>&1 || true
         as {GAMES} python3 $T/ask mount $T/mine keep
         as {NOBODY} ls $where > $T/list; test -s $T/list
         as {NOBODY} $0 unmount a",
        catalog = world.catalog()
    );
    std::fs::write(world.path().join("ask"), ASK).unwrap();
    let output = with_helper(&world, &policy, &script);
    assert!(output.status.success(), "{}\n{}", said(&output), audit(&world));
    let text = stdout(&output);
    assert!(text.contains("the directory belongs to another user"), "{text}");
    // The other user may not even access the mount, so it has no descriptor to send.
    assert!(
        text.contains("unmount: Permission denied") || text.contains("it belongs to another user"),
        "{text}"
    );
    assert!(text.contains("Permission denied"), "{text}");
    assert!(text.contains("mount: done"), "{text}");
}

#[test]
fn hostile_requests_are_refused_with_a_reason_and_the_helper_keeps_running() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    std::fs::write(world.path().join("ask"), ASK).unwrap();
    let root = world.path().display();
    let policy = format!("allow {NOBODY} {root}/mine 1\\nallow {GAMES} {root} 1").replace("\\n", "\n");
    let script = format!(
        "mkdir -p $T/mine/a $T/mine/b $T/outside; chown -R {NOBODY} $T/mine $T/outside; touch $T/mine/file
         n() {{ as {NOBODY} python3 $T/ask \"$@\" 2>&1 || true; }}
         n mount $T/outside; n mount $T/mine/file; n mount /proc/self/fd; n mount $T/mine/a allow-other; n gone $T/mine/c
         n raw ''; n raw 00; n raw $(printf %0200d 0); n many $T/mine/a; n none
         n newer $T/mine/a; n unmount-id $T/mine/a 1
         chmod 666 $T/policy; n mount $T/mine/a; chmod 644 $T/policy
         as {NOBODY} python3 $T/ask hold $T/mine/a $T/mine/b",
    );
    let output = with_helper(&world, &policy, &script);
    assert!(output.status.success(), "{}\n{}", said(&output), audit(&world));
    let text = stdout(&output);
    for why in [
        "no rule of the policy allows it",
        "the descriptor is not a directory",
        "nothing is mounted on a file system of type \"proc\"",
        "the policy does not allow access by other users",
        "the directory was removed",
        "a request has 20 bytes, not 0",
        "a request has 20 bytes, not 1",
        "a request has 20 bytes, not 21",
        "too many descriptors",
        "1 or 2 descriptors come with a request, not 0",
        "version 2 is not supported, only 1",
        "the descriptor is of another mount",
        "only root can write",
        "the limit of mounts (1) is reached",
    ] {
        assert!(text.contains(why), "no {why:?} in {text}\n{}", audit(&world));
    }
    assert!(text.ends_with("hold: the first mounted\n"), "{text}");
}

#[test]
fn helper_never_mounts_elsewhere_when_a_directory_is_swapped_for_a_link() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    std::fs::write(world.path().join("ask"), ASK).unwrap();
    std::fs::write(world.path().join("swap"), SWAP).unwrap();
    let policy = format!("allow * {} 8", world.path().display());
    let script = format!(
        "mkdir -p $T/mine/real $T/victim; chown -R {NOBODY} $T/mine; chown {GAMES} $T/victim; chmod 777 $T/victim
         setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- python3 $T/swap $T/mine $T/victim > /dev/null 2>&1 & W=$!
         trap 'kill $H $W' EXIT
         as {NOBODY} python3 $T/ask race $T/mine/d 4
         grep fuse.holofs /proc/self/mountinfo | grep -c $T || true"
    );
    let output = with_helper(&world, &policy, &script);
    let text = stdout(&output);
    assert!(
        output.status.success() && text.ends_with("race: some mounted, some refused\n0\n"),
        "{}",
        said(&output)
    );
}

#[test]
fn helper_serves_another_mount_namespace_only_if_the_policy_allows_it() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    let script = format!(
        "unshare --mount --propagation private setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- \
         $0 run --json --mode mount {} a -- true; echo \"ended $?\"",
        world.catalog()
    );
    let root = world.path().display();
    let refused = with_helper(&world, &format!("allow {NOBODY} {root} 8"), &format!("set +e; {script}"));
    assert!(stdout(&refused).contains("ended 125"), "{}", said(&refused));
    assert!(
        stderr(&refused).contains("the policy does not allow other mount namespaces"),
        "{}",
        said(&refused)
    );
    let served = with_helper(&world, &format!("allow {NOBODY} {root} 8 namespaces"), &script);
    assert!(stderr(&served).contains("\"rung\":\"helper\""), "{}\n{}", said(&served), audit(&world));
    assert!(stdout(&served).contains("ended 0"), "{}", said(&served));
}

#[test]
fn helper_takes_the_socket_of_systemd_and_refuses_to_run_without_its_capability() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    std::fs::write(world.path().join("pass"), PASS).unwrap();
    let script = format!(
        "{HELPER}echo 'allow {NOBODY} '$T 8 > $T/policy
         python3 $T/pass $S $T/bin/holofs-mount-helper --policy $T/policy 2> $T/helper.log & H=$!; trap 'kill $H' EXIT
         until grep -qs ready $T/helper.log; do sleep 0.02; done
         HOLOFS_MOUNT_HELPER=$S as {NOBODY} $0 run --json {} a -- true
         setpriv --bounding-set -sys_admin $T/bin/holofs-mount-helper --policy $T/policy --socket $T/x 2>&1 || true
         $T/bin/holofs-mount-helper --socket $S --policy $T/policy 2>&1 || true
         $T/bin/holofs-mount-helper --what 2>&1 | head -1",
        world.catalog()
    );
    let output = world.shell(0, &["dev 600"], &script);
    assert!(stderr(&output).contains("\"rung\":\"helper\""), "{}\n{}", said(&output), audit(&world));
    let text = stdout(&output);
    let lines = [
        "holofs-mount-helper: Mounting needs CAP_SYS_ADMIN: start it as root, privileged",
        "mount.sock: another process listens there already",
        "holofs-mount-helper: Usage: holofs-mount-helper [--socket PATH] [--policy PATH]",
    ];
    assert!(text.lines().zip(lines).filter(|(line, wanted)| line.ends_with(wanted)).count() == 3, "{text}");
}

#[test]
fn helper_refuses_a_user_namespace_with_the_reason() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    let policy = format!("allow {NOBODY} {} 8 namespaces", world.path().display());
    for apart in ["-U", "-Um", "-Urm"] {
        let script = format!(
            "as {NOBODY} unshare {apart} $0 run --mode mount {} a -- true || echo \"ended $?\"",
            world.catalog()
        );
        let refused = with_helper(&world, &policy, &script);
        assert_eq!(stdout(&refused), "ended 125\n", "{apart}: {}", said(&refused));
        let why = "helper: $S has no server, or one outside of this user namespace, which the mount helper does not serve;";
        let why = why.replace("$S", &world.path().join("mount.sock").display().to_string());
        assert!(stderr(&refused).contains(&why), "{apart}: {}", said(&refused));
        assert!(!audit(&world).contains(": mounted "), "{apart}: {}", audit(&world));
    }
}

/// Alternates `d` in the first directory between a directory and a link to the second one.
const SWAP: &str = r#"
import os, sys, time
mine, victim = sys.argv[1:]
d, aside, end = mine + "/d", mine + "/aside", time.time() + 20
steps = [lambda: os.mkdir(d), lambda: os.rename(d, aside), lambda: os.symlink(victim, d), lambda: os.unlink(d), lambda: os.rmdir(aside)]
while time.time() < end:
    for step in steps:
        try: step()
        except OSError: pass
"#;

/// Passes a listening socket like systemd.
const PASS: &str = r#"
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o666); s.listen(8)
if s.fileno() == 3: os.set_inheritable(3, True)
else: os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Speaks the protocol without the checks of the real client.
pub const ASK: &str = r#"
import array, os, socket, struct, sys, time
def ask(packet, fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(os.environ["S"])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try: s.sendmsg([packet], rights)
    except BrokenPipeError: pass
    try: data, got, _, _ = s.recvmsg(4096, 64)
    except ConnectionResetError: data, got, _, _ = s.recvmsg(4096, 64)
    status, ident = struct.unpack("<HQ", data[6:16])
    return ("done" if status == 0 else data[16:].decode()), ident, got
def packet(operation, flags=0, ident=0, version=1): return struct.pack("<4sHHIQ", b"HFMH", version, operation, flags, ident)
def at(path): return os.open(path, os.O_PATH)
what, words = sys.argv[1], sys.argv[2:]
try:
    if what == "mount": answer = ask(packet(1, 2 if "allow-other" in words else 0), [at(words[0])])
    elif what == "gone":
        os.mkdir(words[0]); fd = at(words[0]); os.rmdir(words[0]); answer = ask(packet(1), [fd])
    elif what == "raw": answer = ask(bytes.fromhex(words[0]), [at("/")]) if words[0] else ask(b"", [at("/")])
    elif what == "many": answer = ask(packet(1), [at(words[0])] * 5)
    elif what == "none": answer = ask(packet(1), [])
    elif what == "newer": answer = ask(packet(1, version=2), [at(words[0])])
    elif what == "unmount-id": answer = ask(packet(2, 0, int(words[1])), [at(words[0])])
    elif what == "unmount":
        fd = at(words[0]); ident = int(next(l for l in open("/proc/self/fdinfo/%d" % fd) if l.startswith("mnt_id")).split()[1])
        answer = ask(packet(2, 0, ident), [fd])
    elif what == "race":
        mounted = refused = tried = 0
        end = time.time() + int(words[1])
        while time.time() < end:
            try: fd = at(words[0])
            except OSError: continue
            tried += 1
            said, ident, devices = ask(packet(1), [fd]); os.close(fd)
            if said == "done":
                # What is mounted on cannot be swapped: this is the mount, by whatever name it has now.
                for name in (words[0], os.path.dirname(words[0]) + "/aside"):
                    try: fd = at(name)
                    except OSError: continue
                    line = next(l for l in open("/proc/self/fdinfo/%d" % fd) if l.startswith("mnt_id")).split()[1]
                    if int(line) == ident: ask(packet(2, 0, ident), [fd])
                    os.close(fd)
                mounted += 1
            for device in array.array("i", b"".join(d for _, _, d in devices)): os.close(device)
            refused += "belongs to another user" in said or "removed" in said
        answer = ("%s mounted, %s refused" % ("some" if mounted else "none", "some" if refused else "none"),); print(tried, mounted, refused)
    elif what == "hold":
        first = ask(packet(1), [at(words[0])]); print(ask(packet(1), [at(words[1])])[0])
        answer = ("the first mounted" if first[0] == "done" and first[2] else first[0],)
    print("%s: %s" % (what, answer[0]))
    sys.exit(answer[0] != "done" and what not in ("hold", "race"))
except OSError as error:
    sys.exit(print("%s: %s" % (what, error.strerror)) or 1)
"#;
