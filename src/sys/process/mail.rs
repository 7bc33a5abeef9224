//! The messages of a mailbox, the same on every platform.

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// SIGTERM or SIGINT: end.
    Terminate,
    /// SIGUSR1: leave the mount alone.
    Quiet,
    /// SIGCHLD: a process that was started here has ended.
    Ended,
}

/// What arrived.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The signals.
    pub letters: Vec<Letter>,
    /// There is something to receive, or the other end is closed.
    pub readable: bool,
}
