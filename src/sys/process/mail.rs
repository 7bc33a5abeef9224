//! The messages of a mailbox, the same on every platform.

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// SIGTERM or SIGINT: end.
    Terminate,
    /// SIGUSR1: do not access the mount any more.
    Quiet,
    /// SIGUSR2: let the installed program serve.
    Restart,
    /// SIGCHLD: a process that was started here has ended.
    Ended,
}
