//! What the program says, where, and in which form; and what it is told by its configuration.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::golden::{self, BLUEPRINT, CATALOG, Regime};
use crate::common::pty::{at_terminal, program, seen};
use crate::common::sandbox::Sandbox;
use crate::common::{exit, json, run, said, stderr, stdout, until};

const HOLOFS: &str = env!("CARGO_BIN_EXE_holofs");

#[test]
fn quiet_leaves_results_and_errors() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let args = ["mount", CATALOG, "s", "--mode", "materialize"];
    fs::write(sandbox.hololib().join("catalog/aav12.linux_amd64"), "no catalog").unwrap();
    let loud = sandbox.holofs_ok(&["catalogs"]);
    assert!(stderr(&loud).contains("aav12.linux_amd64"), "{}", said(&loud));
    let quiet = sandbox.holofs_ok(&["catalogs", "-q"]);
    assert_eq!(stderr(&quiet), "");
    assert_eq!(stdout(&quiet), stdout(&loud));
    assert_eq!(stderr(&sandbox.holofs_ok(&[&["-q"], &args[..]].concat())), "");
    let failed = sandbox.holofs_fails(&["-q", "mount", "ffffffff", "s"], exit::NOT_FOUND);
    assert!(stderr(&failed).starts_with("error: There is no catalog"), "{}", said(&failed));
}

#[test]
fn colors_are_for_terminals_unless_told_otherwise() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let wrong = ["mount", "ffffffff", "s"];
    let colored = "\u{1b}[1;31merror\u{1b}[0m: ";
    let say = |more: &[&str], env: &[(&str, &str)]| {
        let mut command = sandbox.holofs_command(&[more, &wrong].concat());
        stderr(&command.envs(env.iter().copied()).output().unwrap())
    };
    assert!(say(&[], &[]).starts_with("error: "));
    assert!(say(&["--color", "always"], &[]).starts_with(colored));
    assert!(say(&[], &[("HOLOFS_COLOR", "always")]).starts_with(colored));
    let at_a_terminal = |env: &[(&str, &str)], more: &[&str]| {
        let mut command = program(&sandbox, &[&[HOLOFS], more, &wrong].concat());
        command.envs(env.iter().copied());
        stdout(&at_terminal(command, &[]))
    };
    assert!(at_a_terminal(&[], &[]).contains(colored));
    assert!(!at_a_terminal(&[("NO_COLOR", "1")], &[]).contains('\u{1b}'));
    assert!(!at_a_terminal(&[], &["--color=never"]).contains('\u{1b}'));
}

#[test]
fn progress_is_drawn_on_a_terminal_only_and_leaves_nothing() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let draw = |more: &[&str]| {
        let words = [&[HOLOFS, "materialize", CATALOG, "s", "--controller", "c"], more].concat();
        let mut command = program(&sandbox, &words);
        command.env("HOLOFS_MODE", "materialize");
        let text = seen(command, &[]);
        run(&mut sandbox.holofs_command(&["delete", "s", "--controller", "c"]));
        text
    };
    let drawn = draw(&[]);
    assert!(drawn.contains("Materializing [") && drawn.contains(" files, "), "{drawn:?}");
    let last = drawn.rsplit('\r').find(|line| !line.trim().is_empty()).unwrap();
    assert!(!last.contains("Materializing ["), "{drawn:?}");
    for more in ["--no-progress", "-q", "--json"] {
        assert!(!draw(&[more]).contains("Materializing ["), "{more}");
    }
    let piped = sandbox.holofs_ok(&["materialize", CATALOG, "s"]);
    assert_eq!(stderr(&piped), "");
}

#[test]
fn tables_fit_a_terminal() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    sandbox.materialize(CATALOG, "a space with a rather long name, which nobody should need but has", "user");
    for command in ["list", "catalogs", "df", "info", "config"] {
        let text = seen(program(&sandbox, &[HOLOFS, command]), &[]);
        // Paths are not broken, so that they can be copied.
        let wide = text.lines().filter(|line| line.trim_end().chars().count() > 80 && !line.contains('/'));
        assert_eq!(wide.collect::<Vec<_>>(), Vec::<&str>::new(), "{command}: {text}");
    }
    let text = stdout(&sandbox.holofs_ok(&["catalogs"]));
    let line = text.lines().nth(1).unwrap();
    assert!(line.starts_with("14023a1f332a0231  3.11.7") && line.contains("golden==1.0"), "{text}");
}

#[test]
fn settings_come_from_options_then_variables_then_the_file() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let file = sandbox.user().join(".config/holofs/holofs.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let path = stdout(&sandbox.holofs_ok(&["config", "path"]));
    assert_eq!(path, format!("{}\n", file.display()));
    let store = sandbox.scratch().join("store");
    run(sandbox.holofs_command(&["push", CATALOG]).arg(format!("file://{}#golden", store.display())));
    let text = format!(
        "home = '{}'\nmode = 'materialize'\nraw-size = '1 GiB'\n[remotes]\nteam = 'file://{}#golden'\n",
        sandbox.home().display(),
        store.display()
    );
    fs::write(&file, &text).unwrap();
    let holofs = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = sandbox.holofs_command(args);
        command.env_remove("ROBOCORP_HOME").env_remove("HOLOFS_IO").envs(env.iter().copied());
        command.output().unwrap()
    };
    assert_eq!(json(&holofs(&["mount", CATALOG, "s", "--json"], &[]))["rung"], "materialize");
    let by_variable = json(&holofs(&["mount", CATALOG, "v", "--json"], &[("HOLOFS_MODE", "mount")]));
    assert_ne!(by_variable["rung"], "materialize", "{by_variable:#}");
    let by_option =
        holofs(&["mount", CATALOG, "o", "--json", "--mode", "mount"], &[("HOLOFS_MODE", "materialize")]);
    assert_ne!(json(&by_option)["rung"], "materialize", "{}", said(&by_option));
    for space in ["v", "o"] {
        sandbox.holofs_ok(&["unmount", space]);
    }
    let told = json(&holofs(&["config", "--json"], &[("HOLOFS_IO", "no-open")]));
    let row = |key: &str| {
        let all = told["values"].as_array().unwrap();
        let row = all.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    let is = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(row("home"), is(sandbox.home().to_str().unwrap(), "file"));
    assert_eq!(row("mode"), is("materialize", "file"));
    assert_eq!(row("io"), is("no-open", "variable HOLOFS_IO"));
    assert_eq!(row("raw-size"), is("1 GiB", "file"));
    assert_eq!(row("fetch-timeout"), is("60", "default"));
    // A short name is its remote.
    let shown = holofs(&["remote", "show", "team", "--json"], &[]);
    assert!(shown.status.success(), "{}", said(&shown));
    fs::write(&file, "mode = 'auto'\nmoode = 'x'\n").unwrap();
    let wrong = sandbox.holofs_fails(&["list"], exit::USAGE);
    assert!(stderr(&wrong).contains("unknown field `moode`"), "{}", said(&wrong));
    sandbox.holofs_ok(&["--help"]);
    run(Command::new("chmod").arg("0666").arg(&file));
    let open = sandbox.holofs_fails(&["list"], exit::USAGE);
    assert!(stderr(&open).contains("others can write to it"), "{}", said(&open));
}

#[test]
fn info_tells_where_everything_is_and_why() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let told = json(&sandbox.holofs_ok(&["info", "--json"]));
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["home"], sandbox.home().to_str().unwrap());
    assert_eq!(told["home_reason"], "ROBOCORP_HOME is set");
    assert_eq!(told["catalogs"], 1);
    assert_eq!(told["places"]["hololib"], sandbox.hololib().to_str().unwrap());
    assert!(told["disk"]["blobs"]["bytes"].as_u64().unwrap() > 0, "{told:#}");
    let text = stdout(&sandbox.holofs_ok(&["info"]));
    assert!(text.contains("since ROBOCORP_HOME is set"), "{text}");
}

#[test]
fn logs_are_shown_without_control_characters_and_followed() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    sandbox.holofs_fails(&["logs", "nowhere"], exit::NOT_FOUND);
    let mounted = sandbox.mount(CATALOG, "work", "user", &["-v"]);
    let label = mounted.path().file_name().unwrap().to_str().unwrap().to_owned();
    let log = sandbox.home().join("holofs/spaces").join(&label).join("log");
    let add = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    add("one\n\u{1b}[2Jtwo\n");
    let text = stdout(&sandbox.holofs_ok(&["logs", "work", "-n", "2"]));
    assert_eq!(text, "one\n\\u{1b}[2Jtwo\n");
    let told = json(&sandbox.holofs_ok(&["logs", &label, "--json", "-n", "1"]));
    assert_eq!(told, serde_json::json!(["\u{1b}[2Jtwo"]));
    let mut following = sandbox.holofs_command(&["logs", "work", "-f", "-n", "1"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "\\u{1b}[2Jtwo");
    add("three\n");
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    mounted.unmount();
    // It ends with the space.
    drop(lines);
    assert!(following.wait().is_ok());
}

#[test]
fn topics_are_helped_with() {
    let sandbox = Sandbox::new();
    for topic in ["exit-codes", "environment", "methods", "rcc", "remotes"] {
        assert!(stdout(&sandbox.holofs_ok(&["help", topic])).lines().count() > 5, "{topic}");
    }
    assert!(stdout(&sandbox.holofs_ok(&["help", "run"])).contains("Usage: holofs run"));
    assert!(stdout(&sandbox.holofs_ok(&["help"])).contains("holofs help TOPIC"));
    sandbox.holofs_fails(&["help", "nothing"], exit::USAGE);
}

#[test]
fn run_pulls_what_is_not_there_if_it_is_told_from_where() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let dir = sandbox.scratch();
    let remote = format!("file://{}#golden", dir.join("store").display());
    sandbox.holofs_ok(&["push", CATALOG, &remote]);
    sandbox.holofs_ok(&["remove", CATALOG]);
    let file = dir.join("conda.yaml");
    fs::copy(golden::file("golden.yaml"), &file).unwrap();
    let words = |more: &[&str]| {
        let mut args = vec!["run", file.to_str().unwrap()];
        args.extend(more);
        args.extend(["--", "sh", "-c", "echo $RCC_ENVIRONMENT_HASH"]);
        sandbox.holofs(&args)
    };
    let missing = words(&[]);
    assert_eq!(missing.status.code(), Some(exit::NOT_BEGUN));
    assert!(stderr(&missing).contains(BLUEPRINT) && stderr(&missing).contains("hint:"), "{}", said(&missing));
    for _ in 0..2 {
        let output = words(&["--pull", &remote]);
        assert_eq!(stdout(&output), format!("{BLUEPRINT}\n"), "{}", said(&output));
    }
}

#[test]
fn import_takes_an_address_and_checks_the_digest_first() {
    let sandbox = Sandbox::new();
    let dir = sandbox.scratch().join("web");
    fs::create_dir(&dir).unwrap();
    fs::copy(golden::file("hololib-gz.zip"), dir.join("hololib.zip")).unwrap();
    let mut server = Command::new("python3");
    let code = "import http.server, sys; s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); print(s.server_port, flush=True); s.serve_forever()";
    let mut server = server
        .args(["-c", code])
        .current_dir(&dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = format!("http://127.0.0.1:{}/hololib.zip", line.trim());
    let sum = stdout(&run(Command::new("sha256sum").arg(dir.join("hololib.zip"))));
    let digest = sum.split(' ').next().unwrap();
    let refused = sandbox.holofs_fails(&["import", &url], exit::IO);
    assert!(stderr(&refused).contains("with --sha256"), "{}", said(&refused));
    let wrong = sandbox.holofs_fails(&["import", &url, "--sha256", &"0".repeat(64)], exit::IO);
    assert!(stderr(&wrong).contains(digest), "{}", said(&wrong));
    assert_eq!(sandbox.catalogs(), Vec::<String>::new());
    sandbox.holofs_fails(&["import", &format!("{url}.no"), "--sha256", digest], exit::NOT_FOUND);
    let told = json(&sandbox.holofs_ok(&["import", &url, "--sha256", digest, "--json"]));
    assert_eq!(told[0]["zip"], url);
    assert_eq!(sandbox.catalogs(), [CATALOG]);
    let temp = sandbox.home().join("temp");
    until(|| fs::read_dir(&temp).unwrap().count() == 0);
    server.kill().unwrap();
    server.wait().unwrap();
}
