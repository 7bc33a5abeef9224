//! The definition of the command line: as a whole, and the part that one command line needs.
//!
//! To build the whole takes most of the start of a command: fifty commands, and a copy of every global option in each. So a command
//! line is parsed with the definition of the command that it names. That part accepts only what the whole accepts, and with the same
//! result; the whole is used for everything else: help, errors, suggestions.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args as _, CommandFactory as _, FromArgMatches as _, Subcommand as _};

use super::terminal::Color;
use super::{Cli, Command, Global, config, examples, run};

/// The commands in the order of the help: work in a space, get an environment, look, give it to others, clean up, everything else.
const ORDER: [&str; 40] = [
    "run",
    "shell",
    "mount",
    "unmount",
    "materialize",
    "variables",
    "hook",
    "allow",
    "deny",
    "kernel",
    "build",
    "import",
    "pull",
    "record",
    "commit",
    "warm",
    "catalogs",
    "list",
    "info",
    "doctor",
    "diff",
    "du",
    "df",
    "explain",
    "logs",
    "trace",
    "stats",
    "top",
    "report",
    "metrics",
    "export",
    "push",
    "remote",
    "serve",
    "verify",
    "check",
    "reset",
    "delete",
    "remove",
    "gc",
];

/// The parsed command line, or what clap has to print. The configuration file is loaded, if it can be.
pub fn parsed(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let separated = run::with_separator(words.clone());
    match parsed_by(part_for(&words), &separated) {
        Err(error) if error.kind() != ErrorKind::DisplayVersion => {
            let usual =
                std::env::var("HOLOFS_COLOR").ok().or_else(|| config::current().variable("HOLOFS_COLOR"));
            let color = Color::of_words(&words, usual.as_deref()).of_help();
            parsed_by(whole(|command| command.color(color)), &separated)
        }
        parsed => parsed,
    }
}

fn parsed_by(definition: clap::Command, words: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&definition.try_get_matches_from(words)?)
}

/// The global options, and the first command that is a word of the command line.
fn part_for(words: &[OsString]) -> clap::Command {
    let program = clap::Command::new("holofs").version(env!("CARGO_PKG_VERSION")).subcommand_required(true);
    let commands = Command::augment_subcommands(clap::Command::new("holofs"));
    let mut words = words.iter().skip(1).take_while(|word| *word != "--");
    let named = words.find_map(|word| commands.find_subcommand(word)).cloned();
    Global::augment_args(program).subcommands(named)
}

/// The whole definition, with examples for each command; `change` is made before it is built.
pub fn whole(change: impl FnOnce(clap::Command) -> clap::Command) -> clap::Command {
    let mut command = change(Cli::command());
    // The description of a command is with the command; that of the type of its arguments, which comes later, is for readers of the code.
    let described: Vec<_> =
        command.get_subcommands().map(|sub| sub.get_about().cloned().unwrap_or_default()).collect();
    command.build();
    let mut described = described.into_iter();
    examples::added(command.mut_subcommands(|sub| {
        let place = ORDER.iter().position(|name| *name == sub.get_name()).unwrap_or(ORDER.len());
        let sub = sub.display_order(place);
        match described.next() {
            Some(about) => sub.about(about).long_about(None),
            None => sub, // `help`, which was added last
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_both(line: &str) -> [Result<String, String>; 2] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let separated = run::with_separator(words.clone());
        [part_for(&words), whole(|command| command)].map(|definition| {
            let parsed = parsed_by(definition, &separated);
            parsed.map(|cli| format!("{cli:?}")).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn parsed_by_the_part_is_the_same_as_by_the_whole() {
        whole(|command| command).debug_assert();
        for line in [
            "holofs run conda.yaml -s work --mode mount python -V",
            "holofs --json --wait 3 run --isolate 14023a1f332a0231 -- ls -l",
            "holofs -vv mount 14023a1f work --io passthrough --read-only --offline",
            "holofs umount work --lazy",
            "holofs ls --json",
            "holofs catalogs diff 14023a1f 8e87b3cb --files",
            "holofs variables conda.yaml --quiet --fetch-timeout 5",
            "holofs remote gc s3://bucket/envs --dry-run",
            "holofs --version",
        ] {
            let [part, whole] = by_both(line);
            assert_eq!(part, whole, "{line}");
        }
    }

    #[test]
    fn help_lists_what_a_newcomer_needs_first() {
        let help = whole(|command| command).render_help().to_string();
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names: Vec<&str> = listed
            .take_while(|line| !line.is_empty())
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let (ordered, rest) = names.split_at(ORDER.len());
        assert_eq!(ordered, ORDER);
        assert_eq!(rest, ["completions", "config", "hash", "help", "holotree", "restart"]);
    }

    #[test]
    fn not_accepted_by_the_part_is_left_to_the_whole() {
        for line in ["holofs", "holofs lst", "holofs help run", "holofs --wait run list", "holofs run --help"]
        {
            let [part, _] = by_both(line);
            assert!(part.is_err(), "{line}: {part:?}");
            let shown = parsed(line.split(' ').map(OsString::from).collect()).map(drop);
            let [_, whole] = by_both(line);
            assert_eq!(shown.map_err(|error| error.to_string()), whole.map(drop), "{line}");
        }
    }

    #[test]
    fn every_command_shows_its_arguments_and_examples_in_its_help() {
        let mut definition = whole(|command| command);
        let help = definition.find_subcommand_mut("run").map(|run| run.render_long_help().to_string());
        let help = help.unwrap_or_default();
        assert!(help.contains("--isolate") && help.contains("Examples:\n"), "{help}");
    }
}
