//! Reports about a mount: the numbers of `stats`, `trace` and `report` are from the same requests, so they agree.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, json, number_field, run, said, skip, stderr, stdout};

const SPACE: &str = "watched";

fn stats(test_home: &TestHome) -> Value {
    json(&test_home.holofs_ok(&["stats", SPACE, "--json"]))
}

/// Runs a command in the space, recorded; returns the output of `trace --from`.
fn traced(test_home: &TestHome, more: &[&str], script: &str) -> Value {
    let file = test_home.scratch().join("run.trace");
    let file = file.to_str().unwrap();
    let mut args = vec!["run", CATALOG, "--space", SPACE, "--trace", file, "--no-bytecode"];
    args.extend(more);
    args.extend(["--", "sh", "-c", script]);
    test_home.holofs_ok(&args);
    json(&test_home.holofs_ok(&["trace", "--from", file, "--json"]))
}

/// Regular files with content below `dir`, and their bytes.
fn content_of(dir: &Path) -> (u64, u64) {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.fold((0, 0), |(files, bytes), path| {
        let found = fs::symlink_metadata(&path).unwrap();
        let (more, size) = if found.is_dir() {
            content_of(&path)
        } else {
            (u64::from(found.is_file() && found.len() > 0), found.len() * u64::from(found.is_file()))
        };
        (files + more, bytes + size)
    })
}

#[test]
fn trace_stats_and_report_show_the_same_numbers() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, "user", &[]);
    let dir = mounted.path().join("plain");
    let (files, bytes) = content_of(&dir);
    assert!(files > 1);
    let before = stats(&test_home);
    let run =
        traced(&test_home, &[], &format!("find {} -type f -exec cat {{}} + > /dev/null", dir.display()));
    let after = stats(&test_home);
    // Everything that was read, once, and as many requests as the server counted.
    assert_eq!(number_field(&run["touched"], "files"), files);
    assert_eq!(number_field(&run["touched"], "bytes"), bytes, "no file of it is larger than a chunk");
    assert_eq!(number_field(&run, "read_bytes"), bytes);
    assert_eq!(run["files"].as_array().unwrap().len() as u64, files);
    let reads = |stats: &Value| stats["requests"]["read"].as_u64().unwrap_or_default();
    assert_eq!(number_field(&run["requests"], "read"), reads(&after) - reads(&before));
    assert_eq!(number_field(&after["latency"]["read"], "count"), reads(&after));
    let parts = run["origins"].as_object().unwrap().values();
    assert_eq!(parts.clone().map(|part| number_field(part, "bytes")).sum::<u64>(), bytes);
    let packages = run["packages"].as_array().unwrap().iter();
    assert_eq!(packages.map(|package| number_field(package, "bytes")).sum::<u64>(), bytes);
    assert_eq!((number_field(&run, "dropped"), &run["incomplete"]), (0, &Value::Null));
    // The counters include the content that these reads brought into the raw store.
    let inflated = run["origins"].get("blob inflated").map_or(0, |part| number_field(part, "reads"));
    let ingested = |stats: &Value| stats["counts"]["blobs_ingested"].as_u64().unwrap_or_default();
    assert!(inflated <= ingested(&after), "{inflated} blobs inflated, {} ingested", ingested(&after));
    // The same for the report, which reads the profile that the mount leaves.
    mounted.unmount();
    let page = test_home.scratch().join("report.html");
    let report = json(&test_home.holofs_ok(&["report", CATALOG, "-o", page.to_str().unwrap(), "--json"]));
    assert_eq!(report["touched"], run["touched"]);
}

#[test]
fn trace_shows_where_the_bytes_were() {
    let test_home = TestHome::golden(Regime::Gzip);
    let script = "cd $HOLOTREE_SPACE_ROOT 2>/dev/null || cd \"$1\"; cat plain/no-needle.txt; echo new > plain/written; true";
    let space = test_home.mount(CATALOG, SPACE, "user", &[]);
    let root = space.path().to_owned();
    let script =
        script.replace("cd $HOLOTREE_SPACE_ROOT 2>/dev/null || cd \"$1\"", &format!("cd {}", root.display()));
    let first = traced(&test_home, &[], &script);
    let file =
        first["files"].as_array().unwrap().iter().find(|file| file["path"] == "plain/no-needle.txt").unwrap();
    assert_eq!(file["origin"], "blob", "the first read of a blob inflates it: {first:#}");
    space.unmount();
    let space = test_home.mount(CATALOG, SPACE, "user", &["--profile", "off"]);
    let second =
        traced(&test_home, &[], &format!("cat {0}/plain/no-needle.txt {0}/plain/written", root.display()));
    let origins: Vec<_> =
        second["files"].as_array().unwrap().iter().map(|file| file["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["raw", "written"]);
    drop(space);
}

#[test]
fn trace_is_written_for_perfetto_also_of_a_read_only_mount() {
    let test_home = TestHome::golden(Regime::Gzip);
    let chrome = test_home.scratch().join("chrome.json");
    let args = ["trace", CATALOG, "--space", SPACE, "--chrome", chrome.to_str().unwrap(), "--json"];
    let script = ["--", "sh", "-c", "cat plain/no-needle.txt > /dev/null; exit 3"];
    let space = test_home.mount(CATALOG, SPACE, "user", &["--read-only"]);
    let mut command = test_home.holofs_command(&[&args[..], &script[..]].concat());
    let output = command.current_dir(space.path()).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(3),
        "the command's status is ours: {}",
        crate::common::said(&output)
    );
    let events: Value = serde_json::from_str(&fs::read_to_string(&chrome).unwrap()).unwrap();
    let events = events["traceEvents"].as_array().unwrap();
    let read = events.iter().find(|event| event["name"] == "read plain/no-needle.txt").unwrap();
    assert_eq!((read["ph"].as_str(), read["args"]["from"].as_str()), (Some("X"), Some("blob inflated")));
    assert!(read["dur"].as_f64().unwrap() > 0.0);
    assert!(events.iter().all(|event| event["ph"] == "M" || event["ts"].is_number()));
    drop(space);
}

#[test]
fn summary_is_appended_for_a_ci_job() {
    let test_home = TestHome::golden(Regime::Gzip);
    let file = test_home.scratch().join("summary.md");
    for round in 1..=2 {
        let mut command =
            test_home.holofs_command(&["run", CATALOG, "--summary", "--", "sh", "-c", "cat \"$0\" | wc -c"]);
        let output = command.arg("/etc/passwd").env("GITHUB_STEP_SUMMARY", &file).output().unwrap();
        assert!(output.status.success(), "{}", crate::common::said(&output));
        assert!(
            stdout(&output).trim().parse::<u64>().is_ok(),
            "stdout is the command's: {}",
            stdout(&output)
        );
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("### HoloFS: `sh -c cat").count(), round);
        assert_eq!(text.matches("| Ready after |").count(), round);
        assert_eq!(text.matches("measured once on this machine, all").count(), round, "{text}");
        assert_eq!(text.matches("**What would help most:**").count(), round);
    }
}

/// Checks that every line of the text format is a comment or a sample, and every sample belongs to a family declared before it.
fn check_exposition(page: &str) -> Vec<(String, f64)> {
    let mut families: Vec<&str> = Vec::new();
    let mut samples = Vec::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "{name} is announced twice");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let name = series.split('{').next().unwrap();
            let is_of = |family: &&str| {
                let rest = name.strip_prefix(*family);
                rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(families.last().is_some_and(is_of), "{line} is of no family");
            samples.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}

/// Parses with the parser of Prometheus' own client for Python.
const PARSE: &str = "import sys; from prometheus_client.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, sample.value)";

#[test]
fn metrics_are_what_prometheus_reads_and_agree_with_stats() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, "user", &[]);
    fs::read(mounted.path().join("plain/no-needle.txt")).unwrap();
    let file = test_home.scratch().join("holofs.prom");
    let before = stats(&test_home);
    test_home.holofs_ok(&["metrics", "--disk", "--output", file.to_str().unwrap()]);
    let page = fs::read_to_string(&file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644, "node_exporter is another user");
    let samples = check_exposition(&page);
    let value = |name: &str, label: &str| {
        let found = samples.iter().find(|(series, _)| series.starts_with(name) && series.contains(label));
        found.unwrap_or_else(|| panic!("no {name} with {label}: {page}")).1
    };
    let reads = number_field(&before["requests"], "read") as f64;
    assert_eq!(value("holofs_requests_total", "kind=\"read\""), reads);
    assert_eq!(value("holofs_request_duration_seconds_count", "kind=\"read\""), reads);
    assert_eq!(value("holofs_request_duration_seconds_bucket", "kind=\"read\",le=\"+Inf\""), reads);
    assert_eq!(
        value("holofs_events_total", "event=\"bytes_read\""),
        number_field(&before["counts"], "bytes_read") as f64
    );
    assert_eq!(value("holofs_space_answers", SPACE), 1.0);
    let df = json(&test_home.holofs_ok(&["df", "--json"]));
    assert_eq!(
        value("holofs_disk_bytes", "part=\"blobs\""),
        number_field(&df["parts"]["blobs"], "bytes") as f64
    );
    // The client's own parser agrees.
    let python = test_home.scratch().join("python");
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--break-system-packages",
        "--target",
        python.to_str().unwrap(),
        "prometheus_client",
    ];
    let installed = Command::new("python3").args(pip).output().unwrap();
    if !installed.status.success() {
        return skip(&format!("No prometheus_client: {}", said(&installed)));
    }
    let parse = ["-c", PARSE];
    let mut parser = Command::new("python3");
    let parsed = run(parser.args(parse).env("PYTHONPATH", &python).stdin(fs::File::open(&file).unwrap()));
    assert_eq!(stdout(&parsed).lines().count(), samples.len());
}

#[test]
fn metrics_are_served_and_slow_clients_are_dropped() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mut command = test_home.holofs_command(&["metrics", "--listen", "127.0.0.1:0"]);
    let mut server = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(server.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim().strip_prefix("holofs: serving http://").unwrap().strip_suffix("/metrics").unwrap();
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // A silent client blocks others for at most two seconds.
    let silent = std::net::TcpStream::connect(address).unwrap();
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", page.len())), "{head}");
    assert!(check_exposition(page).contains(&("holofs_spaces".to_owned(), 0.0)));
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(ask("DELETE /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    drop(silent);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Runs `holofs top` in a new terminal, presses a key once the screen is drawn, and prints how it ended.
const PTY: &str = r#"
import fcntl, os, pty, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.2)
    os.execv(sys.argv[1], [sys.argv[1], "top", "--interval", "0.2"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 130, 0, 0))
seen, asked, until = b"", False, time.time() + 60
while time.time() < until:
    if select.select([fd], [], [], 0.2)[0]:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    if not asked and b"quit" in seen and sys.argv[2].encode() in seen:
        os.write(fd, b"q")
        asked = True
else:
    os.kill(pid, 9)
_, status = os.waitpid(pid, 0)
print("asked" if asked else "not asked", os.waitstatus_to_exitcode(status), b"\x1b[?1049h" in seen, b"\x1b[?1049l" in seen)
"#;

#[test]
fn top_shows_live_spaces_in_a_terminal_until_q_and_prints_elsewhere() {
    let test_home = TestHome::golden(Regime::Gzip);
    assert_eq!(stdout(&test_home.holofs_ok(&["top"])), "No space is mounted\n");
    let mounted = test_home.mount(CATALOG, SPACE, "user", &[]);
    fs::read(mounted.path().join("plain/no-needle.txt")).unwrap();
    let text = stdout(&test_home.holofs_ok(&["top", "--once"]));
    assert!(text.starts_with("Space"), "{text}");
    assert!(text.contains("watched") && text.contains("\nread "), "{text}");
    let sample = json(&test_home.holofs_ok(&["top", "--json"]));
    assert_eq!(sample["spaces"][0]["space"], SPACE);
    assert_eq!(sample["spaces"][0]["stats"]["requests"]["read"], stats(&test_home)["requests"]["read"]);
    let mut python = test_home.command("python3");
    let shown = run(python.args(["-c", PTY, env!("CARGO_BIN_EXE_holofs"), SPACE]).env("TERM", "xterm"));
    assert_eq!(stdout(&shown), "asked 0 True True\n", "q ends it, and the terminal is given back");
}

#[test]
fn explain_shows_layer_content_and_place_of_a_path() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, "user", &[]);
    let explain = |path: &Path| json(&test_home.holofs_ok(&["explain", path.to_str().unwrap(), "--json"]));
    let file = mounted.path().join("plain/no-needle.txt");
    let plain = explain(&file);
    assert_eq!((&plain["layer"], &plain["is_untouched_time"]), (&Value::from("catalog"), &Value::from(true)));
    let digest = plain["digest"].as_str().unwrap();
    let blob = plain["places"].as_array().unwrap().iter().find(|place| place["what"] == "blob").unwrap();
    assert!(blob["path"].as_str().unwrap().ends_with(digest) && blob["size"].is_number(), "{plain:#}");
    fs::write(&file, "changed").unwrap();
    let written = explain(&file);
    assert_eq!((&written["layer"], &written["digest"]), (&Value::from("written"), &Value::Null));
    let upper = &written["places"][0];
    assert_eq!(upper["what"], "upper");
    assert_eq!(fs::read_to_string(upper["path"].as_str().unwrap()).unwrap(), "changed");
    assert_eq!(written["is_untouched_time"], false);
    fs::write(mounted.path().join("plain/x.pyc"), "x").unwrap();
    assert_eq!(explain(&mounted.path().join("plain/x.pyc"))["layer"], "bytecode");
    assert_eq!(explain(mounted.path())["kind"], "directory");
    assert!(
        stdout(&test_home.holofs_ok(&["explain", file.to_str().unwrap()]))
            .contains("written: created or changed in this space")
    );
    test_home.holofs_fails(&["explain", test_home.scratch().to_str().unwrap()], exit::NOT_FOUND);
    let long = stdout(&test_home.holofs_ok(&["list", "--long"]));
    assert!(long.contains("  used by    nobody") && long.contains("  served by  process "), "{long}");
    let long = json(&test_home.holofs_ok(&["catalogs", "--long", "--json"]));
    let golden = &long[crate::common::golden::BLUEPRINT];
    assert!(golden["file"].as_str().unwrap().ends_with(CATALOG) && golden["id"].is_string(), "{golden:#}");
    let df = json(&test_home.holofs_ok(&["df", "--json"]));
    assert_eq!(golden["usage"], df["catalogs"][0]);
}

#[test]
fn explain_knows_a_space_of_plain_files_and_the_log_can_be_json() {
    let test_home = TestHome::golden(Regime::Gzip);
    let root = test_home.materialize(CATALOG, "files", "user");
    let explain = |path: &Path| json(&test_home.holofs_ok(&["explain", path.to_str().unwrap(), "--json"]));
    let file = root.join("plain/no-needle.txt");
    assert_eq!(explain(&file)["layer"], "catalog");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "changed").unwrap();
    assert_eq!(explain(&file)["layer"], "written");
    let said = test_home.holofs_ok(&["-vv", "--log-format", "json", "top", "--json"]);
    let more = test_home.holofs_ok(&["-vv", "--log-format", "json", "list"]);
    for line in stderr(&said).lines().chain(stderr(&more).lines()) {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            ["time", "level", "target", "message"].iter().all(|field| record[field].is_string()),
            "{line}"
        );
    }
}
