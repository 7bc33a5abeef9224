//! What the program prints, where and in which form, and how its configuration changes this.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::golden::{self, BLUEPRINT, CATALOG, Regime};
use crate::common::pty::{at_terminal, program, seen};
use crate::common::test_home::TestHome;
use crate::common::{exit, json, project, run, said, stderr, stdout, until};

const HOLOFS: &str = env!("CARGO_BIN_EXE_holofs");

#[test]
fn quiet_leaves_results_and_errors() {
    let test_home = TestHome::golden(Regime::Gzip);
    let args = ["mount", CATALOG, "s", "--mode", "materialize"];
    fs::write(test_home.hololib().join("catalog/aav12.linux_amd64"), "no catalog").unwrap();
    let loud = test_home.holofs_ok(&["catalogs"]);
    assert!(stderr(&loud).contains("aav12.linux_amd64"), "{}", said(&loud));
    let quiet = test_home.holofs_ok(&["catalogs", "-q"]);
    assert_eq!(stderr(&quiet), "");
    assert_eq!(stdout(&quiet), stdout(&loud));
    assert_eq!(stderr(&test_home.holofs_ok(&[&["-q"], &args[..]].concat())), "");
    let failed = test_home.holofs_fails(&["-q", "mount", "ffffffff", "s"], exit::NOT_FOUND);
    assert!(stderr(&failed).starts_with("error: There is no catalog"), "{}", said(&failed));
}

#[test]
fn colors_are_for_terminals_unless_configured_otherwise() {
    let test_home = TestHome::golden(Regime::Gzip);
    let wrong = ["mount", "ffffffff", "s"];
    let colored = "\u{1b}[1;31merror\u{1b}[0m: ";
    let say = |more: &[&str], env: &[(&str, &str)]| {
        let mut command = test_home.holofs_command(&[more, &wrong].concat());
        stderr(&command.envs(env.iter().copied()).output().unwrap())
    };
    assert!(say(&[], &[]).starts_with("error: "));
    assert!(say(&["--color", "always"], &[]).starts_with(colored));
    assert!(say(&[], &[("HOLOFS_COLOR", "always")]).starts_with(colored));
    let at_a_terminal = |env: &[(&str, &str)], more: &[&str]| {
        let mut command = program(&test_home, &[&[HOLOFS], more, &wrong].concat());
        command.envs(env.iter().copied());
        stdout(&at_terminal(command, &[]))
    };
    assert!(at_a_terminal(&[], &[]).contains(colored));
    assert!(!at_a_terminal(&[("NO_COLOR", "1")], &[]).contains('\u{1b}'));
    assert!(!at_a_terminal(&[], &["--color=never"]).contains('\u{1b}'));
}

#[test]
fn progress_is_drawn_on_a_terminal_only_and_leaves_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let draw = |more: &[&str]| {
        let words = [&[HOLOFS, "materialize", CATALOG, "s", "--controller", "c"], more].concat();
        let mut command = program(&test_home, &words);
        command.env("HOLOFS_MODE", "materialize");
        let text = seen(command, &[]);
        run(&mut test_home.holofs_command(&["delete", "s", "--controller", "c"]));
        text
    };
    let drawn = draw(&[]);
    assert!(drawn.contains("Materializing [") && drawn.contains(" files, "), "{drawn:?}");
    let last = drawn.rsplit('\r').find(|line| !line.trim().is_empty()).unwrap();
    assert!(!last.contains("Materializing ["), "{drawn:?}");
    for more in ["--no-progress", "-q", "--json"] {
        assert!(!draw(&[more]).contains("Materializing ["), "{more}");
    }
    let piped = test_home.holofs_ok(&["materialize", CATALOG, "s"]);
    assert_eq!(stderr(&piped), "");
}

#[test]
fn tables_fit_a_terminal() {
    let test_home = TestHome::golden(Regime::Gzip);
    test_home.materialize(
        CATALOG,
        "a space with a rather long name, which nobody should need but has",
        "user",
    );
    for command in ["list", "catalogs", "df", "info", "config"] {
        let text = seen(program(&test_home, &[HOLOFS, command]), &[]);
        // Paths are not broken, so that they can be copied.
        let wide = text.lines().filter(|line| line.trim_end().chars().count() > 80 && !line.contains('/'));
        assert_eq!(wide.collect::<Vec<_>>(), Vec::<&str>::new(), "{command}: {text}");
    }
    let listed = seen(program(&test_home, &[HOLOFS, "list"]), &[]);
    assert!(listed.contains(BLUEPRINT), "a blueprint is broken: {listed}");
    assert!(!listed.contains("Label") && !listed.contains("Controller"), "{listed}");
    let text = stdout(&test_home.holofs_ok(&["catalogs"]));
    let line = text.lines().nth(1).unwrap();
    assert!(line.starts_with("14023a1f332a0231  3.11.7") && line.contains("golden==1.0"), "{text}");
}

#[test]
fn settings_come_from_options_then_variables_then_the_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let file = test_home.user().join(".config/holofs/holofs.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let path = stdout(&test_home.holofs_ok(&["config", "path"]));
    assert_eq!(path, format!("{}\n", file.display()));
    let store = test_home.scratch().join("store");
    run(test_home.holofs_command(&["push", CATALOG]).arg(format!("file://{}#golden", store.display())));
    let text = format!(
        "home = '{}'\nmode = 'materialize'\nraw-size = '1 GiB'\n[remotes]\nteam = 'file://{}#golden'\n",
        test_home.home().display(),
        store.display()
    );
    fs::write(&file, &text).unwrap();
    let holofs = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = test_home.holofs_command(args);
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
        test_home.holofs_ok(&["unmount", space]);
    }
    let report = json(&holofs(&["config", "--json"], &[("HOLOFS_IO", "no-open")]));
    let row = |key: &str| {
        let all = report["values"].as_array().unwrap();
        let row = all.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    let is = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(row("home"), is(test_home.home().to_str().unwrap(), "file"));
    assert_eq!(row("mode"), is("materialize", "file"));
    assert_eq!(row("io"), is("no-open", "variable HOLOFS_IO"));
    assert_eq!(row("raw-size"), is("1 GiB", "file"));
    assert_eq!(row("fetch-timeout"), is("60", "default"));
    // A short name stands for its remote.
    let shown = holofs(&["remote", "show", "team", "--json"], &[]);
    assert!(shown.status.success(), "{}", said(&shown));
    // With another name, too: where a catalog or a remote is expected, and where its command begins.
    let again = json(&holofs(&["push", CATALOG, "team#again", "--json"], &[]));
    assert_eq!(again[0]["remote"], format!("file://{}#again", store.display()), "{again:#}");
    let pulled = json(&holofs(&["pull", "team#again", "--json"], &[]));
    assert_eq!(pulled["head"], again[0]["head"], "{pulled:#}");
    let ran = holofs(&["run", "team#again", "sh", "-c", "test -e bin/python3 || echo $CONDA_PREFIX"], &[]);
    assert!(ran.status.success(), "{}", said(&ran));
    let unknown = holofs(&["pull", "team#none"], &[]);
    assert!(stderr(&unknown).contains("none"), "{}", said(&unknown));
    fs::write(&file, "mode = 'auto'\nmoode = 'x'\n").unwrap();
    let wrong = test_home.holofs_fails(&["list"], exit::USAGE);
    assert!(stderr(&wrong).contains("unknown field `moode`"), "{}", said(&wrong));
    test_home.holofs_ok(&["--help"]);
    run(Command::new("chmod").arg("0666").arg(&file));
    let open = test_home.holofs_fails(&["list"], exit::USAGE);
    assert!(stderr(&open).contains("others can write to it"), "{}", said(&open));
}

#[test]
fn info_shows_where_everything_is_and_why() {
    let test_home = TestHome::golden(Regime::Gzip);
    let report = json(&test_home.holofs_ok(&["info", "--json"]));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["home"], test_home.home().to_str().unwrap());
    assert_eq!(report["home_reason"], "ROBOCORP_HOME is set");
    assert_eq!(report["catalogs"], 1);
    assert_eq!(report["places"]["hololib"], test_home.hololib().to_str().unwrap());
    assert!(report["disk"]["blobs"]["bytes"].as_u64().unwrap() > 0, "{report:#}");
    let text = stdout(&test_home.holofs_ok(&["info"]));
    assert!(text.contains("since ROBOCORP_HOME is set"), "{text}");
}

#[test]
fn logs_are_shown_without_control_characters_and_followed() {
    let test_home = TestHome::golden(Regime::Gzip);
    test_home.holofs_fails(&["logs", "nowhere"], exit::NOT_FOUND);
    let mounted = test_home.mount(CATALOG, "work", "user", &["-v"]);
    let label = mounted.path().file_name().unwrap().to_str().unwrap().to_owned();
    let log = test_home.home().join("holofs/spaces").join(&label).join("log");
    let add = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    add("one\n\u{1b}[2Jtwo\n");
    let text = stdout(&test_home.holofs_ok(&["logs", "work", "-n", "2"]));
    assert_eq!(text, "one\n\\u{1b}[2Jtwo\n");
    let report = json(&test_home.holofs_ok(&["logs", &label, "--json", "-n", "1"]));
    assert_eq!(report, serde_json::json!(["\u{1b}[2Jtwo"]));
    let mut following = test_home.holofs_command(&["logs", "work", "-f", "-n", "1"]);
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
fn help_shows_topics() {
    let test_home = TestHome::new();
    for topic in ["exit-codes", "environment", "methods", "rcc", "remotes"] {
        assert!(stdout(&test_home.holofs_ok(&["help", topic])).lines().count() > 5, "{topic}");
    }
    assert!(stdout(&test_home.holofs_ok(&["help", "run"])).contains("Usage: holofs run"));
    assert!(stdout(&test_home.holofs_ok(&["help"])).contains("holofs help TOPIC"));
    let unknown = stderr(&test_home.holofs_fails(&["help", "nothing"], exit::USAGE));
    assert!(
        unknown.ends_with("\n\nTopics (holofs help TOPIC): exit-codes, environment, methods, rcc, remotes\n"),
        "{unknown}"
    );
}

#[test]
fn nothing_to_show_prints_no_empty_line_and_the_next_step() {
    let test_home = TestHome::new();
    for (command, step) in [("catalogs", "`holofs import`"), ("list", "`holofs run`")] {
        let output = test_home.holofs_ok(&[command]);
        assert_eq!(stdout(&output).lines().count(), 1, "{command}");
        assert!(stderr(&output).contains(step), "{command}: {}", stderr(&output));
        for silent in ["--json", "-q"] {
            assert_eq!(stderr(&test_home.holofs_ok(&[command, silent])), "", "{command} {silent}");
        }
    }
    assert_eq!(stdout(&test_home.holofs_ok(&["export"])), "");
}

#[test]
fn catalogs_are_selected_by_a_conda_yaml_too() {
    let test_home = TestHome::golden(Regime::Gzip);
    let dir = test_home.scratch().join("project");
    fs::create_dir(&dir).unwrap();
    fs::copy(project().join("tests/data/golden/golden.yaml"), dir.join("conda.yaml")).unwrap();
    let (dir, file) = (dir.to_str().unwrap(), dir.join("conda.yaml"));
    let file = file.to_str().unwrap();
    let remote = format!("file://{}", test_home.scratch().join("remote").display());
    let zip = test_home.scratch().join("out.zip");
    for what in [dir, file] {
        assert!(stdout(&test_home.holofs_ok(&["verify", what])).starts_with(BLUEPRINT), "{what}");
        let exported = test_home.holofs_ok(&["export", what, "-z", zip.to_str().unwrap()]);
        assert!(stdout(&exported).contains(BLUEPRINT), "{what}");
        assert!(stdout(&test_home.holofs_ok(&["push", what, &remote])).contains(BLUEPRINT), "{what}");
        assert!(
            stdout(&test_home.holofs_ok(&["catalogs", "diff", what, BLUEPRINT]))
                .starts_with("0 files differ")
        );
    }
}

#[test]
fn errors_about_missing_things_have_a_hint_where_to_look() {
    let test_home = TestHome::golden(Regime::Gzip);
    let nothing = test_home.scratch();
    let hint = |args: &[&str], code| stderr(&test_home.holofs_fails(args, code));
    for command in ["unmount", "stats", "diff", "delete", "logs", "du", "reset", "explain"] {
        let place = if command == "explain" { "/no" } else { "no" };
        let text = hint(&[command, place], exit::NOT_FOUND);
        assert!(text.ends_with("\nhint: `holofs list` shows the spaces\n"), "{command}: {text}");
    }
    let text = hint(&["run", nothing.to_str().unwrap(), "--", "true"], exit::NOT_BEGUN);
    assert!(text.contains("\nhint: name a file, a directory with one, or a catalog;"), "{text}");
    let remote = format!("file://{}", nothing.display());
    let text = hint(&["pull", &remote], exit::NOT_FOUND);
    assert!(text.ends_with("\nhint: `holofs remote ls` shows what is there\n"), "{text}");
}

#[test]
fn run_pulls_what_is_missing_if_a_remote_is_given() {
    let test_home = TestHome::golden(Regime::Gzip);
    let dir = test_home.scratch();
    let remote = format!("file://{}#golden", dir.join("store").display());
    test_home.holofs_ok(&["push", CATALOG, &remote]);
    test_home.holofs_ok(&["remove", CATALOG]);
    let file = dir.join("conda.yaml");
    fs::copy(golden::file("golden.yaml"), &file).unwrap();
    let words = |more: &[&str]| {
        let mut args = vec!["run", file.to_str().unwrap()];
        args.extend(more);
        args.extend(["--", "sh", "-c", "echo $RCC_ENVIRONMENT_HASH"]);
        test_home.holofs(&args)
    };
    let missing = words(&[]);
    assert_eq!(missing.status.code(), Some(exit::NOT_BEGUN));
    assert!(stderr(&missing).contains(BLUEPRINT) && stderr(&missing).contains("hint:"), "{}", said(&missing));
    fs::write(&file, "dependencies: [python=3.12]\n").unwrap();
    let other = words(&["--pull", &remote]);
    let said_so =
        format!("error: {remote} was pulled, but is another environment\ncaused by: No catalog for ");
    assert!(stderr(&other).starts_with(&said_so), "{}", said(&other));
    fs::copy(golden::file("golden.yaml"), &file).unwrap();
    test_home.holofs_ok(&["remove", CATALOG]);
    for _ in 0..2 {
        let output = words(&["--pull", &remote]);
        assert_eq!(stdout(&output), format!("{BLUEPRINT}\n"), "{}", said(&output));
    }
}

#[test]
fn import_takes_an_address_and_checks_the_digest_first() {
    let test_home = TestHome::new();
    let dir = test_home.scratch().join("web");
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
    let refused = test_home.holofs_fails(&["import", &url], exit::IO);
    assert!(stderr(&refused).contains("with --sha256"), "{}", said(&refused));
    let wrong = test_home.holofs_fails(&["import", &url, "--sha256", &"0".repeat(64)], exit::IO);
    assert!(stderr(&wrong).contains(digest), "{}", said(&wrong));
    assert_eq!(test_home.catalogs(), Vec::<String>::new());
    test_home.holofs_fails(&["import", &format!("{url}.no"), "--sha256", digest], exit::NOT_FOUND);
    let report = json(&test_home.holofs_ok(&["import", &url, "--sha256", digest, "--json"]));
    assert_eq!(report[0]["zip"], url);
    assert_eq!(test_home.catalogs(), [CATALOG]);
    let temp = test_home.home().join("temp");
    until(|| fs::read_dir(&temp).unwrap().count() == 0);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn sizes_and_counts_have_one_form_in_all_commands() {
    let test_home = TestHome::golden(Regime::Gzip);
    let shown = |command: &str, line: &str| {
        let text = stdout(&test_home.holofs_ok(&[command]));
        let found = text.lines().find(|text| text.contains(line)).unwrap_or_else(|| panic!("{line}: {text}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let total = shown("df", "total ");
    assert!(total.ends_with(" MiB"), "{total}");
    assert_eq!(total, shown("info", "total "));
    let checked = shown("check", "no problems found");
    assert!(
        checked.starts_with("1 catalog, 82 blobs (") && checked.contains(", 0 raw entries (0 B): "),
        "{checked}"
    );
}

#[test]
fn list_leaves_out_the_idle_space_in_which_holofs_compiles() {
    let test_home = TestHome::golden(Regime::Gzip);
    // RCC's mark of a space, from which it is known when it is idle, is written after the mount has answered.
    let mount_until_marked = |controller: &str, what: &dyn Fn()| {
        let mounted = test_home.mount(CATALOG, "holofs warm", controller, &["--mode", "mount"]);
        until(|| mounted.path().with_extension("meta").exists());
        what();
        mounted.unmount();
    };
    mount_until_marked("holofs", &|| {
        let inside = test_home.holofs_ok(&["list"]);
        assert!(stdout(&inside).contains("holofs warm"), "it is in use: {}", said(&inside));
    });
    for (command, spaces) in [("list", 0), ("list --long", 0), ("list --json", 1)] {
        let text = stdout(&test_home.holofs_ok(&command.split(' ').collect::<Vec<_>>()));
        assert_eq!(text.matches("\"space\": \"holofs warm\"").count(), spaces, "{command}: {text}");
        assert_eq!(text.contains("holofs warm"), spaces == 1, "{command}: {text}");
    }
    mount_until_marked("user", &|| {});
    assert!(stdout(&test_home.holofs_ok(&["list"])).contains("holofs warm"), "a user's space");
}
