//! A program at a terminal, and the lines that its user types. Uses Python's `pty`, which every machine that runs these tests has.

use std::process::{Command, Output};

use super::test_home::TestHome;
use super::{said, stdout};

/// Runs the program given after the steps at a terminal of 80 columns. For each step, waits until the text appears, then types the line.
/// Prints all output, and exits with the program's status.
const DRIVER: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
steps, words = json.loads(sys.argv[1]), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTOU): signal.signal(number, signal.SIG_DFL)
    os.execvp(words[0], words)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
seen, new, end = b'', b'', time.monotonic() + 60
def more():
    global seen, new
    if time.monotonic() > end: raise SystemExit('nothing for 60 s after ' + repr(seen))
    if not select.select([fd], [], [], 1)[0]: return True
    try: got = os.read(fd, 65536)
    except OSError: got = b''
    # fish asks what terminal it is, and waits for the answer.
    if b'\x1b[c' in got or b'\x1b[0c' in got: os.write(fd, b'\x1b[?62c')
    seen += got; new += got
    return bool(got)
for wait, line in steps:
    while wait.encode() not in new:
        if not more(): raise SystemExit('ended before %r: %r' % (wait, seen))
    new = b''
    os.write(fd, line.encode() + b'\r')
while more(): pass
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
sys.stdout.flush()
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"#;

/// Runs `words` at a terminal. Each step is a text to wait for, and a line to type then.
pub fn at_terminal(command: Command, steps: &[(&str, &str)]) -> Output {
    let mut driver = Command::new("python3");
    driver.args(["-c", DRIVER, &serde_json::json!(steps).to_string()]);
    driver.arg(command.get_program()).args(command.get_args()).env_clear();
    driver.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    if let Some(dir) = command.get_current_dir() {
        driver.current_dir(dir);
    }
    driver.output().unwrap()
}

/// Like [`at_terminal`], for a program that must succeed; returns its output.
pub fn seen(command: Command, steps: &[(&str, &str)]) -> String {
    let output = at_terminal(command, steps);
    assert!(output.status.success(), "{}", said(&output));
    stdout(&output)
}

/// A program with the environment of a test's home. The driver writes no bytecode.
pub fn program(test_home: &TestHome, words: &[&str]) -> Command {
    let mut command = test_home.command(words[0]);
    command.args(&words[1..]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
