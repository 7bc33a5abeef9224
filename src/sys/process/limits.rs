//! Inherited limits must not end a process that serves others later: processor time, file size, memory.
//!
//! Limits are raised where possible, for this process only. A limit that is too low and cannot be raised is a reason not to start.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;

/// A server of a large environment needs some hundred megabytes of address space: threads, a mapped index, SQLite.
const LEAST_MEMORY: u64 = 1 << 30;
/// The largest files of environments have some hundred megabytes, and so do their copies.
const LEAST_FILE: u64 = 1 << 30;

/// A limit that matters, and its minimum; for time there is no minimum, since a server never knows how much it will need.
const LIMITS: [(Resource, &str, Option<u64>); 3] = [
    (Resource::Cpu, "processor time (ulimit -t)", None),
    (Resource::Fsize, "the size of files (ulimit -f)", Some(LEAST_FILE)),
    (Resource::As, "address space (ulimit -v)", Some(LEAST_MEMORY)),
];

/// Raises the limits of this process as far as allowed; fails with the reason not to serve if that is not enough. From now on, a file
/// that would grow too large gives an error and does not end the process.
pub fn raise() -> Result<(), String> {
    // Beyond the limit the kernel sends a signal that ends the process unless it is handled.
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        log::debug!("SIGXFSZ ends this process: {error}");
    }
    let low = LIMITS.into_iter().find(|&(resource, _, least)| !is_enough(lifted(resource), least));
    low.map_or(Ok(()), |(resource, name, _)| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        Err(format!("the hard limit of {name} is {most}, which would end the server later"))
    })
}

/// The limit after raising it to unlimited, or else to the hard limit.
fn lifted(resource: Resource) -> Option<u64> {
    let none = Rlimit { current: None, maximum: None };
    let hard = getrlimit(resource).maximum;
    let raised =
        setrlimit(resource, none).or_else(|_| setrlimit(resource, Rlimit { current: hard, maximum: hard }));
    if let Err(error) = raised.map_err(io::Error::from) {
        log::debug!("Cannot raise {resource:?}: {error}");
    }
    getrlimit(resource).current
}

fn is_enough(limit: Option<u64>, least: Option<u64>) -> bool {
    limit.is_none_or(|limit| least.is_some_and(|least| limit >= least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_enough_and_any_of_time_is_too_low() {
        assert!(is_enough(None, None) && is_enough(None, Some(5)) && is_enough(Some(5), Some(5)));
        assert!(!is_enough(Some(4), Some(5)) && !is_enough(Some(u64::MAX), None));
    }
}
