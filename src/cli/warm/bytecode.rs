//! `holofs warm --bytecode`: every source compiled in advance, for all spaces of the catalog.

use crate::session::compile::{Compiled, Compiler};
use crate::session::daemon;

/// Compiles everything.
pub fn everything(compiler: &Compiler<'_>) -> anyhow::Result<Compiled> {
    compiler.everything()
}

/// Lets go of who started this process, and lets everybody else go first; before anything is opened.
pub fn go_to_background() -> anyhow::Result<()> {
    daemon::enter()?;
    crate::sys::process::daemon::lower_priority();
    Ok(())
}

/// Compiles what stdin says that a run imported.
pub fn imported(compiler: &Compiler<'_>) -> anyhow::Result<()> {
    compiler.imported(std::io::stdin().lock())
}
