//! Every system call of every operation fails once: the result is an errno, the tree is that of before or after, and a retry of the
//! operation works.
//!
//! An operation runs in a separate thread under `strace`, so that the n-th call of a kind is always the same one. First the calls are
//! only counted, then each call fails in a fresh world.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::bare::Bare;
use super::ops::Op;
use super::tree::Model;
use super::{World, difference};
use crate::common::skip;
use crate::common::soak::{amount, is_soak};

/// Calls that create or open something, those that need room, and all others, with the errors that each gets. `fcntl` is not
/// included: SQLite treats a lock that fails as held by another process and waits five seconds for it.
const CALLS: [(&str, &[&str]); 3] = [
    ("open,openat,openat2,memfd_create", &["EMFILE", "EIO"]),
    (
        "write,pwrite64,ftruncate,fallocate,copy_file_range,mkdir,mkdirat,utimensat,rename,renameat,renameat2,unlink,unlinkat",
        &["ENOSPC", "EDQUOT", "EIO"],
    ),
    (
        "read,pread64,stat,lstat,fstat,newfstatat,statx,lseek,ioctl,fsync,fdatasync,syncfs,chmod,fchmod,getdents64,access,readlink",
        &["EIO"],
    ),
];
/// The errors that an operation may return. ENOTCONN and the like would come from the kernel; ENOENT would be wrong. ENOTSUP is for
/// calls that not every file system has, such as `fallocate`.
const ANSWERS: [i32; 4] = [5, 24, 28, 122];

/// The preparation, and the operation that fails.
struct Case {
    before: Vec<Op>,
    op: Op,
}

fn cases() -> Vec<Case> {
    let path = |path: &str| path.to_owned();
    // Creates the database, with a file, a directory, a whiteout and an attribute.
    let written = || {
        vec![
            Op::Create(path("a"), 0o644),
            Op::Append(path("a"), vec![b'a'; 5000]),
            Op::Mkdir(path("b"), 0o755),
            Op::Unlink(path("lib/bin/f")),
            Op::SetXattr(path("a"), 0, vec![1]),
        ]
    };
    let on_pristine = [
        Op::Create(path("a"), 0o644),
        Op::Append(path("bin/tool"), vec![b'x'; 10]),
        Op::Unlink(path("lib/f")),
    ];
    let on_written = [
        Op::Create(path("lib/bin/f"), 0o600),
        Op::Mkdir(path("b/c"), 0o755),
        Op::Symlink(path("b/c"), path("nowhere")),
        Op::Fifo(path("c")),
        Op::Link(path("lib/f"), path("b/f")),
        Op::Unlink(path("lib/lib/tool")),
        Op::Unlink(path("a")),
        Op::Rmdir(path("lib/bin")),
        Op::Rename(path("lib/f"), path("b/f")),
        Op::Rename(path("a"), path("lib/f")),
        Op::Rename(path("lib"), path("b/lib")),
        Op::RenameNoReplace(path("bin/tool"), path("c")),
        Op::Exchange(path("a"), path("lib")),
        Op::Write(path("bin/tool"), 3, b"of a relocated file".to_vec()),
        Op::Write(path("lib/f"), 4000, vec![b'w'; 3000]),
        Op::Append(path("a"), vec![b'b'; 100]),
        Op::Truncate(path("lib/f"), 100),
        Op::Empty(path("lib/f")),
        Op::Allocate(path("lib/f"), 4000, 4000),
        Op::Punch(path("lib/f"), 100, 400),
        Op::CopyRange(path("lib/f"), 0, path("a"), 100, 300),
        Op::Chmod(path("lib/f"), 0o600),
        Op::SetTime(path("a"), 77),
        Op::SetXattr(path("lib/f"), 1, vec![2; 30]),
        Op::RemoveXattr(path("a"), 0),
        Op::Sync(path("a")),
    ];
    let on_pristine = on_pristine.into_iter().map(|op| Case { before: Vec::new(), op });
    on_pristine.chain(on_written.into_iter().map(|op| Case { before: written(), op })).collect()
}

/// One call: the n-th of its name, counted from 1, and the errors that it may get.
type Step = (String, usize, &'static [&'static str]);

/// Performs `op` in a thread under strace with `args`; returns the result.
fn watched(world: &mut Bare, op: &Op, log: &std::path::Path, args: &[&str]) -> Result<(), i32> {
    let (tell, receiver) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (mut strace, answer) = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            tell.send(thread.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
            may_go.recv().unwrap();
            world.apply(op)
        });
        let strace = attached(&receiver.recv().unwrap(), log, args);
        go.send(()).unwrap();
        (strace, worker.join().unwrap())
    });
    strace.wait().unwrap();
    answer
}

/// A strace that is attached to the thread.
fn attached(thread: &str, log: &std::path::Path, args: &[&str]) -> Child {
    let mut command = Command::new("strace");
    command.args(["-p", thread, "-o"]).arg(log).args(args);
    let mut strace = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(strace.stderr.take().unwrap());
    lines.read_line(&mut said).unwrap();
    assert!(said.contains("attached"), "{command:?}: {said}");
    strace
}

fn world(case: &Case) -> (Bare, Model) {
    let mut world = Bare::new();
    let mut model = Model::new(&world.label());
    for op in &case.before {
        assert_eq!((world.apply(op), model.apply(op)), (Ok(()), Ok(())), "{op:?}");
    }
    (world, model)
}

/// Every call of the operation in an undisturbed run.
fn steps(case: &Case, log: &std::path::Path) -> Vec<Step> {
    let (mut world, _) = world(case);
    let all = CALLS.map(|(calls, _)| calls).join(",");
    assert_eq!(watched(&mut world, &case.op, log, &["-e", &format!("trace={all}")]), Ok(()), "{:?}", case.op);
    let mut counts = BTreeMap::<String, usize>::new();
    let text = std::fs::read_to_string(log).unwrap();
    let calls = text.lines().filter_map(|line| line.split_once('(')).map(|(call, _)| call);
    let mut steps = Vec::new();
    for call in calls.filter(|call| call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
        let count = counts.entry(call.to_owned()).or_default();
        *count += 1;
        let (_, errors) =
            CALLS.iter().find(|(calls, _)| calls.split(',').any(|other| other == call)).unwrap();
        steps.push((call.to_owned(), *count, *errors));
    }
    steps
}

/// Makes the operation fail at `step`; true if it did.
fn fails(case: &Case, (call, number, _): &Step, error: &str, log: &std::path::Path) -> bool {
    let what = format!("{:?}, {error} of {call} {number}", case.op);
    let (mut world, mut model) = world(case);
    let before = model.seen();
    assert_eq!(model.apply(&case.op), Ok(()));
    let after = model.seen();
    let inject = format!("inject={call}:error={error}:when={number}");
    let answer = watched(&mut world, &case.op, log, &["-e", &format!("trace={call}"), "-e", &inject]);
    let got = world.seen();
    match answer {
        Ok(()) => assert_eq!(difference(&after, &got), None, "{what}: it says that it is done"),
        Err(errno) => {
            assert!(ANSWERS.contains(&errno), "{what}: it answers {errno}");
            let between = difference(&before, &got).and(difference(&after, &got));
            assert_eq!(between, None, "{what}: it is neither as before nor as after, answer {errno}");
        }
    }
    assert_eq!(world.apply(&Op::Restart), Ok(()));
    assert_eq!(difference(&got, &world.seen()), None, "{what}: a restart has changed it");
    if answer.is_err() && difference(&before, &got).is_none() {
        assert_eq!(world.apply(&case.op), Ok(()), "{what}, tried again");
        assert_eq!(difference(&after, &world.seen()), None, "{what}, tried again");
    }
    answer.is_err()
}

#[test]
fn operations_are_done_or_not_wherever_a_system_call_fails() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        return skip("failures are injected by strace");
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let (mut tried, mut failed) = (0, 0);
    for case in cases() {
        let steps = steps(&case, log.path());
        let stride = steps.len().div_ceil(amount(8, usize::MAX)).max(1);
        for (at, step) in
            steps.iter().enumerate().filter(|(at, _)| at % stride == 0 || *at + 1 == steps.len())
        {
            let errors = if is_soak() { step.2 } else { &step.2[at % step.2.len()..][..1] };
            for error in errors {
                tried += 1;
                failed += usize::from(fails(&case, step, error, log.path()));
            }
        }
    }
    eprintln!("{tried} failing calls, {failed} operations failed");
    // Some failures have no effect: sharing blocks and shortening a log are optional.
    assert!(failed * 4 > tried, "only {failed} of {tried} operations failed");
}
