//! `holofs hook`: shells enter and leave environments with their directories, and a hostile directory has no effect.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::golden::{self, Regime};
use crate::common::mounted::{below, detach, is_mounted};
use crate::common::pty::{program, seen};
use crate::common::test_home::TestHome;
use crate::common::{run, said, stderr, stdout};

const HOLOFS: &str = env!("CARGO_BIN_EXE_holofs");

/// A home with the golden catalog, and a project that names it.
struct World {
    test_home: TestHome,
    project: PathBuf,
}

impl World {
    fn new() -> World {
        let test_home = TestHome::golden(Regime::Gzip);
        let project = test_home.scratch().join("it's a project");
        fs::create_dir_all(project.join("below")).unwrap();
        fs::copy(golden::file("golden.yaml"), project.join("conda.yaml")).unwrap();
        fs::write(project.join("robot.yaml"), "condaConfigFile: conda.yaml\nartifactsDir: output\n").unwrap();
        World { test_home, project }
    }

    fn holofs(&self, args: &[&str]) -> std::process::Output {
        self.test_home.holofs_command(args).current_dir(&self.project).output().unwrap()
    }

    /// The hook's output in a directory: the text to evaluate, and the messages.
    fn step(&self, dir: &Path) -> (String, String) {
        let mut command = self.test_home.holofs_command(&["hook", "bash", "--step"]);
        let output = command.current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        (stdout(&output), stderr(&output))
    }

    fn allow(&self) {
        run(self.test_home.holofs_command(&["allow"]).current_dir(&self.project));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        below(&self.test_home.holotree()).iter().for_each(|mount| detach(mount));
    }
}

/// A shell at a terminal, with the hook and a plain prompt, and without the user's own files.
fn shell(world: &World, name: &str) -> (Command, String) {
    let words: &[&str] = match name {
        "bash" => &["bash", "--noprofile", "--norc", "-i"],
        "zsh" => &["zsh", "-f", "-i"],
        _ => &["fish", "--no-config", "-i"],
    };
    let mut command = program(&world.test_home, words);
    command.current_dir(world.test_home.user());
    let begin = match name {
        "fish" => format!(
            "set fish_greeting; function fish_prompt; echo -n 'at''> '; end; {HOLOFS} hook fish | source; echo ready"
        ),
        _ => format!("PS1='at''> '; eval \"$({HOLOFS} hook {name})\"; echo re''ady"),
    };
    (command, begin)
}

fn enters_and_leaves(name: &str) {
    let world = World::new();
    world.allow();
    let (command, begin) = shell(&world, name);
    let below = world.project.join("below");
    let go = |dir: &Path| format!("cd \"{}\"", dir.display());
    let show = |mark: &str| format!("echo \"{mark}=$RCC_ENVIRONMENT_HASH=$ROBOT_ROOT=$TEMP=\"");
    let first = if name == "bash" { "bash-" } else { "" };
    let (cd, back) = (go(&below), go(world.test_home.user()));
    let shows = [show("in"), show("out")];
    let steps = [
        (first, begin.as_str()),
        ("at> ", cd.as_str()),
        ("at> ", shows[0].as_str()),
        ("at> ", "echo \"path $PATH\""),
        ("at> ", back.as_str()),
        ("at> ", shows[1].as_str()),
        ("at> ", "echo \"path $PATH\""),
        ("at> ", "exit 0"),
    ];
    let text = seen(command, &steps);
    let text = text.replace("\r\n", "\n");
    assert!(text.contains(&format!("in=14023a1f332a0231={}==", world.project.display())), "{text}");
    assert!(text.contains("out===="), "{text}");
    let paths: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("path /")).map(|(_, path)| path).collect();
    assert_eq!(paths.len(), 2, "{text}");
    assert!(paths[0].contains("/holotree/"), "{text}");
    assert!(!paths[1].contains("/holotree/"), "{text}");
    let mounts = crate::common::mounted::below(&world.test_home.holotree());
    assert_eq!(mounts.len(), 1, "it stays mounted for the next time");
}

#[test]
fn bash_enters_and_leaves_with_the_directory() {
    enters_and_leaves("bash");
}

#[test]
fn zsh_enters_and_leaves_with_the_directory() {
    enters_and_leaves("zsh");
}

#[test]
fn fish_enters_and_leaves_with_the_directory() {
    enters_and_leaves("fish");
}

#[test]
fn hook_reads_nothing_of_a_directory_before_it_is_allowed() {
    let world = World::new();
    let file = world.project.join("robot.yaml");
    fs::remove_file(&file).unwrap();
    fs::remove_file(world.project.join("conda.yaml")).unwrap();
    // Opening one of these for reading would block, or never end.
    run(Command::new("mkfifo").arg(world.project.join("pipe")));
    std::os::unix::fs::symlink("pipe", &file).unwrap();
    assert_eq!(world.step(&world.project), (String::new(), String::new()), "a FIFO asks for nothing");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "condaConfigFile: pipe\n").unwrap();
    let (eval, shown) = world.step(&world.project);
    assert!(shown.contains("robot.yaml is not allowed here: `holofs allow "), "{shown}");
    assert!(eval.starts_with("export HOLOFS_HOOK_SAID=") && eval.lines().count() == 1, "{eval}");
    assert!(below(&world.test_home.holotree()).is_empty());
    // A FIFO in place of the specification must not block.
    let refused = world.holofs(&["allow"]);
    assert!(stderr(&refused).contains("not a regular file"), "{}", said(&refused));
}

#[test]
fn hook_does_not_enter_a_changed_environment() {
    let world = World::new();
    world.allow();
    let (eval, _) = world.step(&world.project);
    assert!(eval.contains("export RCC_ENVIRONMENT_HASH=14023a1f332a0231"), "{eval}");
    for (name, text) in [
        ("robot.yaml", "condaConfigFile: conda.yaml\nartifactsDir: output\nPATH: [evil]\n"),
        ("conda.yaml", "channels: [c]\ndependencies: [evil=1]\n"),
    ] {
        let file = world.project.join(name);
        let before = fs::read(&file).unwrap();
        fs::write(&file, text).unwrap();
        let (eval, shown) = world.step(&world.project);
        assert!(shown.contains("has changed: `holofs allow "), "{name}: {shown}");
        assert!(!eval.contains("RCC_ENVIRONMENT_HASH") && !eval.contains("PATH="), "{name}: {eval}");
        fs::write(&file, before).unwrap();
        assert!(world.step(&world.project).0.contains("export RCC_ENVIRONMENT_HASH="));
    }
}

#[test]
fn allow_is_for_one_path_only() {
    let world = World::new();
    world.allow();
    let copy = world.test_home.scratch().join("copy");
    run(Command::new("cp").arg("-r").arg(&world.project).arg(&copy));
    let (eval, shown) = world.step(&copy);
    assert!(shown.contains("is not allowed here") && !eval.contains("PATH="), "{shown}");
    run(world.test_home.holofs_command(&["deny"]).current_dir(&world.project));
    assert_eq!(world.step(&world.project), (String::new(), String::new()), "denied without a word");
}

#[test]
fn allow_from_a_directory_that_others_write_to_is_ignored() {
    let world = World::new();
    world.allow();
    let allowed = world.test_home.user().join(".config/holofs/allow");
    run(Command::new("chmod").arg("0777").arg(&allowed));
    let (eval, shown) = world.step(&world.project);
    assert!(!eval.contains("PATH="), "{eval}");
    assert!(shown.contains("Cannot read"), "{shown}");
}

#[test]
fn hook_reports_the_same_once_and_a_missing_catalog() {
    let world = World::new();
    world.allow();
    fs::remove_file(world.test_home.hololib().join("catalog").join(golden::CATALOG)).unwrap();
    let (eval, shown) = world.step(&world.project);
    assert!(shown.contains("14023a1f332a0231"), "{shown}");
    let script = format!("{eval}\n{HOLOFS} hook bash --step");
    let again =
        world.test_home.command("bash").args(["-c", &script]).current_dir(&world.project).output().unwrap();
    assert_eq!((stdout(&again), stderr(&again)), (String::new(), String::new()));
}

#[test]
fn direnv_uses_holofs() {
    let world = World::new();
    let library = world.test_home.user().join(".config/direnv/lib");
    fs::create_dir_all(&library).unwrap();
    fs::write(library.join("holofs.sh"), stdout(&world.holofs(&["hook", "direnv"]))).unwrap();
    fs::write(world.project.join(".envrc"), "use holofs . work\n").unwrap();
    let direnv = |args: &[&str]| {
        let mut command = world.test_home.command("direnv");
        run(command.args(args).current_dir(&world.project))
    };
    direnv(&["allow"]);
    let seen = direnv(&["exec", ".", "sh", "-c", "echo $RCC_ENVIRONMENT_HASH $RCC_HOLOTREE_SPACE_ROOT"]);
    let text = stdout(&seen);
    let (hash, root) = text.trim_end().split_once(' ').unwrap();
    assert_eq!(hash, "14023a1f332a0231", "{}", said(&seen));
    assert!(is_mounted(Path::new(root)), "{root}");
    run(&mut world.test_home.holofs_command(&["unmount", "work"]));
}
