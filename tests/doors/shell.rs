//! `holofs shell`: the user's own shell with its own files, the space's variables, and the space's name in the prompt.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::below;
use crate::common::pty::{at_terminal, program, seen};
use crate::common::test_home::TestHome;
use crate::common::{run, said, stderr, stdout};

const HOLOFS: &str = env!("CARGO_BIN_EXE_holofs");

/// A home whose shells have start-up files that change the prompt and put a directory first in PATH.
fn home() -> TestHome {
    let test_home = TestHome::golden(Regime::Gzip);
    let user = test_home.user();
    let posix = "PATH=/first/of/user:$PATH; FROM_OWN_FILE=yes; PS1='own> '\n";
    fs::write(user.join(".bashrc"), posix).unwrap();
    fs::write(user.join(".zshrc"), posix).unwrap();
    fs::write(user.join(".zshenv"), "FROM_ZSHENV=yes\n").unwrap();
    fs::write(user.join(".shrc"), posix).unwrap();
    fs::create_dir_all(user.join(".config/fish")).unwrap();
    // Otherwise the first fish of a user reads all man pages in the background, which takes many seconds of processor time.
    fs::create_dir_all(user.join(".local/share/fish/generated_completions")).unwrap();
    let fish = "set -gx PATH /first/of/user $PATH; set FROM_OWN_FILE yes; set fish_greeting; function fish_prompt; echo -n 'own> '; end\n";
    fs::write(user.join(".config/fish/config.fish"), fish).unwrap();
    test_home
}

fn shell(test_home: &TestHome, shell: &str, space: &str) -> Command {
    let mut command = program(test_home, &[HOLOFS, "shell", CATALOG, "--space", space, "--shell", shell]);
    command.env("ENV", test_home.user().join(".shrc"));
    command
}

/// A command whose output differs from its own echo.
const ASK: &str =
    "echo \"is $FROM_OWN_FILE $HOLOFS_SHELL $RCC_ENVIRONMENT_HASH\"; echo \"PATH=$PATH\"; exit 7";

fn opens(shell_name: &str) {
    let test_home = home();
    let output = at_terminal(shell(&test_home, shell_name, "work 1"), &[("(work 1) own> ", ASK)]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(text.contains("is yes work 1 14023a1f332a0231"), "{text}");
    let path = text.lines().find_map(|line| line.split_once("PATH=/")).map(|(_, path)| path.to_owned());
    let path = path.unwrap_or_else(|| panic!("{text}"));
    let dirs: Vec<&str> = path.trim().split(":/").collect();
    assert!(dirs[0].ends_with("/bin") && dirs[0].contains("/holotree/"), "{text}");
    assert!(dirs.contains(&"first/of/user"), "{text}");
    assert!(below(&test_home.holotree()).is_empty(), "the mount is left");
    let temp = test_home.home().join("temp");
    assert_eq!(fs::read_dir(temp).unwrap().count(), 0, "its files are left");
}

#[test]
fn bash_has_the_space_in_its_prompt_and_first_in_path() {
    opens("bash");
}

#[test]
fn zsh_has_the_space_in_its_prompt_and_first_in_path() {
    opens("zsh");
}

#[test]
fn fish_has_the_space_in_its_prompt_and_first_in_path() {
    opens("fish");
}

#[test]
fn sh_has_the_space_in_its_prompt_and_first_in_path() {
    opens("sh");
}

#[test]
fn zsh_reads_all_of_its_own_files_where_zdotdir_says() {
    let test_home = home();
    let own = test_home.user().join("zsh");
    fs::create_dir(&own).unwrap();
    fs::write(test_home.user().join(".zshenv"), "ZDOTDIR=$HOME/zsh\n").unwrap();
    fs::write(own.join(".zshrc"), "PS1='moved> '\n").unwrap();
    let text = seen(shell(&test_home, "zsh", "z"), &[("(z) moved> ", "echo \"is $ZDOTDIR\"; exit 0")]);
    assert!(text.contains(&format!("is {}", own.display())), "{text}");
}

#[test]
fn shell_shows_the_name_of_a_space_in_the_prompt_as_text() {
    let test_home = home();
    let made = test_home.user().join("made");
    let name = format!("$(touch {0})`touch {0}`'; touch {0}; '", made.display());
    for shell_name in ["bash", "zsh", "fish", "sh"] {
        seen(shell(&test_home, shell_name, &name), &[("own> ", "echo; exit 0")]);
        assert!(!made.exists(), "{shell_name}");
    }
}

#[test]
fn shell_is_the_users_own_and_ends_by_the_same_signal() {
    let test_home = home();
    let own = test_home.user().join("odd-shell");
    fs::write(&own, "#!/bin/sh\necho it is $HOLOFS_SHELL\nkill -TERM $$\n").unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = program(&test_home, &[HOLOFS, "shell", CATALOG]);
    command.env("SHELL", &own);
    let output = command.output().unwrap();
    assert_eq!(stdout(&output), "it is user\n", "{}", said(&output));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(15));
}

#[test]
fn shell_in_a_space_of_its_own_knows_its_name_and_removes_it() {
    let test_home = home();
    let own = test_home.user().join("odd-shell");
    fs::write(&own, format!("#!/bin/sh\necho \"$HOLOFS_SHELL\"\n{HOLOFS} list --json\n")).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let output = run(program(&test_home, &[HOLOFS, "shell", CATALOG, "--space", "auto"]).env("SHELL", &own));
    let text = stdout(&output);
    let (name, listed) = text.split_once('\n').unwrap();
    assert!(name.starts_with("auto-"), "{text}");
    assert!(listed.contains(&format!("\"space\": \"{name}\"")), "{text}");
    assert!(below(&test_home.holotree()).is_empty(), "the mount is left");
    assert!(!stdout(&test_home.holofs_ok(&["list"])).contains("auto-"));
}

#[test]
fn run_without_a_command_is_a_shell() {
    let test_home = home();
    let dir = test_home.scratch().join("here");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(crate::common::golden::file("golden.yaml"), dir.join("conda.yaml")).unwrap();
    let run = |words: &[&str]| {
        let mut command = program(&test_home, &[&[HOLOFS, "run"], words].concat());
        command.env("SHELL", "bash").current_dir(&dir);
        command
    };
    for words in [&[][..], &["conda.yaml"], &["."], &[CATALOG], &["--"]] {
        let output = at_terminal(run(words), &[("(user) own> ", ASK)]);
        assert!(stdout(&output).contains("is yes user 14023a1f332a0231"), "{words:?}: {}", said(&output));
        assert_eq!(output.status.code(), Some(7), "{words:?}: {}", said(&output));
    }
    let mut with_a_space = run(&["--space", "work", "conda.yaml"]);
    with_a_space.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = with_a_space.spawn().unwrap();
    let script = "echo $HOLOFS_SHELL $RCC_ENVIRONMENT_HASH\nread line\nthis line\necho \"$line\"\nexit 3\necho not this\n";
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "work 14023a1f332a0231\nthis line\n", "{}", said(&output));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    fs::remove_file(dir.join("conda.yaml")).unwrap();
    let nothing = run(&[]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(125), "{}", said(&nothing));
    assert!(stderr(&nothing).contains("hint: name a file, a directory with one"), "{}", said(&nothing));
}
