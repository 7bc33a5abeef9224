//! `holofs warm --bytecode` needs a mount: files that were laid out for it alone would stay.

use crate::cli::context::Context;
use crate::session::appear::NO_FUSE;
use crate::session::error::CannotMount;
use crate::session::method::{Method, Mounter, Refusal};

/// Says that it cannot.
pub fn compile(_context: &Context, _catalog: &str) -> anyhow::Result<&'static str> {
    let refused = vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)];
    Err(CannotMount { what: "a space to compile in".to_owned(), refused }.into())
}
