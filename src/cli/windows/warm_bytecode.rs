//! `holofs warm --bytecode` needs a mount: files laid out for it would remain.

use crate::session::appear::NO_FUSE;
use crate::session::compile::{Compiled, Compiler};
use crate::session::error::CannotMount;
use crate::session::method::{Method, Mounter, Refusal};

/// Fails: it needs a mount.
pub fn everything(_compiler: &Compiler<'_>) -> anyhow::Result<Compiled> {
    let refused = vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)];
    Err(CannotMount { what: "a space to compile in".to_owned(), refused }.into())
}

/// Fails: it needs a mount.
pub fn imported(compiler: &Compiler<'_>) -> anyhow::Result<()> {
    everything(compiler).map(drop)
}

/// Does nothing: no process is started for it.
pub fn go_to_background() -> anyhow::Result<()> {
    Ok(())
}
