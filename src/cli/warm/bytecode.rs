//! `holofs warm --bytecode`: a run that compiles every source, in a mount that goes with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::SpaceArgs;
use crate::cli::context::Context;
use crate::cli::run::{self, RunArgs};
use crate::cli::rung::Mode;
use crate::fs::fuse::Io;
use crate::fs::fuse::awake::KeepAwake;

/// The space in which bytecode is compiled; nothing of it stays but the bytecode.
const SPACE: &str = "holofs warm";

/// Compiles the sources of `catalog` into the shared bytecode, and says how that went.
pub fn compile(context: &Context, catalog: &str) -> anyhow::Result<&'static str> {
    let code = run::main(context, &compile_all(catalog))?;
    Ok(if code == ExitCode::SUCCESS { "compiled" } else { "compiled, with errors" })
}

/// The run that compiles every source of the catalog into the shared bytecode.
fn compile_all(catalog: &str) -> RunArgs {
    let script =
        "import compileall, sys; sys.exit(not compileall.compile_dir(sys.prefix, quiet=2, workers=0))";
    RunArgs {
        catalog: catalog.to_owned(),
        space: SpaceArgs { space: SPACE.to_owned(), controller: "holofs".to_owned() },
        // Files that were laid out for this alone would stay.
        mode: Mode::Mount,
        io: Io::NoOpen,
        keep_awake: KeepAwake::Auto,
        read_only: true,
        fresh: false,
        isolate: false,
        // What compiling reads is not what a run reads.
        profile: PathBuf::from("off"),
        no_bytecode: false,
        command: ["python3", "-c", script].map(OsString::from).to_vec(),
    }
}
