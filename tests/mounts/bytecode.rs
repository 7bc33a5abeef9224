//! The law of bytecode: no program can write bytecode that another space, another user or a later `--fresh` of the same space
//! executes; and the shared bytecode is actually used.
//!
//! The interpreter of these spaces is this machine's own, called by a script: only the sources are in the catalog.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::test_home::TestHome;
use crate::common::{is_root, run, said, skip, stderr, stdout, until};

/// More modules than the minimum for which a run compiles shared bytecode.
const MODULES: usize = 30;

/// A catalog with an interpreter, `MODULES` modules, and one that is relocated; `None` if there is no Python here.
fn catalog(test_home: &TestHome) -> Option<String> {
    let version = Command::new("/usr/bin/python3")
        .args(["-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output();
    let Ok(version) = version.map(|output| stdout(&output).trim().to_owned()) else {
        skip("There is no /usr/bin/python3");
        return None;
    };
    let stage = test_home.holotree().join("h0c0ffee_493f813dad24d3t");
    let site = stage.join(format!("lib/python{version}/site-packages"));
    fs::create_dir_all(&site).unwrap();
    fs::create_dir_all(stage.join("bin")).unwrap();
    let script = "#!/bin/sh\n\
        p=${0%/bin/python3}\n\
        export PYTHONPATH=\"$(echo $p/lib/python*/site-packages)${PYTHONPATH:+:$PYTHONPATH}\"\n\
        exec /usr/bin/python3 \"$@\"\n";
    fs::write(stage.join("bin/python3"), script).unwrap();
    run(Command::new("chmod").arg("755").arg(stage.join("bin/python3")));
    for module in 0..MODULES {
        fs::write(site.join(format!("m{module}.py")), format!("V = 'catalog {module}'\n")).unwrap();
    }
    fs::write(site.join("where.py"), format!("P = '{}'\n", stage.display())).unwrap();
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::write(&blueprint, "name: tiny\n").unwrap();
    let catalog = test_home.record(&stage, &blueprint);
    fs::remove_dir_all(&stage).unwrap();
    Some(catalog)
}

/// Imports everything, and prints the result.
const ALL: &str = "import sys; sys.path.insert(0, ''); import where; \
    print(where.P, *[__import__('m%d' % n).V for n in range(30)])";

/// `holofs run` of a Python text, which must succeed. It runs long enough for its imports to be shared.
fn python(test_home: &TestHome, options: &[&str], catalog: &str, space: &str, code: &str) -> Output {
    let mut args = vec!["run"];
    args.extend(options);
    let code = format!("import time; time.sleep(0.1); {code}");
    args.extend([catalog, space, "--", "python3", "-v", "-c", &code]);
    test_home.holofs_ok(&args)
}

fn says(output: &Output) -> String {
    stdout(output).trim_end().to_owned()
}

/// The modules of the catalog that Python compiled, according to `-v`.
fn compiled(output: &Output) -> Vec<String> {
    let stderr = stderr(output);
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("# code object from "));
    let sources =
        lines.filter(|path| path.contains("/site-packages/") && path.trim_end_matches('\'').ends_with(".py"));
    let stem =
        |path: &str| Path::new(path.trim_matches('\'')).file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = sources.map(stem).collect();
    names.retain(|name| {
        name == "where" || name.strip_prefix('m').is_some_and(|rest| rest.parse::<u8>().is_ok())
    });
    names.sort();
    names
}

fn pack(test_home: &TestHome) -> Option<PathBuf> {
    let found = fs::read_dir(test_home.home().join("holofs/pyc")).ok()?.next()?.unwrap().path().join("pack");
    found.exists().then_some(found)
}

/// Runs once, and waits until other spaces can find the bytecode of the imports.
fn shared(test_home: &TestHome, catalog: &str) {
    python(test_home, &[], catalog, "first", ALL);
    until(|| pack(test_home).is_some());
}

/// Python text that overwrites every bytecode of `m1` with that of another source, with the time and size of `m1`.
const POISON: &str = "import m1, importlib.util as u, importlib._bootstrap_external as b, os; \
    s = os.stat(m1.__file__); code = compile(\"V = 'poison'\", m1.__file__, 'exec'); \
    p = u.cache_from_source(m1.__file__); os.makedirs(os.path.dirname(p), exist_ok=True); \
    t = p + '.t'; open(t, 'wb').write(b._code_to_timestamp_pyc(code, int(s.st_mtime), s.st_size)); os.replace(t, p)";

#[test]
fn first_import_in_another_space_compiles_only_what_is_relocated() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let first = python(&test_home, &[], &catalog, "one", ALL);
    assert_eq!(compiled(&first).len(), MODULES + 1, "{}", said(&first));
    until(|| pack(&test_home).is_some());
    for (options, space) in
        [(&["--mode=mount"][..], "two"), (&["--mode=materialize"], "three"), (&["--isolate"], "four")]
    {
        // The copies are made while Python starts; modules that are not copied in time are compiled.
        until(|| {
            let output = python(&test_home, &[options, &["--fresh"]].concat(), &catalog, space, ALL);
            let root = says(&output);
            assert_eq!(root.split_once(' ').unwrap().1, said_by_catalog(), "{options:?}");
            compiled(&output).iter().all(|name| name == "where")
        });
    }
    let again = python(&test_home, &[], &catalog, "one", ALL);
    assert_eq!(compiled(&again), [""; 0], "the space's own bytecode is of use");
}

#[test]
fn isolated_runs_compile_a_single_module_once_however_short_they_are() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let import = || {
        let code = "import m1, time; time.sleep(0.01)";
        test_home.holofs_ok(&["run", "--isolate", &catalog, "s", "--", "python3", "-v", "-c", code])
    };
    assert_eq!(compiled(&import()), ["m1"]);
    until(|| pack(&test_home).is_some());
    // The copy is made while Python starts.
    until(|| compiled(&import()).is_empty());
}

fn said_by_catalog() -> String {
    (0..MODULES).map(|module| format!("catalog {module}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn sources_of_equal_time_and_size_in_two_spaces_each_run_their_own_code() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let put = |value: u8| {
        format!(
            "import os, sys; p = os.environ['CONDA_PREFIX'] + '/lib/app.py'; open(p, 'w').write('V = {value}'); \
             os.utime(p, (1577836800, 1577836800)); sys.path.insert(0, os.path.dirname(p)); import app; print(app.V)"
        )
    };
    for value in [1, 2] {
        let output = python(&test_home, &[], &catalog, &format!("space{value}"), &put(value));
        assert_eq!(says(&output), value.to_string());
    }
}

#[test]
fn source_of_the_catalog_that_was_changed_with_its_time_and_size_kept_runs_as_it_is() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    shared(&test_home, &catalog);
    let change = "import os, glob; p = glob.glob(os.environ['CONDA_PREFIX'] + '/lib/python*/site-packages/m1.py')[0]; \
        s = os.stat(p); t = open(p).read().replace('catalog', 'changed'); open(p, 'w').write(t); \
        os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns)); assert os.stat(p).st_size == s.st_size";
    python(&test_home, &[], &catalog, "changed", change);
    // Long enough for all copies to be made.
    python(&test_home, &[], &catalog, "changed", "import time; time.sleep(1)");
    let output = python(&test_home, &[], &catalog, "changed", "import m1; print(m1.V)");
    assert_eq!(says(&output), "changed 1", "{}", stderr(&output));
}

#[test]
fn robot_that_is_deployed_again_with_its_times_kept_runs_its_new_code() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let robot = test_home.scratch().join("robot");
    let deploy = |version: &str| {
        fs::create_dir_all(&robot).unwrap();
        fs::write(robot.join("ver.py"), format!("V = '{version}'")).unwrap();
        run(Command::new("touch").args(["-d", "1980-01-01T00:00:01Z"]).arg(robot.join("ver.py")));
    };
    let code = format!("import sys; sys.path.insert(0, '{}'); import ver; print(ver.V)", robot.display());
    for (version, options) in
        [("1.0.1", &[][..]), ("1.0.2", &[]), ("1.0.3", &["--fresh"]), ("1.0.4", &["--isolate"])]
    {
        deploy(version);
        assert_eq!(says(&python(&test_home, options, &catalog, "robot", &code)), version);
    }
    assert!(!robot.join("__pycache__").exists());
}

#[test]
fn bytecode_that_a_program_wrote_is_not_executed_after_fresh_or_reset_nor_elsewhere() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let value = |options: &[&str], space: &str| {
        says(&python(&test_home, options, &catalog, space, "import m1; print(m1.V)"))
    };
    for mode in ["mount", "materialize"] {
        let option = format!("--mode={mode}");
        python(&test_home, &[&option], &catalog, mode, POISON);
        // What a program does to its own space stays in that space.
        assert_eq!(value(&[&option], mode), "poison");
    }
    // RCC restores files too, and writes `.meta` last.
    let root = says(&python(
        &test_home,
        &[],
        &catalog,
        "materialize",
        "import os; print(os.environ['CONDA_PREFIX'])",
    ));
    run(Command::new("touch").arg(format!("{root}.meta")));
    assert_eq!(value(&["--mode=materialize"], "materialize"), "catalog 1");
    assert_eq!(value(&[], "other"), "catalog 1");
    assert_eq!(value(&["--isolate"], "isolated"), "catalog 1");
    assert_eq!(value(&["--mode=mount", "--fresh"], "mount"), "catalog 1");
    python(&test_home, &[], &catalog, "again", POISON);
    test_home.holofs_ok(&["reset", "again"]);
    assert_eq!(value(&[], "again"), "catalog 1");
    python(&test_home, &["--isolate"], &catalog, "isolated", POISON);
    assert_eq!(value(&["--isolate"], "isolated"), "catalog 1");
}

#[test]
fn poisoned_bytecode_is_never_shared() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    // Written before anything is shared, next to everything that is imported.
    python(&test_home, &[], &catalog, "poisoned", &format!("{POISON}; {ALL}"));
    until(|| pack(&test_home).is_some());
    let value = says(&python(
        &test_home,
        &[],
        &catalog,
        "other",
        "import time; time.sleep(0.5); import m1; print(m1.V)",
    ));
    assert_eq!(value, "catalog 1");
}

#[test]
fn six_workers_of_a_new_space_all_run_the_right_code() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let mounted = test_home.mount(&catalog, "crowd", "user", &[]);
    let start = |_| {
        let mut command = test_home.holofs_command(&["run", &catalog, "crowd", "--", "python3", "-c", ALL]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let workers: Vec<_> = (0..6).map(start).collect();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let expected = format!("{} {}", mounted.path().display(), said_by_catalog());
        assert_eq!(says(&output), expected);
    }
}

#[test]
fn compileall_ends_as_it_does_without_holofs() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    shared(&test_home, &catalog);
    let compile = "python3 -m compileall -q $CONDA_PREFIX/lib && python3 -m compileall -qf $CONDA_PREFIX/lib";
    for options in [&[][..], &["--no-bytecode"], &["--isolate"], &["--mode=materialize"], &["--read-only"]] {
        let mut args = vec!["run"];
        args.extend(options);
        args.extend([&catalog, "compileall", "--", "sh", "-c", compile]);
        test_home.holofs_ok(&args);
    }
}

#[test]
fn everything_is_compiled_in_advance_and_found() {
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    let warmed = crate::common::json(&test_home.holofs_ok(&["warm", &catalog, "--bytecode", "--json"]));
    assert_eq!(warmed["bytecode"]["compiled"], MODULES, "{warmed:#}");
    assert_eq!(warmed["bytecode"]["shared"], MODULES, "{warmed:#}");
    until(|| {
        let output = python(&test_home, &["--fresh"], &catalog, "warm", ALL);
        compiled(&output).iter().all(|name| name == "where")
    });
    let again = crate::common::json(&test_home.holofs_ok(&["warm", &catalog, "--bytecode", "--json"]));
    assert_eq!(again["bytecode"]["compiled"], 0, "{again:#}");
    // The bytecode is removed with its catalog.
    test_home.holofs_ok(&["remove", &catalog]);
    test_home.holofs_ok(&["gc"]);
    assert!(pack(&test_home).is_none());
}

#[test]
fn bytecode_that_another_user_planted_is_not_used() {
    if !is_root() {
        return skip("Only root can plant for another user");
    }
    let test_home = TestHome::new();
    let Some(catalog) = catalog(&test_home) else { return };
    python(&test_home, &[], &catalog, "planted", POISON);
    shared(&test_home, &catalog);
    let label = |name: &str| {
        fs::read_dir(test_home.home().join("holofs").join(name)).unwrap().map(|entry| entry.unwrap().path())
    };
    for state in label("spaces") {
        run(Command::new("chown").arg("-R").arg("12345").arg(state.join("bytecode")));
    }
    let value = says(&python(&test_home, &[], &catalog, "planted", "import m1; print(m1.V)"));
    assert_eq!(value, "catalog 1");
    for shared in label("pyc") {
        run(Command::new("chmod").arg("0777").arg(&shared));
    }
    let output = python(&test_home, &[], &catalog, "other", &format!("import time; time.sleep(0.5); {ALL}"));
    assert_eq!(compiled(&output).len(), MODULES + 1, "{}", said(&output));
}
