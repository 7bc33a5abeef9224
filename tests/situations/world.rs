//! One user's home that other users can reach, and the shell in which a situation is made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::common::golden::{self, Regime};
use crate::common::python::recorded_python;
use crate::common::test_home::TestHome;
use crate::common::{copy_program, run};

/// A user that exists on every machine.
pub const NOBODY: u32 = 65534;
/// Another one.
pub const GAMES: u32 = 5;

/// Setup before a user runs anything, by name. `$T` is the world.
const SETUP: &str = r#"
set -e
dev() { mkdir -p $T/dev; mount -t tmpfs -o mode=755 none $T/dev; mknod -m $1 $T/dev/fuse c 10 229; mount --bind $T/dev/fuse /dev/fuse; }
no_fuse() {
  mkdir -p $T/dev; mount -t tmpfs -o mode=755 none $T/dev
  for d in null zero full random urandom tty; do touch $T/dev/$d; mount --bind /dev/$d $T/dev/$d; done
  mount --rbind $T/dev /dev
}
layer() { mkdir -p $T/layer; mount -t tmpfs -o mode=755 none $T/layer; mkdir -p $T/layer/u $T/layer/w; chmod --reference=$1 $T/layer/u; chown --reference=$1 $T/layer/u
  mount -t overlay -o lowerdir=$1,upperdir=$T/layer/u,workdir=$T/layer/w none $1; }
no_fusermount() { layer /usr/bin; rm /usr/bin/fusermount3; }
overlay() { layer $T/home; }
no_proc() { mount -t tmpfs none /proc; }
helper() {
  echo "allow * $T/home 8" > $T/policy; chmod 644 $T/policy; export HOLOFS_MOUNT_HELPER=$T/mount.sock
  $T/bin/holofs-mount-helper --socket $T/mount.sock --policy $T/policy 2> $T/helper.log & H=$!
  until grep -qs ready $T/helper.log; do kill -0 $H; sleep 0.02; done
}
read_only() { mount --bind $T/home $T/home; mount -o remount,bind,ro $T/home; }
"#;

/// A home with one catalog in its hololib, and copies of the programs that all users may run.
pub struct World {
    temp: TempDir,
    catalog: String,
    uid: u32,
}

impl World {
    /// With the golden hololib.
    pub fn golden(uid: u32) -> World {
        let world = World::empty(uid, golden::CATALOG);
        golden::unpack_hololib(Regime::Gzip, &world.robocorp(), &world.robocorp().join("holotree"));
        world.give();
        world
    }

    /// With a real Python.
    pub fn python(uid: u32) -> World {
        static TEMPLATE: OnceLock<(TestHome, String)> = OnceLock::new();
        let (template, catalog) = TEMPLATE.get_or_init(python_hololib);
        let world = World::empty(uid, catalog);
        let mut copy = Command::new("cp");
        run(copy.arg("-a").arg(template.hololib()).arg(world.robocorp()));
        world.rebase(&template.holotree(), &world.robocorp().join("holotree"));
        world.give();
        world
    }

    fn empty(uid: u32, catalog: &str) -> World {
        let temp = tempfile::Builder::new().prefix("holofs-situation.").tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["bin", "home/user", "home/robocorp/holotree"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        // Measurements may use another build.
        let given = std::env::var_os("HOLOFS_SITUATIONS_OF").map(PathBuf::from);
        let program = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_holofs").into());
        copy_program(program, temp.path().join("bin/holofs"));
        World { temp, catalog: catalog.to_owned(), uid }
    }

    /// With the mount helper next to the program.
    pub fn and_helper(self) -> World {
        copy_program(super::helper::program(), self.path().join("bin/holofs-mount-helper"));
        self
    }

    /// Moves the catalog to another base.
    pub fn rebase(&self, from: &Path, to: &Path) {
        let path = self.robocorp().join("hololib/catalog").join(&self.catalog);
        let text = golden::inflate(&fs::read(&path).unwrap());
        let (from, to) =
            (format!("\"path\": \"{}/", from.display()), format!("\"path\": \"{}/", to.display()));
        assert!(text.contains(&from), "the catalog is not of {from}");
        fs::write(path, golden::deflate(&text.replacen(&from, &to, 1))).unwrap();
    }

    /// Gives everything to the world's user.
    fn give(&self) {
        run(Command::new("chown").arg("-R").arg(format!("{0}:{0}", self.uid)).arg(self.path().join("home")));
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// ROBOCORP_HOME.
    pub fn robocorp(&self) -> PathBuf {
        self.path().join("home/robocorp")
    }

    pub fn holofs_program(&self) -> PathBuf {
        self.path().join("bin/holofs")
    }

    /// The catalog's file name.
    pub fn catalog(&self) -> &str {
        &self.catalog
    }

    /// Runs `holofs` as a user in a situation.
    pub fn holofs(&self, uid: u32, setup: &[&str], args: &[&str]) -> Output {
        let mut command = self.command(uid, setup);
        command.arg(self.holofs_program()).args(args).output().unwrap()
    }

    /// Runs a script as a user in a situation; `$0` is `holofs`, `$T` the world.
    pub fn shell(&self, uid: u32, setup: &[&str], script: &str) -> Output {
        let mut command = self.command(uid, setup);
        command.args(["sh", "-ec", script]).arg(self.holofs_program()).output().unwrap()
    }

    /// A command in a situation, as a user with only HOME, PATH and `$T` in its environment; the caller adds the program to run.
    pub fn command(&self, uid: u32, setup: &[&str]) -> Command {
        let user_namespace = if setup.contains(&"userns") { "unshare -Urm" } else { "" };
        let steps: String = setup
            .iter()
            .filter(|step| **step != "userns")
            .map(|step| format!("{}\n", step.replacen('-', "_", 1).replacen("read-only", "read_only", 1)))
            .collect();
        let program =
            format!("setpriv --reuid {uid} --regid {uid} --clear-groups -- {user_namespace} \"$@\"");
        let script = match setup.contains(&"helper") {
            true => format!("{SETUP}{steps}{program} && C=0 || C=$?; kill $H; exit $C"),
            false => format!("{SETUP}{steps}exec {program}"),
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        let home = self.path().join("home/user");
        command.env_clear().env("HOME", home).env("ROBOCORP_HOME", self.robocorp()).env("LC_ALL", "C");
        command.env("T", self.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Golden trees have directories of mode 0.
        Command::new("chmod").args(["-R", "u+rwX"]).arg(self.path()).output().unwrap();
    }
}

/// A hololib with a real Python in it, made once.
fn python_hololib() -> (TestHome, String) {
    let test_home = TestHome::new();
    let Some((catalog, _)) = recorded_python(&test_home) else { panic!("There is no Python environment") };
    (test_home, catalog)
}
