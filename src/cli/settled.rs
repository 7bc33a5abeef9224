//! Before damage is reported, it is looked for again.
//!
//! While RCC imports or builds, it writes catalogs and blobs in place: who reads meanwhile finds half of one, or one that is not there
//! yet. RCC holds its lock of the hololib as long as it writes, so what is found under that lock is the truth.

use super::context::Context;
use super::exit_code::{self, BAD_BLOB, BAD_CATALOG};

/// What `attempt` gives; if that is damage, by its error or by `is_damaged`, what it gives once nobody writes. Where the lock cannot
/// be had, what was found first.
pub fn settled<T>(
    context: &Context,
    attempt: impl Fn() -> anyhow::Result<T>,
    is_damaged: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let first = attempt();
    let damage = match &first {
        Ok(found) => is_damaged(found),
        Err(error) => matches!(exit_code::code(error), BAD_BLOB | BAD_CATALOG),
    };
    if !damage {
        return first;
    }
    match context.lock_hololib() {
        Ok(_lock) => attempt(),
        Err(error) => {
            log::warn!("It is not known whether RCC is writing, since its lock cannot be had: {error:#}");
            first
        }
    }
}
