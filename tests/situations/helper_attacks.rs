//! Attacks on the mount helper, with a misbehaving client: namespaces that the attacker owns, files in place of the
//! device, directories that move, evasion of limits, and file systems that never answer.

use std::process::Output;

use super::helper::{ASK, audit, with_helper, world};
use super::world::{GAMES, NOBODY, World};
use crate::common::{is_root, said, skip, stderr, stdout};

/// The additions to [`ASK`], as the module `ask`.
const ATTACK: &str = r#"
import array, ctypes, os, socket, sys, threading, time
sys.argv, words = [sys.argv[0], "nothing"], sys.argv[1:]
source = open(os.environ["T"] + "/ask").read().split("what, words =")[0]
exec(source)
what, words = words[0], words[1:]
def opened(path): return os.open(path, os.O_RDONLY)
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(os.environ["S"]); return s
def place_of(ident):
    for line in open("/proc/self/mountinfo"):
        if int(line.split()[0]) == ident: return line.split()[4]
if what == "namespace":
    # The directory, and any file as the namespace; the mount is kept until stdin ends if there are more words.
    said, ident, got = ask(packet(1), [at(words[0]), opened(words[1])]); print("%s" % said, flush=True)
    if words[2:] and said == "done": sys.stdin.read()
elif what == "rename":
    inside, outside, end = words[0] + "/d", words[1] + "/d", time.time() + float(words[2])
    os.mkdir(inside)
    def swap():
        while time.time() < end:
            for a, b in ((inside, outside), (outside, inside)):
                try: os.rename(a, b)
                except OSError: pass
    threading.Thread(target=swap).start()
    mounted = refused = moved = astray = 0
    while time.time() < end:
        try: fd = at(inside)
        except OSError: continue
        said, ident, got = ask(packet(1), [fd]); os.close(fd)
        if said == "done":
            mounted += 1
            where = place_of(ident)
            astray += where is None or not where.startswith(words[0] + "/")
            root = at(where); assert ask(packet(2, 0, ident), [root])[0] == "done"; os.close(root)
        refused += "no rule of the policy allows it" in said; moved += "meanwhile" in said
        for device in array.array("i", b"".join(d for _, _, d in got)): os.close(device)
    left = sum("fuse.holofs" in line and words[1] in line for line in open("/proc/self/mountinfo"))
    print("mounted %s, refused %s, outside %d, left outside %d" % (mounted > 0, refused + moved > 0, astray, left))
    print(mounted, refused, moved, file=sys.stderr)
elif what == "idle":
    # Connections of many users that never ask; then one that does. How many threads the helper has, meanwhile.
    held = []
    for uid in range(int(words[1]), int(words[1]) + int(words[2])):
        os.seteuid(uid)
        for _ in range(6): held.append(connect())
        os.seteuid(0)
    threads = lambda: next(line.split()[1] for line in open("/proc/%s/status" % words[0]) if line.startswith("Threads"))
    end = time.time() + 20
    while len(held) > 400 and time.time() < end:
        # Each client that is refused gets a reason.
        gone = 0
        for s in held:
            try: gone += len(s.recv(4096, socket.MSG_DONTWAIT)) > 16
            except OSError: pass
        if gone: break
    print("threads", threads()); os.setegid(65534); os.seteuid(65534)
    print(ask(packet(1), [at(words[3])])[0])
elif what == "stuck":
    device = os.open("/dev/fuse", os.O_RDWR); libc = ctypes.CDLL(None, use_errno=True)
    options = "fd=%d,rootmode=40000,user_id=65534,group_id=65534,allow_other" % device
    assert libc.mount(b"stuck", words[0].encode(), b"fuse", 0, options.encode()) == 0, os.strerror(ctypes.get_errno())
    stuck = at(words[0]); os.setregid(65534, 65534); os.setreuid(65534, 65534)
    print(ask(packet(1), [stuck])[0]); print(ask(packet(1), [at(words[1]), stuck])[0]); print(ask(packet(2, 0, 7), [stuck, stuck])[0])
elif what == "flood":
    for _ in range(500):
        said = ask(packet(1), [at("/")])[0]
    print(said)
"#;

fn attacked(policy: &str, script: &str) -> (Output, World) {
    let world = world(NOBODY);
    std::fs::write(world.path().join("ask"), ASK).unwrap();
    std::fs::write(world.path().join("attack"), ATTACK).unwrap();
    let policy = policy.replace("$T", &world.path().display().to_string());
    let begin = format!(
        "mkdir -p $T/mine/a $T/mine/b $T/outside; chown -R {NOBODY} $T/mine $T/outside; export T S\n"
    );
    let output = with_helper(&world, &policy, &format!("{begin}{script}\nkill -0 $H"));
    assert!(output.status.success(), "{}\n{}", said(&output), audit(&world));
    (output, world)
}

#[test]
fn helper_refuses_a_namespace_that_the_peer_could_own_before_entering_it() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    // Without a replacement; with a terminal, a FIFO and a block device over the device; as root of the namespace and as the user itself.
    let script = format!(
        "attack() {{ as {NOBODY} unshare \"$1\" sh -c \"$2; exec python3 $T/attack namespace $T/mine/a /proc/self/ns/mnt\"; }}
         mkfifo $T/fifo
         attack -Um true; attack -Urm true
         attack -Urm 'mount --bind /dev/ptmx /dev/fuse'; attack -Urm \"mount --bind $T/fifo /dev/fuse\"
         attack -Urm 'mount -t tmpfs none /dev'
         as {NOBODY} unshare -Urm python3 $T/attack namespace $T/mine/a /proc/self/ns/user
         as {NOBODY} unshare -Urm python3 $T/attack namespace $T/mine/a /proc/self/ns/net
         as {NOBODY} python3 $T/attack namespace $T/mine/a $T/ask
         as {NOBODY} python3 $T/attack namespace $T/mine/a /proc/self/ns/net
         ! grep fuse.holofs /proc/self/mountinfo | grep $T"
    );
    let (output, world) = attacked(&format!("allow {NOBODY} $T 8 namespaces"), &script);
    let owned = "your mount namespace belongs to a user namespace, whose owner could alter the mount";
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 9, "{}\n{}", said(&output), audit(&world));
    assert_eq!(lines[..5], [owned; 5], "{text}");
    // The owner of a user namespace is its parent, here the initial one: the helper refuses it because it is not a mount namespace.
    assert_eq!(lines[5], "cannot enter your mount namespace: Invalid argument (os error 22)");
    assert_eq!(lines[7], "the second descriptor is not a namespace");
    assert_eq!(lines[8], "cannot enter your mount namespace: Invalid argument (os error 22)");
    assert!(!audit(&world).contains(": mounted "), "{}", audit(&world));
}

#[test]
fn helper_uses_its_own_real_device_whatever_is_in_the_namespace() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    // Root owns the namespaces, as with a container engine.
    let script = format!(
        "inside() {{ unshare --mount --propagation private sh -ec \"$1; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- $2\"; }}
         mkfifo $T/fifo; ask='python3 $T/attack namespace $T/mine/a /proc/self/ns/mnt'
         inside \"mount --bind $T/fifo /dev/fuse\" \"$ask\"
         inside 'mount --bind /dev/ptmx /dev/fuse' \"$ask\"
         inside 'mount -t tmpfs none /dev' \"$ask\"
         mknod $T/other c 1 3; mount --bind $T/other /dev/fuse; python3 $T/attack namespace $T/mine/a /proc/self/ns/mnt"
    );
    let (output, world) = attacked(&format!("allow {NOBODY} $T 8 namespaces\nallow 0 $T 1"), &script);
    let wanted = "done\ndone\ndone\n/dev/fuse is not the FUSE device\n";
    assert_eq!(stdout(&output), wanted, "{}\n{}", said(&output), audit(&world));
}

#[test]
fn helper_serves_a_container_without_the_device_as_documented() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let world = world(NOBODY);
    let script = format!(
        "unshare --mount --propagation private sh -ec 'mount -t tmpfs none /dev; for d in null zero urandom; do touch /dev/$d; done
           mknod -m 666 /dev/null2 c 1 3; mount --bind /dev/null2 /dev/null; mknod -m 666 /dev/u c 1 9; mount --bind /dev/u /dev/urandom
           ! test -e /dev/fuse
           exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- \
             \"$0\" run --json --mode mount {} a -- sh -c \"head -1 \\$RCC_HOLOTREE_SPACE_ROOT/bin/tool\"' $0",
        world.catalog()
    );
    let policy = format!("allow {NOBODY} {} 8 namespaces", world.path().display());
    let output = with_helper(&world, &policy, &script);
    assert!(output.status.success(), "{}\n{}", said(&output), audit(&world));
    assert!(stderr(&output).contains("\"rung\":\"helper\""), "{}\n{}", said(&output), audit(&world));
}

#[test]
fn helper_does_not_mount_on_a_directory_moved_out_of_the_policy() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let script = format!("as {NOBODY} python3 $T/attack rename $T/mine $T/outside 4");
    let (output, world) = attacked(&format!("allow {NOBODY} $T/mine 64"), &script);
    let wanted = "mounted True, refused True, outside 0, left outside 0\n";
    assert_eq!(stdout(&output), wanted, "{}\n{}", said(&output), audit(&world));
}

#[test]
fn mounts_are_counted_for_the_user_whatever_namespace_they_are_in() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    // One mount here and one in each of two other namespaces; ended mounts do not count.
    let script = format!(
        "mkdir $T/mine/c; chown {NOBODY} $T/mine/c; mkfifo $T/p1 $T/p2; exec 8<>$T/p1 9<>$T/p2
         inside() {{ timeout 120 unshare --mount --propagation private setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- \
           python3 $T/attack namespace $1 /proc/self/ns/mnt $2; }}
         until_said() {{ until grep -qs . $1; do sleep 0.02; done; cat $1; }}
         (exec 8>&- 9>&-; inside $T/mine/a keep < $T/p1 > $T/1) & P1=$!; until_said $T/1
         (exec 8>&- 9>&-; inside $T/mine/b keep < $T/p2 > $T/2) & P2=$!; until_said $T/2
         inside $T/mine/c; as {NOBODY} python3 $T/ask mount $T/mine/c || true
         exec 8>&-; wait $P1; as {NOBODY} python3 $T/ask mount $T/mine/c
         exec 9>&-; wait $P2"
    );
    let (output, world) = attacked(&format!("allow {NOBODY} $T 2 namespaces"), &script);
    let text = stdout(&output);
    let root = world.path().display();
    let full = format!("mount on \"{root}/mine/c\": the limit of mounts (2) is reached");
    assert_eq!(text, format!("done\ndone\n{full}\nmount: {full}\nmount: done\n"), "{}", audit(&world));
}

#[test]
fn helper_gives_silent_clients_no_thread_and_serves_the_others() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let script =
        format!("python3 $T/attack idle $H 200000 80 $T/mine/a; as {NOBODY} python3 $T/ask mount $T/mine/b");
    for policy in ["allow * $T 8".to_owned(), format!("allow {NOBODY} $T 8")] {
        let (output, world) = attacked(&policy, &script);
        assert_eq!(
            stdout(&output),
            "threads 1\ndone\nmount: done\n",
            "{policy}: {}\n{}",
            said(&output),
            audit(&world)
        );
    }
}

#[test]
fn user_without_a_rule_gets_the_reason_and_the_log_stays_short() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let script = format!("as {GAMES} python3 $T/attack flood; as {NOBODY} python3 $T/ask mount $T/mine/a");
    let (output, world) = attacked(&format!("allow {NOBODY} $T 8"), &script);
    assert_eq!(stdout(&output), "no rule of the policy names you\nmount: done\n");
    let log = audit(&world);
    let refused = log.lines().filter(|line| line.contains(&format!("uid={GAMES} ")));
    // Ten in ten seconds; five hundred requests took less than a minute.
    assert!(refused.count() <= 60, "{log}");
}

#[test]
fn helper_is_not_blocked_by_a_file_system_that_never_answers() {
    if !is_root() {
        return skip("the helper is started by root");
    }
    let script = "mkdir $T/stuck; timeout 60 python3 $T/attack stuck $T/stuck $T/mine/a";
    let (output, _) = attacked(&format!("allow {NOBODY} $T 8 namespaces"), script);
    let wanted = "nothing is mounted on a file system of type \"fuse\"\nthe second descriptor is not a namespace\nunmount 7: the descriptor is of another mount\n";
    assert_eq!(stdout(&output), wanted, "{}", said(&output));
}
