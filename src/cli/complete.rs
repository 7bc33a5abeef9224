//! Completions: the scripts that clap makes, which know every command and option, and in them what only the moment knows: the
//! catalogs and spaces that are there, by a hidden command.
//!
//! The engine of clap that would ask the program for everything is not stable yet.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use crate::space::inventory::{self, Shown};
use crate::sys::text;

use super::catalogs::Gist;
use super::context::Context;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of the hidden command.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// What is completed
    pub what: What,
}

/// What only the moment knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Catalogs
    Catalogs,
    /// Spaces
    Spaces,
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(script(args.shell).as_bytes()).context("Cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one candidate per line, a tab, and what it is. Nobody sees an error.
pub fn main(context: &Context, args: &CompleteArgs) -> anyhow::Result<ExitCode> {
    let lines: Vec<String> = match args.what {
        What::Catalogs => {
            let rows = inventory::catalogs(&context.home, Shown { identity: true, top: 0 })?;
            rows.iter().map(|row| format!("{}\t{}", row.blueprint, Gist::of(row).line(60))).collect()
        }
        What::Spaces => {
            let rows = inventory::spaces(&context.home)?;
            let named = rows.iter().filter(|row| plain(&row.space));
            named.map(|row| format!("{}\t{} {}", row.space, row.holofs.state.name(), row.blueprint)).collect()
        }
    };
    let lines: Vec<String> =
        lines.iter().map(|line| line.split('\t').map(text::line).collect::<Vec<_>>().join("\t")).collect();
    if !lines.is_empty() {
        super::terminal::print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A name that is one word to every shell.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || "-_.@+".contains(c))
        && !name.starts_with('-')
}

/// The script of a shell.
pub fn script(shell: Shell) -> String {
    let mut made = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "holofs", &mut made);
    let made = String::from_utf8_lossy(&made).into_owned();
    let (catalogs, spaces) = (takers("catalog"), takers("space"));
    match shell {
        Shell::Bash => made + &bash(&catalogs, &spaces),
        Shell::Zsh => zsh(&made),
        Shell::Fish => with_spaces(&made) + &fish(&catalogs, &spaces),
        _ => made,
    }
}

/// The commands whose first word is a catalog, or a space.
fn takers(what: &str) -> Vec<String> {
    let command = super::command();
    let first = |sub: &Command| {
        let id = sub
            .get_positionals()
            .next()
            .map(|first| first.get_id().as_str().trim_end_matches('s').to_owned());
        id.is_some_and(|id| {
            id == what || (what == "catalog" && id == "what" && sub.get_name() == "variables")
        })
    };
    let found = command.get_subcommands().filter(|sub| !sub.is_hide_set() && first(sub));
    let names = |sub: &Command| -> Vec<String> {
        std::iter::once(sub.get_name()).chain(sub.get_all_aliases()).map(str::to_owned).collect()
    };
    found.flat_map(names).collect()
}

fn bash(catalogs: &[String], spaces: &[String]) -> String {
    format!(
        r#"
_holofs_and_what_is_there() {{
    _holofs "$@"
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" what=
    case "$word" in -*) return 0 ;; esac
    case "$before" in
        --space|-s) what=spaces ;;
        {catalogs}) [ "$COMP_CWORD" -ne 2 ] || what=catalogs ;;
        {spaces}) [ "$COMP_CWORD" -ne 2 ] || what=spaces ;;
    esac
    [ -n "$what" ] || return 0
    local IFS=$'\n'
    COMPREPLY+=($(compgen -W "$("$1" complete "$what" 2>/dev/null | cut -f 1)" -- "$word"))
}}
complete -F _holofs_and_what_is_there -o bashdefault -o default holofs
"#,
        catalogs = catalogs.join("|"),
        spaces = spaces.join("|")
    )
}

fn fish(catalogs: &[String], spaces: &[String]) -> String {
    let first = |names: &[String]| {
        format!("__fish_seen_subcommand_from {}; and test (count (commandline -opc)) -eq 2", names.join(" "))
    };
    format!(
        "complete -c holofs -n '{}' -a '(holofs complete catalogs 2>/dev/null)'\n\
         complete -c holofs -n '{}' -a '(holofs complete spaces 2>/dev/null)'\n\
",
        first(catalogs),
        first(spaces)
    )
}

/// The spaces that are there, for `--space`.
fn with_spaces(made: &str) -> String {
    let line = |line: &str| match line.contains(" -l space ") {
        true => format!("{line} -f -a '(holofs complete spaces 2>/dev/null)'\n"),
        false => format!("{line}\n"),
    };
    made.lines().map(line).collect()
}

/// The actions of clap's script are names of functions: those of catalogs and spaces become ours.
fn zsh(made: &str) -> String {
    let ours = r#"
_holofs_there() {
    local -a found
    found=(${(f)"$(holofs complete $1 2>/dev/null)"})
    found=(${found//:/\\:})
    found=(${found//$'\t'/:})
    (( $#found )) && _describe -t $1 $1 found
}
_holofs_catalogs() { _holofs_there catalogs; _files }
_holofs_spaces() { _holofs_there spaces }
"#;
    let lines = made.lines().map(|line| {
        let text = line.trim_start().trim_start_matches(['\'', ':', '*']);
        let is = |prefix: &str| text.starts_with(prefix) && line.contains(":_default'");
        if is("catalog -- ") || is("catalogs -- ") || (is("what -- ") && text.contains("conda.yaml")) {
            line.replacen(":_default'", ":_holofs_catalogs'", 1)
        } else if is("space -- ") || text.contains("--space=[") || text.contains("-s+[") {
            line.replacen(":_default'", ":_holofs_spaces'", 1)
        } else {
            line.to_owned()
        }
    });
    let text = lines.collect::<Vec<String>>().join("\n");
    // Before the script completes for the first time, which it does at its end.
    match text.split_once("\n_holofs() {") {
        Some((head, rest)) => format!("{head}\n{ours}\n_holofs() {{{rest}\n"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_take_a_catalog_or_a_space_are_found() {
        let (catalogs, spaces) = (takers("catalog"), takers("space"));
        for name in ["run", "mount", "shell", "variables", "vars", "export", "remove", "rm", "report"] {
            assert!(catalogs.iter().any(|found| found == name), "{name}: {catalogs:?}");
        }
        for name in ["unmount", "umount", "delete", "logs", "diff"] {
            assert!(spaces.iter().any(|found| found == name), "{name}: {spaces:?}");
        }
    }

    #[test]
    fn scripts_ask_for_what_is_there() {
        assert!(script(Shell::Bash).contains("complete -F _holofs_and_what_is_there"));
        assert!(script(Shell::Zsh).matches(":_holofs_catalogs'").count() > 5);
        assert!(script(Shell::Zsh).contains("_holofs_there() {"));
        assert!(script(Shell::Fish).contains("holofs complete spaces"));
        assert!(plain("a-b.c") && !plain("a b") && !plain("$(id)") && !plain("-x") && !plain(""));
    }
}
