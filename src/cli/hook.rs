//! `holofs hook`: lets a shell enter the environment of a directory, and leave it with the directory.
//!
//! At each prompt the shell runs `holofs hook SHELL --step`, which prints what to change. A directory's files are not even read
//! before the user has allowed them, and each change of the specification must be allowed again: so users who can write to a
//! directory cannot choose what its visitors run. A step never fails: an error is reported once per directory.

mod allowed;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::rcc::home::Settings;
use crate::session::appear::appear;
use crate::session::method::Mode;
use crate::session::request::{MountRequest, SpaceName};
use crate::session::variables::{self, Extra, Sources, Unmanaged, Variable};

use super::context::{Context, say_method};
use super::shell::SHELL_OF;
use super::target::{self, Target};
use super::terminal;

use allowed::{Asks, Verdict};
use state::Entered;

/// The last message, so that it is printed only once.
const SAID: &str = "HOLOFS_HOOK_SAID";
/// The entered space, for prompts.
const SPACE: &str = "HOLOFS_SPACE";

/// Arguments of `hook`.
#[derive(Debug, Args)]
pub struct HookArgs {
    /// Shell; direnv: a function `use holofs` for .envrc files
    pub shell: Shell,
    /// Print what to change now
    #[arg(long, hide = true)]
    pub step: bool,
}

/// The syntax to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
    /// PowerShell (untested)
    Pwsh,
    /// direnv, for any shell
    Direnv,
}

/// Arguments of `allow`.
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// Directory with a robot.yaml, package.yaml or conda.yaml, or that file
    #[arg(default_value = ".", value_name = "DIR")]
    pub what: PathBuf,
}

/// Arguments of `deny`.
#[derive(Debug, Args)]
pub struct DenyArgs {
    /// Same as for `allow`
    #[arg(default_value = ".", value_name = "DIR")]
    pub what: PathBuf,
}

#[derive(Serialize)]
struct Decided {
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    allowed: bool,
}

/// Prints the hook, or the changes for this step.
pub fn main(context: &Context, args: &HookArgs) -> anyhow::Result<ExitCode> {
    let shell = args.shell;
    if !args.step {
        let program = std::env::current_exe().context("Cannot find the holofs executable")?;
        let program = program.to_str().context("The program's own path is not UTF-8")?;
        terminal::print(&script(shell, program))?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::var_os(SHELL_OF).is_none() {
        let changes = step(context);
        if !changes.is_empty() {
            terminal::print(&spelled(shell, &changes))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Allows the current request, even if its catalog does not exist.
pub fn allow(context: &Context, args: &AllowArgs) -> anyhow::Result<ExitCode> {
    let file = allowed::absolute(&target::file_in(&args.what)?)?;
    let asks = Asks::of(&context.home, &file)?;
    allowed::allow(&asks)?;
    tell(context, file, true)
}

/// Withdraws the permission.
pub fn deny(context: &Context, args: &DenyArgs) -> anyhow::Result<ExitCode> {
    let file = allowed::absolute(&target::file_in(&args.what)?)?;
    allowed::deny(&file)?;
    tell(context, file, false)
}

fn tell(context: &Context, path: PathBuf, allowed: bool) -> anyhow::Result<ExitCode> {
    let decision = Decided { path, allowed };
    context.report(&decision, |decision| {
        let word = if decision.allowed { "is allowed" } else { "is not allowed" };
        format!("{} {word}", decision.path.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A change of one variable; `None` unsets it.
type Change = (String, Option<std::ffi::OsString>);

/// The changes for the shell. An error is printed once.
fn step(context: &Context) -> Vec<Change> {
    let entered = Entered::from_env();
    let said = std::env::var(SAID).ok();
    let (wanted, says) = match wanted(context) {
        Ok(wanted) => (wanted, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    if let (Some(entered), Some(asks)) = (&entered, &wanted)
        && entered.is(asks)
    {
        return Vec::new();
    }
    let mut changes = entered.map(|entered| entered.left(&|name| std::env::var_os(name))).unwrap_or_default();
    let mut says = says;
    if let Some(asks) = &wanted {
        let now = |name: &str| match changes.iter().rev().find(|(changed, _)| changed == name) {
            Some((_, value)) => value.clone(),
            None => std::env::var_os(name),
        };
        match enter(context, asks, now("PATH")) {
            Ok(variables) => {
                let entry = state::enter(asks, variables, &now);
                changes.extend(entry);
            }
            Err(error) => says = Some(format!("{error:#}")),
        }
    }
    if says != said {
        says.iter().for_each(|text| terminal::tell("holofs", text));
        changes.push((SAID.to_owned(), says.map(Into::into)));
    }
    changes
}

/// The request of the current directory, if it is allowed; an error if it is not.
fn wanted(context: &Context) -> anyhow::Result<Option<Box<Asks>>> {
    let here = std::env::current_dir().context("Cannot get the current directory")?;
    let Some(file) = here.ancestors().find_map(target::file_here) else { return Ok(None) };
    let file = allowed::absolute(&file)?;
    let dir = file.parent().unwrap_or(Path::new("/")).display().to_string();
    match allowed::verdict(&context.home, &file)? {
        Verdict::Allowed(asks) => Ok(Some(asks)),
        Verdict::Unknown => anyhow::bail!(
            "{} is not allowed here: `holofs allow {dir}` lets the hook enter it",
            file.display()
        ),
        Verdict::Changed => anyhow::bail!(
            "The environment of {} has changed: `holofs allow {dir}` lets the hook enter it again",
            file.display()
        ),
        Verdict::Denied => Ok(None),
    }
}

/// Makes the space appear, and returns its variables, without those for temporary files and bytecode.
fn enter(context: &Context, asks: &Asks, path: Option<std::ffi::OsString>) -> anyhow::Result<Vec<Variable>> {
    let target = target::of_composed(context, &asks.file, asks.composed.clone())?;
    let Target { catalog, composed } = target;
    let named = SpaceName { space: asks.space(), controller: "user".to_owned() };
    let (head, ..) = context.head(&catalog)?;
    let space = context.space(head.base(), &named);
    let report = appear(context, &MountRequest::new(&catalog, &named, Mode::Auto))?;
    say_method(report.method, &report.reasons);
    let mut list = variables::of(&Sources {
        home: &context.home,
        settings: &Settings::read(&context.home)?,
        root: &space.root,
        blueprint: head.blueprint(),
        temp: &context.process.temp_dir,
        path,
        unmanaged: Unmanaged { bytecode: true, temp: true },
        extra: &Extra { injected: Vec::new(), robot: composed.and_then(|composed| composed.robot) },
    })?;
    list.push((SPACE.to_owned(), named.space.into()));
    Ok(list)
}

/// The changes in the shell's syntax.
fn spelled(shell: Shell, changes: &[Change]) -> String {
    let lines = changes.iter().map(|(name, value)| match (shell, value) {
        (Shell::Fish, None) => format!("set -e {name}"),
        (Shell::Fish, Some(value)) => format!("set -gx {name} '{}'", fish_quoted(&value.to_string_lossy())),
        (Shell::Pwsh, None) => format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue"),
        (Shell::Pwsh, Some(value)) => {
            format!("$env:{name} = '{}'", powershell_quoted(&value.to_string_lossy()))
        }
        (_, None) => format!("unset {name}"),
        (_, Some(value)) => variables::as_shell(&[(name.clone(), value.clone())]),
    });
    lines.collect::<Vec<String>>().join("\n")
}

fn fish_quoted(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', r"\'")
}

/// PowerShell treats four typographic quotes as the plain one; doubled, each of them is text.
fn powershell_quoted(text: &str) -> String {
    let twice = |c: char| if matches!(c, '\'' | '\u{2018}'..='\u{201b}') { 2 } else { 1 };
    text.chars().flat_map(|c| std::iter::repeat_n(c, twice(c))).collect()
}

/// The hook's script.
fn script(shell: Shell, program: &str) -> String {
    let quoted = program.replace('\'', r"'\''");
    match shell {
        Shell::Bash => format!(
            "_holofs_hook() {{\n  local status=$?\n  eval \"$('{quoted}' hook bash --step)\"\n  return $status\n}}\n\
             if [[ \";${{PROMPT_COMMAND[*]:-}};\" != *\";_holofs_hook;\"* ]]; then\n  PROMPT_COMMAND=\"_holofs_hook${{PROMPT_COMMAND:+;$PROMPT_COMMAND}}\"\nfi"
        ),
        Shell::Zsh => format!(
            "_holofs_hook() {{ eval \"$('{quoted}' hook zsh --step)\"; }}\n\
             typeset -ag precmd_functions\n\
             if (( ! ${{precmd_functions[(I)_holofs_hook]}} )); then precmd_functions=(_holofs_hook $precmd_functions); fi"
        ),
        Shell::Fish => format!(
            "function _holofs_hook --on-event fish_prompt\n  '{}' hook fish --step | source\nend",
            fish_quoted(program)
        ),
        Shell::Pwsh => format!(
            "function global:_holofs_hook {{\n  $status = $global:LASTEXITCODE\n  \
             $step = & '{}' hook pwsh --step | Out-String\n  if ($step) {{ Invoke-Expression $step }}\n  \
             $global:LASTEXITCODE = $status\n}}\n\
             if (-not (Test-Path Function:_holofs_prompt_before)) {{\n  \
             Copy-Item Function:prompt Function:global:_holofs_prompt_before\n  \
             function global:prompt {{ _holofs_hook; _holofs_prompt_before }}\n}}",
            powershell_quoted(program)
        ),
        Shell::Direnv => format!(
            "use_holofs() {{\n  watch_file robot.yaml package.yaml conda.yaml\n  \
             eval \"$('{quoted}' variables \"${{1:-.}}\" --space \"${{2:-user}}\")\"\n}}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_spelled_for_the_shell() {
        let changes = [("A".to_owned(), Some("it's \\ $x".into())), ("B".to_owned(), None)];
        assert_eq!(spelled(Shell::Bash, &changes), "export A='it'\\''s \\ $x'\nunset B");
        assert_eq!(spelled(Shell::Fish, &changes), "set -gx A 'it\\'s \\\\ $x'\nset -e B");
        let powershell = "$env:A = 'it''s \\ $x'\nRemove-Item Env:B -ErrorAction SilentlyContinue";
        assert_eq!(spelled(Shell::Pwsh, &changes), powershell);
        let quotes = [("A".to_owned(), Some("\u{2019}; Remove-Item x".into()))];
        assert_eq!(spelled(Shell::Pwsh, &quotes), "$env:A = '\u{2019}\u{2019}; Remove-Item x'");
    }

    #[test]
    fn a_program_with_a_quote_in_its_path_is_one_word() {
        assert!(script(Shell::Bash, "/it's/holofs").contains(r"'/it'\''s/holofs' hook bash --step"));
        assert!(script(Shell::Fish, "/it's/holofs").contains(r"'/it\'s/holofs' hook fish --step"));
        assert!(script(Shell::Pwsh, "/it's/holofs").contains("& '/it''s/holofs' hook pwsh --step"));
    }
}
