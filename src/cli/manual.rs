//! Man pages and docs/commands.md, generated from the command line definition, so that they always agree with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};
use clap_complete::{Generator as _, Shell};

use super::{complete, definition};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Existing directory, into which one page per command is written
    pub directory: PathBuf,
    /// Also write completions: holofs.bash, _holofs and so on
    #[arg(long)]
    pub completions: bool,
}

/// Writes the pages, for packaging.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let command = definition::whole(|command| command);
    write_page(&args.directory, command.clone(), "holofs")?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("holofs-{}", sub.get_name());
        write_page(&args.directory, sub.clone().display_name(name.clone()), &name)?;
    }
    if args.completions {
        for shell in Shell::value_variants() {
            let path = args.directory.join(shell.file_name("holofs"));
            std::fs::write(&path, complete::script(*shell))
                .with_context(|| format!("Cannot write {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every visible command with its help, as Markdown: the content of docs/commands.md.
#[cfg(test)]
fn commands_page() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Commands\n\nGenerated from the program's help by a test (`src/cli/manual.rs`); do not edit.\n",
    );
    let command = definition::whole(|command| command.term_width(80));
    let subcommands: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    for mut sub in subcommands.into_iter().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let help = sub.render_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        // Writing to a string cannot fail.
        write!(text, "\n## holofs {}\n\n```text\n{}\n```\n", sub.get_name(), lines.join("\n").trim_end())
            .unwrap_or_default();
    }
    text
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

    /// `HOLOFS_UPDATE_DOCS=1 cargo test --lib manual` regenerates the page.
    #[test]
    fn the_page_of_commands_is_what_the_program_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
        let page = commands_page();
        if std::env::var_os("HOLOFS_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == page, "docs/commands.md is old: HOLOFS_UPDATE_DOCS=1 cargo test --lib manual");
    }

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
