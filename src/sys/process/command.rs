//! Runs a command in our place: it receives the signals that it would receive without us, and we exit as it did.
//!
//! - Signals that were ignored or blocked when we started stay so in the command (`nohup`, `&` in scripts, `trap '' PIPE`).
//! - Signals sent to us are forwarded. Those that a terminal sends (Ctrl-C, Ctrl-\, Ctrl-Z) reach the command anyway, since it is in
//!   our process group.
//! - If the terminal stops the command, we stop too, so that the shell notices; when continued, both continue.
//! - If the command dies of a signal, we die of the same signal, so that loops in shells stop.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::low_level::siginfo::Origin;

/// Signals that are forwarded.
const PASSED_ON: [i32; 10] =
    [SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP];
/// Signals that a terminal sends to the command as well.
const OF_A_TERMINAL: [i32; 3] = [SIGINT, SIGQUIT, SIGTSTP];

/// The process that signals are forwarded to: from its start until [`wait`] has its status; otherwise 0.
static COMMAND: AtomicI32 = AtomicI32::new(0);
/// The received signals that are not forwarded yet: a bit for each.
static RECEIVED: AtomicU32 = AtomicU32::new(0);

/// Proof that signals are caught, to be forwarded to one command at a time.
pub struct Caught(());

/// From now on no signal that can be forwarded ends this process; ignored signals stay ignored.
pub fn catch() -> io::Result<Caught> {
    for signal in PASSED_ON.into_iter().filter(|&signal| !is_ignored(signal)) {
        // SAFETY: the action only uses atomics and kill(2), and reads the siginfo that it is called with.
        #[allow(unsafe_code)]
        unsafe {
            signal_hook_registry::register_sigaction(signal, move |info| {
                receive(signal, Origin::extract(info).process.is_none());
            })?;
        }
    }
    Ok(Caught(()))
}

impl Caught {
    /// Forwards received and future signals to the process `pid`.
    pub fn pass_on(&self, pid: u32) -> io::Result<()> {
        COMMAND.store(pid_of(pid)?.as_raw_nonzero().get(), Ordering::SeqCst);
        forward();
        Ok(())
    }
}

/// Called in the signal handler, with a signal of the kernel or of a process.
fn receive(signal: i32, of_kernel: bool) {
    if !(of_kernel && OF_A_TERMINAL.contains(&signal)) {
        RECEIVED.fetch_or(1 << signal, Ordering::SeqCst);
        forward();
    }
}

/// Forwards what was received, once there is a command; async-signal-safe. A handler that comes in between forwards it instead.
fn forward() {
    let Some(command) = Pid::from_raw(COMMAND.load(Ordering::SeqCst)) else { return };
    let received = RECEIVED.swap(0, Ordering::SeqCst);
    for signal in PASSED_ON.into_iter().filter(|signal| received & (1 << signal) != 0) {
        if let Some(signal) = Signal::from_named_raw(signal)
            // It fails only if the command has ended, so there is nothing left to forward to.
            && rustix::process::kill_process(command, signal).is_err()
        {
            return;
        }
    }
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Restores for `command` the signal state in which we started: the standard library unblocks all signals, and forgets that SIGPIPE
/// was ignored.
pub fn as_found(command: &mut Command) {
    let blocked = blocked();
    let pipe = PIPE_WAS_IGNORED.load(Ordering::Relaxed);
    if !pipe && blocked.is_none() {
        return;
    }
    let restore = move || {
        restore(pipe, blocked.as_ref());
        Ok(())
    };
    // SAFETY: between fork and exec only signal(2) and sigprocmask(2) are called, which are safe there.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(restore);
    }
}

/// The command is killed when the thread that starts it ends, however it ends. Its own children are not. Only on Linux.
pub fn dies_with_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let bind = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec only prctl(2) is called, which is safe there.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(bind);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _unused = command;
}

/// Waits until `child` has exited. While a terminal has stopped it, we are stopped too.
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = pid_of(child.id())?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => stop_with(pid, status),
            Ok(Some((_, status))) => {
                COMMAND.store(0, Ordering::SeqCst);
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Stops this process as its child was stopped, unless the child continues already, or was not stopped by the terminal.
fn stop_with(child: Pid, status: WaitStatus) {
    let by_terminal = [Signal::TSTP, Signal::TTIN, Signal::TTOU].map(Signal::as_raw);
    let goes_on = rustix::process::waitpid(Some(child), WaitOptions::CONTINUED | WaitOptions::NOHANG);
    let stopped = status.stopping_signal().is_some_and(|signal| by_terminal.contains(&signal));
    if stopped
        && !matches!(goes_on, Ok(Some(_)))
        && let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP)
    {
        log::debug!("Cannot stop with the command: {error}");
    }
}

/// The signal that ended a process, if one did.
pub fn that_ended(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// Ends this process by `signal`, without a core file. Returns if the kernel does not allow it: for the first process of a
/// container.
pub fn die_of(signal: i32) {
    if std::process::id() == 1 {
        return;
    }
    let limit = rustix::process::getrlimit(Resource::Core);
    if let Err(error) = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit }) {
        log::debug!("Cannot disable the core file: {error}");
    }
    let outcome = match Signal::from_named_raw(signal) {
        // It cannot be caught, so there is no handler to reset.
        Some(Signal::KILL) => {
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).map_err(io::Error::from)
        }
        _ => signal_hook::low_level::emulate_default_handler(signal),
    };
    if let Err(error) = outcome {
        log::debug!("Cannot end by signal {signal}: {error}");
    }
}

/// SIGPIPE was ignored when this process started. Rust ignores it before `main`, so this is recorded earlier.
static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Called by the loader, before Rust's runtime starts.
#[used]
#[allow(unsafe_code)]
// SAFETY: the section holds functions without arguments that the loader calls once, and this is one.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_MAIN: extern "C" fn() = note_pipe;

extern "C" fn note_pipe() {
    PIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

#[allow(unsafe_code)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is valid, and with a null action sigaction(2) only fills it.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// The signals that are blocked in this thread, if there are any.
#[allow(unsafe_code)]
fn blocked() -> Option<libc::sigset_t> {
    // SAFETY: an all-zero set is valid, and with a null set sigprocmask(2) only fills it.
    unsafe {
        let mut now: libc::sigset_t = std::mem::zeroed();
        if libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) != 0 {
            return None;
        }
        (1..=31).any(|signal| libc::sigismember(&raw const now, signal) == 1).then_some(now)
    }
}

/// Called in the child, after the setup of the standard library.
#[allow(unsafe_code)]
fn restore(pipe: bool, blocked: Option<&libc::sigset_t>) {
    // SAFETY: both calls are async-signal-safe; the set lives as long as the call.
    unsafe {
        if pipe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        if let Some(blocked) = blocked {
            libc::sigprocmask(libc::SIG_SETMASK, blocked, std::ptr::null_mut());
        }
    }
}
