//! What makes a process a daemon, and who else uses a directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::Process;

/// Who owns what this process makes.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions that new files do not get.
    pub umask: u16,
}

/// The owner and umask of this process. Not for use beside threads that create files: the umask is set for a moment.
pub fn owner() -> Owner {
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        umask: u16::try_from(umask.as_raw_mode() & 0o777).unwrap_or(0o022),
    }
}

/// Closes every descriptor but stdio: locks and pipes of who started us must not live as long as we do.
#[cfg(target_os = "linux")]
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: called before anything of ours opened a descriptor, so nobody owns the ones that are closed.
    #[allow(unsafe_code)]
    // By its number: musl has no such function.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where there are no mounts no daemon stays: it is refused its mount, says so and ends.
#[cfg(not(target_os = "linux"))]
pub fn close_inherited() -> io::Result<()> {
    Ok(())
}

/// A session of our own: no terminal, no signals meant for who started us.
pub fn new_session() -> io::Result<()> {
    match rustix::process::setsid() {
        // We lead a group already, so nobody else's signals come here.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A process group of our own: no signals that a terminal sends to who started us.
pub fn new_group() -> io::Result<()> {
    Ok(rustix::process::setpgid(None, None)?)
}

/// No directory is kept busy by this process any more.
pub fn leave_dir() -> io::Result<()> {
    Ok(rustix::process::chdir("/")?)
}

/// Ends this process at once, as one that did what it was for: no destructor runs.
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

/// A copy of who started us: a group of our own, stdin is empty, and what we have to say goes into `pipe`.
pub fn speak_into(pipe: io::PipeWriter) -> io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?.as_fd())?;
    rustix::stdio::dup2_stdout(pipe.as_fd())?;
    drop(pipe);
    new_group()
}

/// Where this process says what goes wrong.
pub fn stderr() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Lets this thread run only where nobody else wants to.
pub fn lower_priority() {
    if let Err(error) = rustix::process::nice(19) {
        log::debug!("Cannot lower the priority: {error}");
    }
}

/// Gives freed memory back to the system: the allocator keeps what a large catalog took for as long as a mount lives.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may run beside allocations of other threads.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The processes that have something below `root` open, run from it, or stand in it; as far as we may see.
pub fn users_of(root: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| uses(pid, root)).map(Process::with_id).collect()
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
    let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
    let mapped = |line: &str| {
        line.split_once('/').is_some_and(|(_, path)| Path::new(&format!("/{path}")).starts_with(root))
    };
    maps.lines().any(mapped)
}
