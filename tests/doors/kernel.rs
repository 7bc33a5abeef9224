//! `holofs kernel install`: a kernel that the real Jupyter finds, starts, interrupts and stops.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::below;
use crate::common::test_home::TestHome;
use crate::common::{exit, json, project, run, said, skip, stderr, stdout};

/// A Python with jupyter_client, kept between runs; `None` if it cannot be installed.
pub fn jupyter() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let venv = cache.join("holofs-tests/jupyter");
    let python = venv.join("bin/python");
    let script = "[ -x \"$1/bin/ready\" ] || { python3 -m venv \"$1\" && \"$1/bin/pip\" install --quiet 'jupyter_client>=8,<9' && ln -sf python \"$1/bin/ready\"; }";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(&venv).output().unwrap();
    if output.status.success() {
        return Some(python);
    }
    skip(&format!("No jupyter_client: {}", said(&output)));
    None
}

const CLIENT: &str = r#"
import sys, time
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name='test-env')
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
def ask(code):
    seen = []
    hook = lambda message: seen.append(message['content'].get('text') or message['content'].get('ename') or '')
    reply = client.execute_interactive(code, timeout=60, output_hook=hook)
    return reply['content']['status'], ''.join(seen).strip()
print(*ask('import sys, os; print(sys.prefix, os.environ["RCC_ENVIRONMENT_HASH"])'))
message = client.execute('import time; print("sleeping", flush=True); time.sleep(60)', stop_on_error=False)
while True:
    got = client.get_iopub_msg(timeout=60)
    if got['msg_type'] == 'stream' and 'sleeping' in got['content']['text']: break
begin = time.monotonic()
manager.interrupt_kernel()
reply = client.get_shell_msg(timeout=30)
print(reply['content']['status'], reply['content'].get('ename'), time.monotonic() - begin < 30)
print(*ask('print(6 * 7)'))
client.stop_channels()
manager.shutdown_kernel()
print('stopped', not manager.is_alive())
"#;

#[test]
fn jupyter_starts_interrupts_and_stops_a_kernel_in_a_space() {
    let Some(python) = jupyter() else { return };
    let test_home = TestHome::new();
    let stage = test_home.holotree().join(crate::common::python::STAGE);
    run(Command::new(project().join("scripts/python-env")).arg(&stage).args(["--packages", "ipykernel"]));
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::copy(stage.join("identity.yaml"), &blueprint).unwrap();
    let catalog = test_home.record(&stage, &blueprint);
    fs::remove_dir_all(&stage).unwrap();
    let dir = test_home.scratch();
    let mut install = test_home
        .holofs_command(&["kernel", "install", ".", "--name", "test-env", "--space", "auto", "--json"]);
    let installed = run(install.current_dir(&dir));
    let path = test_home.user().join(".local/share/jupyter/kernels/test-env/kernel.json");
    assert_eq!(json(&installed)["path"], path.to_str().unwrap());
    assert_eq!(stderr(&installed), "");
    let output = run(test_home.command(python).args(["-c", CLIENT]));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("ok {}/", test_home.holotree().display())), "{}", said(&output));
    assert!(lines[0].ends_with(&catalog[..16]), "{text}");
    assert_eq!(lines[1..], ["error KeyboardInterrupt True", "ok 42", "stopped True"], "{text}");
    crate::common::until(|| below(&test_home.holotree()).is_empty());
}

#[test]
fn kernel_without_ipykernel_is_installed_with_a_warning() {
    let test_home = TestHome::golden(Regime::Gzip);
    let prefix = test_home.scratch().join("prefix");
    let args = [
        "kernel",
        "install",
        CATALOG,
        "--prefix",
        prefix.to_str().unwrap(),
        "--display-name",
        "Golden \u{e9}",
    ];
    let output = test_home.holofs_ok(&args);
    let warning = "holofs: warning: This environment has no ipykernel, so the kernel will not start: add it to the conda.yaml\n";
    assert_eq!(stderr(&output), warning);
    let path = prefix.join("share/jupyter/kernels/holofs/kernel.json");
    assert_eq!(stdout(&output), format!("{}\n", path.display()));
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(spec["display_name"], "Golden \u{e9}");
    assert_eq!(spec["interrupt_mode"], "message");
    let words = spec["argv"].as_array().unwrap();
    let words: Vec<&str> = words.iter().skip(1).filter_map(|word| word.as_str()).collect();
    let expected = [
        "run",
        "--robocorp",
        "--space",
        "user",
        CATALOG,
        "--",
        "python",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ];
    assert_eq!(words, expected);
    test_home.holofs_fails(&["kernel", "install", CATALOG, "--name", "../x"], exit::USAGE);
}
