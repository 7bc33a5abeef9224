//! Reports about a mount: the numbers of `stats`, `trace` and `report` come from the same requests, so they agree.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::golden::{CATALOG, Regime};
use crate::common::sandbox::Sandbox;
use crate::common::{json, number_field, stdout};

const SPACE: &str = "watched";

fn stats(sandbox: &Sandbox) -> Value {
    json(&sandbox.holofs_ok(&["stats", SPACE, "--json"]))
}

/// Runs a command in the space, recorded; returns the output of `trace --from`.
fn traced(sandbox: &Sandbox, more: &[&str], script: &str) -> Value {
    let file = sandbox.scratch().join("run.trace");
    let file = file.to_str().unwrap();
    let mut args = vec!["run", CATALOG, "--space", SPACE, "--trace", file, "--no-bytecode"];
    args.extend(more);
    args.extend(["--", "sh", "-c", script]);
    sandbox.holofs_ok(&args);
    json(&sandbox.holofs_ok(&["trace", "--from", file, "--json"]))
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
fn trace_stats_and_report_tell_the_same_numbers() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(CATALOG, SPACE, "user", &[]);
    let dir = mounted.path().join("plain");
    let (files, bytes) = content_of(&dir);
    assert!(files > 1);
    let before = stats(&sandbox);
    let run = traced(&sandbox, &[], &format!("find {} -type f -exec cat {{}} + > /dev/null", dir.display()));
    let after = stats(&sandbox);
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
    let page = sandbox.scratch().join("report.html");
    let report = json(&sandbox.holofs_ok(&["report", CATALOG, "-o", page.to_str().unwrap(), "--json"]));
    assert_eq!(report["touched"], run["touched"]);
}

#[test]
fn a_trace_tells_where_the_bytes_were() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let script = "cd $HOLOTREE_SPACE_ROOT 2>/dev/null || cd \"$1\"; cat plain/no-needle.txt; echo new > plain/written; true";
    let space = sandbox.mount(CATALOG, SPACE, "user", &[]);
    let root = space.path().to_owned();
    let script =
        script.replace("cd $HOLOTREE_SPACE_ROOT 2>/dev/null || cd \"$1\"", &format!("cd {}", root.display()));
    let first = traced(&sandbox, &[], &script);
    let file =
        first["files"].as_array().unwrap().iter().find(|file| file["path"] == "plain/no-needle.txt").unwrap();
    assert_eq!(file["origin"], "blob", "the first read of a blob inflates it: {first:#}");
    space.unmount();
    let space = sandbox.mount(CATALOG, SPACE, "user", &["--profile", "off"]);
    let second =
        traced(&sandbox, &[], &format!("cat {0}/plain/no-needle.txt {0}/plain/written", root.display()));
    let origins: Vec<_> =
        second["files"].as_array().unwrap().iter().map(|file| file["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["raw", "written"]);
    drop(space);
}

#[test]
fn a_trace_is_written_for_perfetto_and_a_read_only_mount_can_be_traced() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let chrome = sandbox.scratch().join("chrome.json");
    let args = ["trace", CATALOG, "--space", SPACE, "--chrome", chrome.to_str().unwrap(), "--json"];
    let script = ["--", "sh", "-c", "cat plain/no-needle.txt > /dev/null; exit 3"];
    let space = sandbox.mount(CATALOG, SPACE, "user", &["--read-only"]);
    let mut command = sandbox.holofs_command(&[&args[..], &script[..]].concat());
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
fn a_summary_is_appended_for_a_ci_job() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let file = sandbox.scratch().join("summary.md");
    for round in 1..=2 {
        let mut command =
            sandbox.holofs_command(&["run", CATALOG, "--summary", "--", "sh", "-c", "cat \"$0\" | wc -c"]);
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
