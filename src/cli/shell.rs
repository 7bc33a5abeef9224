//! `holofs shell`: runs the user's own shell in a space, as `run` runs any command.
//!
//! The shell reads the user's own start-up files first. Directories that they put before the space's in PATH are moved behind them,
//! and the prompt gets the space's name. This is done by files in a temporary directory for the shell, which is deleted when the
//! shell ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;

use crate::session::variables::Variable;
use crate::space::temp::RunTemp;
use crate::sys::fs::place::Place;

use super::context::Context;
use super::run::{self, RunArgs, RunTargetArgs};
use super::terminal;

/// The space of the shell; the hook does nothing in such a shell.
pub const SHELL_OF: &str = "HOLOFS_SHELL";
/// The space's PATH.
const SPACE_PATH: &str = "_HOLOFS_PATH";
/// The user's own value of a variable that locates a shell's start-up files; empty if it was not set.
const OWN_START: &str = "_HOLOFS_START";

/// Arguments of `shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    #[command(flatten)]
    pub target: RunTargetArgs,
    /// Shell: bash, zsh, fish, pwsh, sh, or the path of one (default: $SHELL)
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<PathBuf>,
}

/// A shell to start.
struct Start {
    command: Vec<OsString>,
    variables: Vec<Variable>,
}

/// Starts the shell, and returns its status.
pub fn main(context: &Context, args: &ShellArgs) -> anyhow::Result<ExitCode> {
    let run = RunArgs {
        target: args.target.clone(),
        #[cfg(unix)]
        watch: super::recorded::WatchedRunArgs::default(),
        no_bytecode: false,
        task: None,
        command: Vec::new(),
    };
    Ok(run::report(context, end(context, &run, args.shell.as_deref())))
}

/// Runs a shell as the command of `run`. Without a terminal, it reads commands from stdin.
pub fn end(context: &Context, run: &RunArgs, shell: Option<&Path>) -> anyhow::Result<ExitStatus> {
    let given = shell.map(Path::to_owned).or_else(|| std::env::var_os("SHELL").map(PathBuf::from));
    let usual = if cfg!(windows) { "pwsh" } else { "/bin/sh" };
    let shell = given.filter(|shell| !shell.as_os_str().is_empty()).unwrap_or_else(|| usual.into());
    let parents = [context.home.temp_dir(), context.process.temp_dir.clone()];
    let temp = RunTemp::create(&parents)
        .with_context(|| format!("Cannot create a temporary directory in {}", parents[0].display()))?;
    let space = run.target.space.name().space;
    let mut start = start(&shell, &space, temp.path())?;
    start.variables.push((SHELL_OF.to_owned(), space.into()));
    let mut context = context.clone();
    context.add(|extra| extra.injected.extend(start.variables));
    // The directory is removed on return: later, this process may end by the same signal as the shell.
    run::end(&context, &RunArgs { command: start.command, ..run.clone() })
}

/// How to start `shell`, with its start-up files in `dir`.
fn start(shell: &Path, space: &str, dir: &Path) -> anyhow::Result<Start> {
    let name = shell.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let mark = mark(space);
    let write = |name: &str, text: &str| -> anyhow::Result<OsString> {
        let place = Place::top(dir).below(name);
        place.publish(text.as_bytes()).with_context(|| format!("Cannot write {}", place.path().display()))?;
        Ok(place.path().into())
    };
    let mut words: Vec<OsString> = vec![shell.into()];
    let mut variables = Vec::new();
    let mut lead = |variable: &str, to: OsString| {
        variables.push((OWN_START.to_owned(), std::env::var_os(variable).unwrap_or_default()));
        variables.push((variable.to_owned(), to));
    };
    match name.as_str() {
        "bash" => words.extend([
            "--rcfile".into(),
            write("bashrc", &posix("[ ! -r ~/.bashrc ] || . ~/.bashrc", "PS1", &mark))?,
        ]),
        "zsh" => {
            write(".zshenv", ZSHENV)?;
            write(".zshrc", &posix(ZSHRC, "PROMPT", &mark))?;
            lead("ZDOTDIR", dir.into());
        }
        "fish" => words.extend(["--init-command".into(), fish(&mark).into()]),
        "pwsh" | "powershell" => {
            let file = write("profile.ps1", &powershell(&mark))?;
            words.extend(["-NoLogo", "-NoExit", "-File"].map(OsString::from));
            words.push(file);
        }
        "sh" | "dash" | "ash" | "ksh" | "mksh" => {
            lead("ENV", write("shrc", &posix(SHRC, "PS1", &mark))?);
        }
        _ => terminal::warn(&format!(
            "{} is not a known shell: it is started without our prompt",
            shell.display()
        )),
    }
    if !cfg!(windows) {
        // The space's PATH is known only there.
        let keep = format!("export {SPACE_PATH}=\"$PATH\"; exec \"$@\"");
        words.splice(0..0, ["/bin/sh".into(), "-c".into(), keep.into(), "holofs".into()]);
    }
    Ok(Start { command: words, variables })
}

/// The space's name for a prompt, without characters that are special in a shell.
fn mark(space: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.:@/+= ".contains(c) { c } else { '?' };
    format!("({}) ", space.chars().map(plain).collect::<String>())
}

const ZSHENV: &str = r#"_holofs_own=$ZDOTDIR
ZDOTDIR=${_HOLOFS_START:-$HOME}
[[ ! -r $ZDOTDIR/.zshenv ]] || . "$ZDOTDIR/.zshenv"
[[ $ZDOTDIR == $HOME ]] || _HOLOFS_START=$ZDOTDIR
ZDOTDIR=$_holofs_own
unset _holofs_own
"#;

const ZSHRC: &str = r#"if [[ -n $_HOLOFS_START ]]; then ZDOTDIR=$_HOLOFS_START; else unset ZDOTDIR; fi
[[ ! -r ${ZDOTDIR:-$HOME}/.zshrc ]] || . "${ZDOTDIR:-$HOME}/.zshrc""#;

const SHRC: &str = r#"ENV=$_HOLOFS_START
[ ! -r "$ENV" ] || . "$ENV""#;

/// Reads the user's files, then sets PATH and the prompt; for sh-like shells.
fn posix(own: &str, prompt: &str, mark: &str) -> String {
    format!(
        "{own}\ncase \"$PATH\" in \"${SPACE_PATH}\"|\"${SPACE_PATH}\":*) ;; *) PATH=\"${SPACE_PATH}:$PATH\" ;; esac\n\
         export PATH; unset {SPACE_PATH} {OWN_START}; hash -r 2>/dev/null\n{prompt}='{mark}'\"${{{prompt}-}}\"\n"
    )
}

fn fish(mark: &str) -> String {
    format!(
        "string match -q -- \"${SPACE_PATH}*\" \"$PATH\"; or set -gx PATH (string split : -- ${SPACE_PATH}) $PATH; \
         set -e {SPACE_PATH}; \
         functions -q fish_prompt; and functions -c fish_prompt _holofs_prompt; \
         function fish_prompt; echo -n '{mark}'; functions -q _holofs_prompt; and _holofs_prompt; end"
    )
}

fn powershell(mark: &str) -> String {
    format!(
        "if ($env:{SPACE_PATH}) {{ $env:PATH = $env:{SPACE_PATH} }}\nRemove-Item Env:{SPACE_PATH} -ErrorAction SilentlyContinue\n\
         $function:_holofs_prompt = $function:prompt\nfunction prompt {{ '{mark}' + (_holofs_prompt) }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_prompt_is_text_to_every_shell() {
        assert_eq!(mark("work-2 a/b"), "(work-2 a/b) ");
        assert_eq!(mark("$(id)`x`\\u%m'\"!{é}"), "(??id??x??u?m????é?) ");
    }

    #[test]
    fn shells_are_known_by_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let words = |shell: &str| start(Path::new(shell), "s", dir.path()).unwrap();
        let last = |shell: &str| words(shell).command.last().cloned().unwrap();
        assert_eq!(last("/usr/bin/bash"), dir.path().join("bashrc"));
        assert_eq!(words("/bin/zsh").variables.last().unwrap().0, "ZDOTDIR");
        assert_eq!(words("dash").variables.last().unwrap().0, "ENV");
        assert!(last("fish").to_string_lossy().contains("'(s) '"));
        assert_eq!(last("pwsh"), dir.path().join("profile.ps1"));
        assert_eq!(last("/opt/odd"), "/opt/odd");
    }
}
