//! Members of one shared holotree: all of them can work, none is locked out, and none uses files that another member could have planted.
//!
//! RCC fixes the shared path, so each test has its own: a tmpfs over `/opt` in a mount namespace.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use holofs::rcc::home::{Environment, Home};

use crate::common::golden::{self, CATALOG, Regime};
use crate::common::{copy_program, is_root, run, said, skip, stdout};

/// RCC's path of a machine's shared holotree.
const SHARED: &str = "/opt/robocorp/ht";
/// The users: their numbers above this one.
const FIRST: u32 = 31_000;

/// Root, as a member.
const ROOT: u32 = u32::MAX;

/// A machine with a shared holotree, until dropped.
struct Machine {
    temp: tempfile::TempDir,
    namespace: Child,
}

impl Machine {
    /// With the golden hololib, and `members` that joined by RCC's `holotree init`.
    fn new(members: u32) -> Machine {
        let temp = tempfile::Builder::new().prefix("holofs-members.").tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["bin", "home", "shared"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        copy_program(env!("CARGO_BIN_EXE_holofs"), temp.path().join("bin/holofs"));
        let staged = temp.path().join("staged");
        fs::create_dir(&staged).unwrap();
        golden::unpack_hololib(Regime::Gzip, &staged, Path::new(SHARED));
        let script = format!(
            "set -e; mount -t tmpfs -o mode=755 none /opt; mkdir -p {SHARED}; chmod 777 /opt/robocorp {SHARED}
             cp -a $T/staged/hololib {SHARED}/lib; chmod -R a+rwX {SHARED}/lib; mkdir -p {SHARED}/lib/catalog/init {SHARED}/lib/used {SHARED}/lib/pids
             chmod 777 {SHARED}/lib/catalog/init {SHARED}/lib/used {SHARED}/lib/pids
             mkdir -p $T/dev; mount -t tmpfs -o mode=755 none $T/dev; mknod -m 666 $T/dev/fuse c 10 229; mount --bind $T/dev/fuse /dev/fuse
             cp /etc/passwd $T/passwd; for n in $(seq 0 9); do echo member$n:x:$(({FIRST} + n)):$(({FIRST} + n))::$T/home/$n:/bin/sh >> $T/passwd; done
             mount --bind $T/passwd /etc/passwd
             touch $T/ready; exec sleep 600"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env("T", temp.path());
        let namespace = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let machine = Machine { temp, namespace };
        crate::common::until(|| machine.temp.path().join("ready").exists());
        for member in 0..members {
            machine.join(member);
        }
        machine
    }

    fn home(&self, member: u32) -> PathBuf {
        match member {
            ROOT => self.temp.path().join("home/root"),
            _ => self.temp.path().join(format!("home/{member}")),
        }
    }

    /// Makes the home of a user.
    fn welcome(&self, member: u32) {
        let home = self.home(member);
        fs::create_dir_all(home.join(".robocorp")).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        for dir in [home.join(".robocorp"), home] {
            chown(dir, Some(FIRST + member), Some(FIRST + member)).unwrap();
        }
    }

    /// The state that RCC's `holotree init` leaves.
    fn join(&self, member: u32) {
        self.welcome(member);
        let mark = self.mark(member);
        run(&mut self.shell(member, &format!("umask 022; printf 'OK!' > {mark}; chmod 640 {mark}")));
    }

    /// The file that marks a user as a member.
    fn mark(&self, member: u32) -> String {
        let home = self.home(member);
        let var = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        format!("{SHARED}/lib/catalog/init/{}", home.user_identity())
    }

    /// A script as a member; `$H` is the program. Root is `ROOT`.
    fn shell(&self, member: u32, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.namespace.id().to_string(), "-m", "--"]);
        let uid = if member == ROOT { 0 } else { FIRST + member };
        command.args([
            "setpriv",
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--clear-groups",
            "--",
        ]);
        command.args(["sh", "-c", script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let home = self.home(member);
        command.env("HOME", home).env("LC_ALL", "C").env("H", self.temp.path().join("bin/holofs"));
        command.current_dir("/");
        command
    }

    fn say(&self, member: u32, script: &str) -> Output {
        self.shell(member, script).output().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.namespace.kill().ok();
        self.namespace.wait().ok();
        Command::new("chmod").args(["-R", "u+rwX"]).arg(self.temp.path()).output().unwrap();
    }
}

/// Everything that a member does, several times; each command must succeed.
const WORK: &str = r#"
set -e
for round in 1 2 3; do
  $H mount CATALOG mine > /dev/null
  $H run CATALOG mine -- sh -c 'test -x $RCC_HOLOTREE_SPACE_ROOT/bin/tool && echo written > $RCC_HOLOTREE_SPACE_ROOT/new'
  $H unmount mine > /dev/null 2>&1 || true
  $H materialize CATALOG laid > /dev/null
  $H materialize CATALOG laid --verify > /dev/null
  $H list > /dev/null
  $H gc > /dev/null
  $H delete laid > /dev/null
done
test "$($H diff mine | grep -c new)" = 1
$H delete mine > /dev/null
"#;

fn work() -> String {
    WORK.replace("CATALOG", CATALOG).replace("SHARED", SHARED)
}

#[test]
fn members_work_at_once_and_none_is_locked_out() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    for members in [2, 10] {
        let machine = Machine::new(members);
        let outputs: Vec<Output> = std::thread::scope(|scope| {
            let machine = &machine;
            let all: Vec<_> =
                (0..members).map(|member| scope.spawn(move || machine.say(member, &work()))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (member, output) in outputs.iter().enumerate() {
            assert!(output.status.success(), "member {member} of {members}: {}", said(output));
        }
        let left = machine.say(ROOT, &format!("find {SHARED} -maxdepth 1 -name '*_*_*' | wc -l"));
        // Only RCC's own lock files stay.
        assert_eq!(stdout(&left).trim(), "0", "{}", said(&machine.say(ROOT, &format!("ls -la {SHARED}"))));
        // No file of HoloFS is where all users may write.
        let ours = machine.say(ROOT, &format!("find {SHARED} -name 'holofs*'"));
        assert_eq!(stdout(&ours), "");
    }
}

#[test]
fn members_do_not_use_what_another_plants_in_the_shared_place() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    let machine = Machine::new(2);
    machine.welcome(7);
    // The attacker comes first and creates every possible file of HoloFS and of RCC.
    let victims: Vec<u32> = vec![0, ROOT];
    run(&mut machine.shell(
        7,
        &format!(
            "umask 000; cd {SHARED}; for n in holofs holofs-0 holofs-{FIRST}; do mkdir -p $n/pyc $n/spaces $n/raw; done
             mkdir -p $HOME/precious; echo precious > $HOME/precious/file"
        ),
    ));
    let attacked = format!(
        "cd {SHARED}; rm -rf lib/pids lib/used; ln -s {0}/precious lib/pids; ln -s {0}/precious lib/used",
        machine.home(7).display()
    );
    run(&mut machine.shell(7, &attacked));
    run(&mut machine.shell(7, "chmod 755 $HOME; chmod 777 $HOME/precious"));
    fs::create_dir_all(machine.home(ROOT)).unwrap();
    run(&mut machine.shell(ROOT, &format!("printf 'OK!' > {}", machine.mark(ROOT))));
    for victim in victims {
        let output =
            machine.say(victim, &format!("$H run {CATALOG} mine -- true && $H materialize {CATALOG} laid"));
        assert!(output.status.success(), "{}", said(&output));
        let seen = machine.say(7, "ls $HOME/precious");
        assert_eq!(stdout(&seen), "file\n", "something was made where a link leads");
    }
    let holofs = machine.say(ROOT, &format!("find {SHARED}/holofs* -type f"));
    assert_eq!(stdout(&holofs), "", "what the attacker made was used");
}

#[test]
fn members_ignore_a_mark_that_the_attacker_made() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    let machine = Machine::new(1);
    machine.welcome(7);
    machine.welcome(8);
    run(&mut machine.shell(
        7,
        &format!("printf 'OK!' > {}; chmod 644 {0}", machine.mark(8)).replace("{0}", &machine.mark(8)),
    ));
    let output = machine.say(8, &format!("$H materialize {CATALOG} mine"));
    assert_eq!(output.status.code(), Some(crate::common::exit::NOT_FOUND), "{}", said(&output));
    let label = machine.say(ROOT, &format!("find {SHARED} -maxdepth 1 -user {}", FIRST + 8));
    assert_eq!(stdout(&label), "");
}

#[test]
fn gc_of_a_member_keeps_what_another_one_is_creating() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    let machine = Machine::new(2);
    let laid = machine.say(0, &format!("$H materialize {CATALOG} laid"));
    assert!(laid.status.success(), "{}", said(&laid));
    let made = machine.say(
        0,
        &format!("cd {SHARED}; d=$(ls -d *_*_* | grep -v '[.]' | head -1); touch $d.meta.holofs-tmp; mkdir $d.holofs-tmp"),
    );
    assert!(made.status.success(), "{}", said(&made));
    let left = || stdout(&machine.say(0, &format!("ls -d {SHARED}/*.holofs-tmp | wc -l"))).trim().to_owned();
    for member in [1, ROOT] {
        machine.say(member, "$H gc");
        assert_eq!(left(), "2", "after gc of {member}");
    }
    machine.say(0, "$H gc");
    assert_eq!(left(), "0");
}

#[test]
fn run_uses_no_files_of_a_space_that_another_member_has_replaced() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    let machine = Machine::new(2);
    let run_it = format!(
        "$H run --mode materialize {CATALOG} laid -- sh -c 'cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool; echo ended'"
    );
    let before = machine.say(0, &run_it);
    assert!(before.status.success(), "{}", said(&before));
    // All users may write to RCC's directory, so another member can rename entries in it. The content of the space is known from the catalog,
    // so that member can create a copy that looks the same.
    let known = format!(
        "set -e; cd {SHARED}; d=$(ls -d *_*_* | grep -v '[.]' | head -1); cp -a $d evil; f=evil/bin/tool; touch -r $f time; touch -r evil/bin dir
         tr a-z x < $f > tool; chmod u+w $f; cat tool > $f; touch -r time $f; touch -r dir evil/bin; chown -hR {0}:{0} evil; rm time dir tool",
        FIRST + 1
    );
    run(&mut machine.shell(ROOT, &known));
    let replace = format!(
        "set -e; cd {SHARED}; d=$(ls -d *_*_* | grep -v '[.]' | head -1); chmod -R a+rX evil; mv $d aside; mv evil $d"
    );
    run(&mut machine.shell(1, &replace));
    let after = machine.say(0, &run_it);
    assert!(!after.status.success() || stdout(&after) == stdout(&before), "{}", said(&after));
}

/// Work of two users at the same time, with RCC next to HoloFS. Each command is shown, and must succeed.
const SESSION: &str = r#"
say() { echo "$(id -un)$ $*" | sed "s,$H,holofs,; s,$R,rcc,"; "$@" 2>&1 | sed 's/^/    /'; test "${PIPESTATUS[0]}" = 0; }
set -e
cd "$HOME"
"$R" --bundled configuration identity --do-not-track > /dev/null 2>&1
say "$R" --bundled holotree init
say "$H" mount CATALOG mine
say "$R" --bundled --silent --no-build holotree variables "$YAML" --space theirs --controller rcc
say "$H" run CATALOG mine -- sh -c 'test -x $RCC_HOLOTREE_SPACE_ROOT/bin/tool && id -un > $RCC_HOLOTREE_SPACE_ROOT/who'
say "$R" --bundled holotree list
say "$H" materialize CATALOG laid
say "$R" --bundled --silent --no-build holotree variables "$YAML" --space laid --controller user
say "$H" diff mine
say "$R" --bundled holotree check
say "$H" list
say "$H" gc
test "$(cat "$("$H" mount CATALOG mine --json | sed -n 's/.*"path": "\([^"]*\)".*/\1/p')/who")" = "$(id -un)"
say "$H" unmount mine
say "$H" delete mine
say "$H" delete laid
"#;

#[test]
fn members_share_a_holotree_with_rcc_next_to_holofs() {
    if !is_root() {
        return skip("Only root can be several users");
    }
    let Some(rcc) = crate::common::rcc::rcc(17) else { return };
    let machine = Machine::new(0);
    let (binary, yaml) = (machine.temp.path().join("bin/rcc"), machine.temp.path().join("golden.yaml"));
    copy_program(rcc.path(), &binary);
    fs::copy(golden::file("golden.yaml"), &yaml).unwrap();
    run(&mut machine.shell(ROOT, &format!("touch {SHARED}/../shared.yes {SHARED}/shared.yes")));
    let session = |member: u32| {
        machine.welcome(member);
        let mut command = machine.shell(member, "exec bash -c \"$SESSION\"");
        let script = SESSION.replace("CATALOG", CATALOG);
        command.env("SESSION", script).env("R", &binary).env("YAML", &yaml).output().unwrap()
    };
    let session = &session;
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..2).map(|member| scope.spawn(move || session(member))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for output in &outputs {
        eprintln!("{}", stdout(output));
        assert!(output.status.success(), "{}", said(output));
    }
}
