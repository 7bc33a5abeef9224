//! Turning a process into a daemon, and finding the users of a directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::Process;
use crate::sys::text::read_lossy;

/// The owner of files that this process creates.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions that new files do not get.
    pub umask: u16,
}

/// The owner and umask of this process. Not safe while other threads create files: it changes the umask for a moment.
pub fn owner() -> Owner {
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        umask: u16::try_from(umask.as_raw_mode() & 0o777).unwrap_or(0o022),
    }
}

/// Closes every descriptor but stdio: locks and pipes of the parent must not live as long as the daemon. For a program that has opened no
/// descriptor yet, and for a fork that uses none of those it was forked with.
#[cfg(target_os = "linux")]
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing owns the ones that are closed: neither of its callers drops or uses an owner from before.
    #[allow(unsafe_code)]
    // By its number: musl has no such function.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Platforms without mounts have no long-running daemon: its mount is refused and it exits.
#[cfg(not(target_os = "linux"))]
pub fn close_inherited() -> io::Result<()> {
    Ok(())
}

/// Starts a new session: no terminal, and no signals meant for the parent.
pub fn new_session() -> io::Result<()> {
    match rustix::process::setsid() {
        // This process leads a group already, so it gets no signals meant for others.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Starts a new process group: no signals that a terminal sends to the parent.
pub fn new_group() -> io::Result<()> {
    Ok(rustix::process::setpgid(None, None)?)
}

/// Leaves the current directory, so that this process keeps none busy.
pub fn leave_dir() -> io::Result<()> {
    Ok(rustix::process::chdir("/")?)
}

/// Exits this process at once and successfully: no destructor runs.
pub fn end() -> ! {
    // SAFETY: it does not return, so nothing is used after it.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(0)
    }
}

/// Stdin becomes empty, stdout and stderr go to `log`.
pub fn redirect_stdio(log: &File) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(log.as_fd())?;
    Ok(rustix::stdio::dup2_stderr(log.as_fd())?)
}

/// Redirects stdin to /dev/null.
pub fn leave_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?.as_fd())?)
}

/// Redirects stdin and stdout to /dev/null.
pub fn leave_stdin_and_stdout() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    Ok(rustix::stdio::dup2_stdout(null.as_fd())?)
}

/// For a forked copy: starts a new process group; stdin becomes empty, and stdout goes to `pipe`.
pub fn speak_into(pipe: io::PipeWriter) -> io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?.as_fd())?;
    rustix::stdio::dup2_stdout(pipe.as_fd())?;
    drop(pipe);
    new_group()
}

/// For a forked copy: stdin and stdout are these pipes, and everything else that was open is closed, as in a program that is started.
pub fn keep_only(stdin: io::PipeReader, stdout: io::PipeWriter) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin.as_fd())?;
    rustix::stdio::dup2_stdout(stdout.as_fd())?;
    drop((stdin, stdout));
    close_inherited()
}

/// A copy of stderr, where this process reports failures.
pub fn stderr() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Gives this thread the lowest priority.
pub fn lower_priority() {
    if let Err(error) = rustix::process::nice(19) {
        log::debug!("Cannot lower the priority: {error}");
    }
}

/// Keeps the heap of a process with many short-lived threads small: they share two heaps, and large buffers are returned to the system as
/// soon as they are freed.
pub fn keep_heap_small() {
    return_memory_at_once();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and only changes how later allocations are made.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// From now on memory is returned to the system when it is freed, with musl: mimalloc keeps it for 10 ms and then returns it only if the same
/// thread frees more. Large buffers come from the system each time: of those that mimalloc keeps, it clears every byte before they are used
/// again, which for fuser's buffers is 16 MB in each thread. Call it before there are other threads.
pub fn return_memory_at_once() {
    #[cfg(target_env = "musl")]
    // SAFETY: it takes no pointer, and no other thread allocates meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        /// `mi_option_purge_delay` in mimalloc.h, in milliseconds; the binding has no name for it.
        const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
        /// `mi_option_arena_max_object_size` in mimalloc.h, in KiB; as before.
        const LARGEST_KEPT: libmimalloc_sys::mi_option_t = 45;
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
        libmimalloc_sys::mi_option_set(LARGEST_KEPT, 4096);
    }
}

/// Returns freed memory to the system: the allocator would otherwise keep the memory of a large catalog for as long as a mount lives.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may run concurrently with allocations of other threads.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_env = "musl")]
    // SAFETY: it takes no pointer, and may run concurrently with allocations of other threads.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// The processes that have a file below `root` open or mapped, run a program from it, or have their current or root directory in it;
/// as far as visible to us.
pub fn users_of(root: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| uses(pid, root)).map(Process::with_id).collect()
}

/// The supervisors of mounts that were started from the program at `program`, as far as visible to us: they wait for a signal that asks
/// for a restart, which would end any other process.
pub fn supervisors_of(program: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| is_supervisor_of(pid, program)).collect()
}

/// True if `pid` is one of [`supervisors_of`].
pub fn is_supervisor_of(pid: u32, program: &Path) -> bool {
    runs(pid, program) && waits_for_restart(pid)
}

/// True if `pid` runs the program at `program`, or one that was there.
fn runs(pid: u32, program: &Path) -> bool {
    let Ok(shown) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    shown == program
        || shown.as_os_str().as_encoded_bytes().strip_suffix(b" (deleted)")
            == Some(program.as_os_str().as_encoded_bytes())
}

/// True if `pid` blocks SIGUSR2, to take it as a message.
fn waits_for_restart(pid: u32) -> bool {
    const USR2: u64 = 1 << 11;
    let status = read_lossy(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & USR2 != 0)
}

fn uses(pid: u32, root: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let below = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(root));
    if ["cwd", "exe", "root"].iter().any(|link| below(&proc.join(link))) {
        return true;
    }
    let descriptors = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    if descriptors.map(|entry| entry.path()).any(|link| below(&link)) {
        return true;
    }
    let maps = read_lossy(proc.join("maps")).unwrap_or_default();
    let mapped = |line: &str| {
        line.split_once('/').is_some_and(|(_, path)| Path::new(&format!("/{path}")).starts_with(root))
    };
    maps.lines().any(mapped)
}
