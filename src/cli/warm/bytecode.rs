//! `holofs warm --bytecode`: a run that compiles every source, in a mount that goes with it.

use std::ffi::OsString;

use crate::cli::context::Context;
use crate::session::method::Mode;
use crate::session::request::{MountRequest, ProfileAt, SpaceName};
use crate::session::run::{self, RunRequest};

/// The space in which bytecode is compiled; nothing of it stays but the bytecode.
const SPACE: &str = "holofs warm";

/// Compiles the sources of `catalog` into the shared bytecode, and says how that went.
pub fn compile(context: &Context, catalog: &str) -> anyhow::Result<&'static str> {
    let status = run::run(context, &compile_all(catalog))?;
    Ok(if status.success() { "compiled" } else { "compiled, with errors" })
}

/// The run that compiles every source of the catalog into the shared bytecode.
fn compile_all(catalog: &str) -> RunRequest {
    let script =
        "import compileall, sys; sys.exit(not compileall.compile_dir(sys.prefix, quiet=2, workers=0))";
    let space = SpaceName { space: SPACE.to_owned(), controller: "holofs".to_owned() };
    RunRequest {
        mount: MountRequest {
            read_only: true,
            // What compiling reads is not what a run reads.
            profile: ProfileAt::Off,
            // Files that were laid out for this alone would stay.
            ..MountRequest::new(catalog, &space, Mode::Mount)
        },
        isolate: false,
        bytecode: true,
        command: ["python3", "-c", script].map(OsString::from).to_vec(),
    }
}
