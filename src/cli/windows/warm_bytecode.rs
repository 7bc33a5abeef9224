//! `holofs warm --bytecode` needs a mount: files that were laid out for it alone would stay.

use crate::cli::context::Context;
use crate::cli::exit_code::CannotMount;
use crate::cli::mount::NO_FUSE;
use crate::cli::rung::{Refusal, Rung};

/// Says that it cannot.
pub fn compile(_context: &Context, _catalog: &str) -> anyhow::Result<&'static str> {
    let refused = vec![Refusal::new(Rung::Direct, NO_FUSE)];
    Err(CannotMount { what: "a space to compile in".to_owned(), refused }.into())
}
