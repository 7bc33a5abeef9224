//! The `holofs` program: everything is in the library's `cli`.

use std::process::ExitCode;

/// musl's own allocator has one lock for all threads; glibc's performs as well as mimalloc here.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holofs::cli::main()
}
