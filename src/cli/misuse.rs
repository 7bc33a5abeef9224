//! An invalid command line or environment: reported in the way the intended command reports failures.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::{Cli, activate, exit_code, terminal, topics};

/// Reports an error in the command line, or prints what was requested instead of a command: help, the version.
#[allow(clippy::print_stderr)]
pub fn usage(error: &clap::Error) -> ExitCode {
    if let Err(error) = terminal::explain(error) {
        log::debug!("Cannot print: {error}");
    }
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if error.kind() == ErrorKind::InvalidSubcommand && meant(&words).as_deref() == Some("help") {
        eprintln!("\n{}", topics::NAMED);
    }
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit_code::FAILED));
    if error.use_stderr() { not_begun(code) } else { code }
}

/// The exit code that callers of `run` and `variables` expect if these do not start; for other commands `code`.
#[allow(clippy::print_stdout)]
pub fn not_begun(code: ExitCode) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match meant(&words).as_deref() {
        Some("run") => ExitCode::from(exit_code::OUR_OWN),
        Some("variables") => {
            let json = words.iter().any(|word| word == "--json" || word == "-j");
            if let Some(failure) = activate::failure(json) {
                println!("{failure}");
            }
            code
        }
        _ => code,
    }
}

/// The command named in a command line.
fn meant(words: &[OsString]) -> Option<String> {
    let mut cli = Cli::command();
    cli.build(); // `help` is a command, too
    let mut words = words.iter().take_while(|word| *word != "--");
    words.find_map(|word| Some(cli.find_subcommand(word)?.get_name().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_is_meant_is_found_among_options() {
        let meant = |words: &[&str]| meant(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(meant(&["--wait", "5", "run"]).as_deref(), Some("run"));
        assert_eq!(meant(&["vars", "-x"]).as_deref(), Some("variables"));
        assert_eq!(meant(&["help", "run"]).as_deref(), Some("help"));
        assert_eq!(meant(&["delete", "run"]).as_deref(), Some("delete"));
        assert_eq!(meant(&["--", "run"]), None);
        assert_eq!(meant(&[]), None);
    }
}
