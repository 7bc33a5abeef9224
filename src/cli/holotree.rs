//! `holofs holotree`: RCC's own commands, so that scripts continue to work after `rcc` is replaced by `holofs`.
//!
//! The whole command line is parsed here if its command is `holotree` or `ht`, because RCC's options may appear anywhere in it, even
//! before the command. RCC's messages for people are printed on stderr, results on stdout. Commands that build environments, or
//! administer RCC itself, are not offered; they report why, with a separate exit code.

mod offered;
mod spaces;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::context::Context;
use super::exit_code;
use super::terminal::Color;
use super::{Global, catalogs, list};
use crate::session::error::NotOffered;

/// RCC's command line.
#[derive(Debug, Parser)]
#[command(name = "holofs", disable_version_flag = true, max_term_width = 100)]
struct Words {
    #[command(subcommand)]
    group: Group,
    #[command(flatten)]
    global: RccGlobal,
}

#[derive(Debug, Subcommand)]
enum Group {
    /// RCC's holotree commands
    #[command(alias = "ht")]
    Holotree {
        #[command(subcommand)]
        command: Word,
    },
}

/// Shown in the list of commands; its arguments are parsed by [`Words`].
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct HolotreeArgs {
    /// Command of `rcc holotree` with its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub words: Vec<OsString>,
}

/// RCC's global options. Most of them concern only RCC itself, and have no effect here.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "RCC has these switches")]
struct RccGlobal {
    /// Controller that the spaces belong to
    #[arg(long, global = true, default_value = "user", value_parser = super::context::parse_controller)]
    controller: String,
    /// Print results as JSON
    #[arg(short, long, global = true)]
    json: bool,
    /// Print fewer messages
    #[arg(long, global = true)]
    silent: bool,
    /// Print more messages
    #[arg(long, global = true)]
    debug: bool,
    /// Print all messages
    #[arg(long, global = true)]
    trace: bool,
    /// Use the home of Sema4.ai's product
    #[arg(long, global = true)]
    sema4ai: bool,
    /// Use the home of Robocorp's product
    #[arg(long, global = true)]
    robocorp: bool,
    /// Do not control where Python writes bytecode
    #[arg(long, global = true)]
    no_pyc_management: bool,
    /// Do not set TEMP and TMP
    #[arg(long, global = true)]
    no_temp_management: bool,
    /// Maximum time to wait for a lock (0: do not wait)
    #[arg(long, global = true, value_name = "SECONDS")]
    wait: Option<u64>,
    #[command(flatten)]
    refused: Refused,
    #[command(flatten)]
    ignored: Ignored,
}

/// Options that change the meaning of a space in ways that are not offered.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "RCC has these switches")]
struct Refused {
    /// Not offered
    #[arg(long, global = true, hide = true)]
    unmanaged: bool,
    /// Not offered
    #[arg(long, global = true, hide = true)]
    warranty_voided: bool,
    /// Not offered
    #[arg(long, global = true, hide = true)]
    externally_managed: bool,
}

/// Options that have no effect here: nothing is built, nothing is sent, locks are always taken, imports are always strict.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "RCC has these switches")]
struct Ignored {
    /// No effect
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bundled: Option<bool>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    timeline: bool,
    /// No effect
    #[arg(long, global = true, hide = true)]
    colorless: bool,
    /// No effect
    #[arg(long, global = true, hide = true)]
    numbers: bool,
    /// No effect
    #[arg(long, global = true, hide = true)]
    nocache: bool,
    /// No effect: locks are always taken
    #[arg(long, global = true, hide = true)]
    lockless: bool,
    /// No effect: a catalog is always there
    #[arg(long, global = true, hide = true)]
    liveonly: bool,
    /// No effect: nothing is built
    #[arg(long, global = true, hide = true)]
    no_build: bool,
    /// No effect: nothing is built
    #[arg(long, global = true, hide = true)]
    no_retry_build: bool,
    /// No effect: imports are always checked
    #[arg(long, global = true, hide = true)]
    strict: bool,
    /// No effect
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    log_hide: Vec<String>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    workers: Option<u32>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    pprof: Option<PathBuf>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    tag: Option<String>,
    /// No effect
    #[arg(long, global = true, hide = true)]
    anything: Option<String>,
}

/// RCC's options with a value: the next word is not the command.
const WITH_VALUE: [&str; 8] =
    ["--controller", "--config", "--log-hide", "--workers", "--pprof", "--tag", "--anything", "--wait"];

#[derive(Debug, Subcommand)]
enum Word {
    /// Report whether the hololib has the catalog for some files
    #[command(alias = "bp")]
    Blueprint(offered::BlueprintArgs),
    /// List the catalogs of the hololib
    Catalogs(catalogs::CatalogsArgs),
    /// Verify the hololib; move bad blobs aside and remove unreferenced data
    #[command(alias = "chk")]
    Check(offered::CheckArgs),
    /// Delete the spaces whose labels contain a text
    #[command(alias = "del")]
    Delete(spaces::DeleteArgs),
    /// Write catalogs with their blobs into a hololib.zip
    Export(offered::ExportArgs),
    /// Print the blueprint hash of files
    Hash(super::hash::HashArgs),
    /// Import a hololib.zip into the hololib
    Import(offered::ImportArgs),
    /// List the spaces
    #[command(alias = "ls")]
    List(list::ListArgs),
    /// Print the build logs of spaces
    Plan(spaces::PlanArgs),
    /// Remove the catalogs whose names contain a text
    #[command(alias = "rm")]
    Remove(offered::RemoveArgs),
    /// Make a space appear, and print the variables that a shell needs to work in it
    #[command(alias = "vars")]
    Variables(offered::VariablesArgs),
    /// Not offered
    #[command(alias = "boot")]
    Bootstrap(Rest),
    /// Not offered
    BuildFromBundle(Rest),
    /// Not offered
    Init(Rest),
    /// Not offered
    Prebuild(Rest),
    /// Not offered
    Pull(Rest),
    /// Not offered
    Shared(Rest),
    /// Not offered
    #[command(aliases = ["stats", "stat", "st"])]
    Statistics(Rest),
    /// Not offered
    Venv(Rest),
}

/// The arguments of a command that is not offered.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

/// True if the command line is one of RCC's holotree commands.
pub fn called_so(words: &[OsString]) -> bool {
    let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match &*word {
            word if WITH_VALUE.contains(&word) => drop(words.next()),
            word if word.starts_with('-') => {}
            word => return matches!(word, "holotree" | "ht"),
        }
    }
    false
}

/// Runs an RCC command, given the words after `holotree`.
pub fn of_rest(words: &[OsString]) -> ExitCode {
    main(&[&["holofs", "holotree"].map(OsString::from), words].concat())
}

/// Runs an RCC command.
pub fn main(words: &[OsString]) -> ExitCode {
    let Words { group: Group::Holotree { command }, global } = Words::parse_from(words);
    let ours = Global {
        log_format: super::terminal::LogFormat::Text,
        json: global.json,
        paranoid: false,
        verbose: u8::from(global.debug) * 2 + u8::from(global.trace) * 3,
        wait: global.wait,
        sema4ai: global.sema4ai,
        robocorp: global.robocorp,
        offline: false,
        fetch_timeout: super::FETCH_SECONDS,
        quiet: false,
        color: Color::Auto,
        no_progress: global.silent,
        progress: true,
        raw_size: None,
    };
    let outcome = Context::new(&ours).and_then(|context| run(&context, &global, command));
    outcome.unwrap_or_else(|error| exit_code::fail(&error, global.json))
}

fn run(context: &Context, global: &RccGlobal, command: Word) -> anyhow::Result<ExitCode> {
    refuse(&global.refused)?;
    match command {
        Word::Blueprint(args) => offered::blueprint(context, &args, global.silent),
        Word::Catalogs(args) => catalogs::main(context, &args),
        Word::Check(args) => offered::check(context, &args),
        Word::Delete(args) => spaces::delete(context, &args, &global.controller),
        Word::Export(args) => offered::export(context, &args),
        Word::Hash(args) => offered::hash(context, &args, global.silent),
        Word::Import(args) => offered::import(context, &args),
        Word::List(args) => list::main(context, &args),
        Word::Plan(args) => spaces::plan(context, &args),
        Word::Remove(args) => offered::remove(context, &args),
        Word::Variables(args) => offered::variables(context, &args, global),
        Word::Bootstrap(_) => not_offered("bootstrap", "HoloFS has no robot templates"),
        Word::BuildFromBundle(_) => not_offered("build-from-bundle", BUILDS),
        Word::Init(_) => not_offered("init", "RCC decides who shares a holotree: `rcc holotree init`"),
        Word::Prebuild(_) => not_offered("prebuild", BUILDS),
        Word::Pull(_) => {
            not_offered("pull", "catalogs come from a remote by `holofs pull`, or by `rcc holotree pull`")
        }
        Word::Shared(_) => {
            not_offered("shared", "RCC decides who shares a holotree: `rcc holotree shared --enable`")
        }
        Word::Statistics(_) => not_offered("statistics", "only RCC keeps statistics of its builds"),
        Word::Venv(_) => not_offered("venv", "it creates an unmanaged space, and those belong to RCC alone"),
    }
}

/// Why RCC's build commands are not offered.
const BUILDS: &str = "RCC builds; `holofs build FILE` builds a catalog with other tools";

fn not_offered(what: &'static str, why: &'static str) -> anyhow::Result<ExitCode> {
    Err(NotOffered { what, why }.into())
}

fn refuse(options: &Refused) -> anyhow::Result<()> {
    let refused = [
        (options.unmanaged, "--unmanaged", "unmanaged spaces belong to RCC alone"),
        (options.warranty_voided, "--warranty-voided", "a space is used only after it was checked"),
        (options.externally_managed, "--externally-managed", "a space always has the content of its catalog"),
    ];
    match refused.iter().find(|(given, ..)| *given) {
        Some(&(_, what, why)) => Err(NotOffered { what, why }.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn rccs_command_line_is_consistent() {
        Words::command().debug_assert();
    }

    #[test]
    fn holotree_is_found_behind_options() {
        for line in
            ["holofs ht ls", "holofs --bundled holotree list", "holofs --controller x --no-build ht hash a"]
        {
            assert!(called_so(&words(line)), "{line}");
        }
        for line in ["holofs", "holofs list", "holofs --controller ht list", "holofs run x y -- ht"] {
            assert!(!called_so(&words(line)), "{line}");
        }
    }

    #[test]
    fn options_stand_anywhere() {
        for line in [
            "rcc --controller c --bundled=true ht variables -s x --json a.yaml -e env.json -r robot.yaml -f",
            "rcc ht vars a.yaml b.yaml --controller c --space=x -j --no-build --liveonly --config x.yaml",
            "rcc ht delete -d -s x --unused 3 part",
            "rcc ht check --retries 5 --silent",
            "rcc ht export -z a.zip -r robot.yaml part",
            "rcc ht catalogs -i -t 3 -j",
            "rcc ht import --strict a.zip",
            "rcc ht hash --stdin --devdeps --show-blueprint package.yaml",
            "rcc ht venv --devdeps -s x a.yaml",
            "rcc ht stats -w 3",
        ] {
            Words::try_parse_from(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
