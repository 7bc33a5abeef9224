//! Completions for shells and man pages, both made from the command line's own definition, so that they cannot disagree with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory, ValueEnum as _};
use clap_complete::Shell;

use super::Cli;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// An existing directory; one page per command is written to it
    pub directory: PathBuf,
    /// Also write completions, as holofs.bash, _holofs and so on
    #[arg(long)]
    pub completions: bool,
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holofs", &mut text);
    std::io::stdout().lock().write_all(&text).context("Cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages, for whoever packages the program.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    write_page(&args.directory, command.clone(), "holofs")?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("holofs-{}", sub.get_name());
        write_page(&args.directory, sub.clone().display_name(name.clone()), &name)?;
    }
    if args.completions {
        for shell in Shell::value_variants() {
            clap_complete::generate_to(*shell, &mut Cli::command(), "holofs", &args.directory)
                .with_context(|| format!("Cannot write completions to {}", args.directory.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_page(directory: &Path, command: clap::Command, name: &str) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("Cannot render a man page")?;
    std::fs::write(&path, page).with_context(|| format!("Cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn man_writes_a_page_per_visible_command_and_completions() {
        let directory = tempfile::tempdir().unwrap();
        let args = ManArgs { directory: directory.path().to_owned(), completions: true };
        assert!(man(&args).is_ok());
        let page = std::fs::read_to_string(directory.path().join("holofs-run.1")).unwrap();
        assert!(page.contains(".TH holofs-run 1"), "{page}");
        assert!(directory.path().join("holofs.1").exists());
        assert!(!directory.path().join("holofs-prime.1").exists(), "an internal command has no page");
        let bash = std::fs::read_to_string(directory.path().join("holofs.bash")).unwrap();
        assert!(bash.contains("materialize"));
    }
}
