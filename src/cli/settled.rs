//! Repeats a check before damage is reported.
//!
//! While RCC imports or builds, it writes catalogs and blobs in place: a concurrent reader may find incomplete or missing ones. RCC
//! holds its lock of the hololib while it writes, so a check under that lock is reliable.

use super::context::Context;
use super::exit_code::{self, BAD_BLOB, BAD_CATALOG};
use super::terminal;

/// The result of `attempt`. If it indicates damage, by its error or by `is_damaged`, the result of a second attempt under the lock;
/// if the lock is not available, the first result.
pub fn settled<T>(
    context: &Context,
    attempt: impl Fn() -> anyhow::Result<T>,
    is_damaged: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let first = attempt();
    let damage = match &first {
        Ok(found) => is_damaged(found),
        Err(error) => matches!(exit_code::code(error.as_ref()), BAD_BLOB | BAD_CATALOG),
    };
    if !damage {
        return first;
    }
    match context.lock_hololib() {
        Ok(_lock) => attempt(),
        Err(error) => {
            terminal::warn(&format!(
                "Cannot check whether RCC is writing, because its lock is not available: {error:#}"
            ));
            first
        }
    }
}
