//! `holofs warm --bytecode`: compiles every source in advance, for all spaces of the catalog.

use crate::session::background;
use crate::session::compile::{Compiled, Compiler};

/// Compiles everything.
pub fn everything(compiler: &Compiler<'_>) -> anyhow::Result<Compiled> {
    Ok(compiler.everything()?)
}

/// Detaches from the starter and lowers the priority, before anything is opened.
pub fn go_to_background() -> anyhow::Result<()> {
    background::enter()?;
    crate::sys::process::daemon::lower_priority();
    Ok(())
}

/// Compiles what a run imported, as listed on stdin.
pub fn imported(compiler: &Compiler<'_>) -> anyhow::Result<()> {
    Ok(compiler.imported(std::io::stdin().lock())?)
}
