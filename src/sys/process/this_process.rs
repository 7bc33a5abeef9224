//! Facts about this process from the operating system.

use std::io;
use std::num::NonZeroUsize;

use rustix::process::Resource;

/// The limit of open descriptors of this process; `None` is unlimited.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// A share of 1/`part` of the descriptors that this process may have, at most `most`.
pub fn descriptor_share(part: u64, most: u64) -> NonZeroUsize {
    let share = descriptor_limit().map_or(most, |limit| (limit / part).min(most));
    usize::try_from(share).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// Gives this thread the lowest priority; elsewhere, only a whole process can have another one.
#[cfg(target_os = "linux")]
pub fn lower_thread_priority() {
    super::daemon::lower_priority();
}

/// Only a whole process can have another priority.
#[cfg(not(target_os = "linux"))]
pub fn lower_thread_priority() {}

/// From now on this process is shown, by `ps` for example, as its program with the only argument `word`. It must have one thread.
#[cfg(target_os = "linux")]
pub fn show_as(word: &str) -> io::Result<()> {
    let fields = super::stat_fields(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
    // Fields 48 and 49: where the kernel has put the arguments; 0 if this is hidden.
    let at = |field: usize| {
        fields.get(field - 3).and_then(|field| field.parse::<usize>().ok()).filter(|at| *at > 0)
    };
    let (start, end) =
        at(48).zip(at(49)).filter(|(start, end)| start < end).ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: the arguments are writable memory of this process for as long as it lives. Everyone else reads them through the
    // addresses that the program was started with, and only up to the next NUL: there is one after each of them still.
    #[allow(unsafe_code)]
    let arguments = unsafe {
        std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(start), end - start)
    };
    let program = arguments.iter().position(|byte| *byte == 0).map_or(arguments.len(), |nul| nul + 1);
    let rest = arguments.get_mut(program..).filter(|rest| rest.len() > word.len());
    let rest = rest.ok_or(io::ErrorKind::StorageFull)?;
    rest.fill(0);
    rest.iter_mut().zip(word.bytes()).for_each(|(byte, of_word)| *byte = of_word);
    Ok(())
}

/// Not possible here.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn show_as(_word: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The effective user id of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;
    use crate::sys::process::fork;

    #[test]
    fn show_as_keeps_the_program_and_replaces_its_arguments() {
        let shown = || std::fs::read("/proc/self/cmdline").unwrap();
        let before = shown();
        let program = before.split(|byte| *byte == 0).next().unwrap().to_owned();
        let copy = fork::spawn(|| {
            // A test program may have no arguments: there is no place for a word then.
            let expected = match show_as("w") {
                Ok(()) => [&program[..], b"\0w"].concat(),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return 0,
                Err(_) => return 1,
            };
            let now = shown();
            let trimmed = now.len() - now.iter().rev().take_while(|byte| **byte == 0).count();
            i32::from(now[..trimmed] != expected[..] || now.len() != before.len())
        });
        assert!(copy.unwrap().wait().unwrap().success());
        assert_eq!(shown(), before);
    }
}
