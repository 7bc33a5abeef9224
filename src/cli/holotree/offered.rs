//! RCC's commands that HoloFS has under other names, with RCC's options and its messages on stderr.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::cli::activate;
use crate::cli::context::{Context, parse_space};
use crate::cli::exit_code::BAD_BLOB;
use crate::cli::hash::{self, HashArgs};
use crate::cli::target::{composed_here, find_blueprint};
use crate::cli::{export as ours_export, import as ours_import};
use crate::rcc::blueprint::Request;
use crate::rcc::catalog::Catalog;
use crate::rcc::catalog::file_name;
use crate::session::method::Mode;
use crate::space::maintain::{collect, delete, verify};
use crate::store::Library;
use crate::sys::text;

use super::RccGlobal;

/// Arguments of `blueprint`.
#[derive(Debug, Args)]
pub struct BlueprintArgs {
    /// conda.yaml or package.yaml files
    files: Vec<PathBuf>,
    /// robot.yaml whose environment comes first (default: the one in this directory)
    #[arg(short, long, value_name = "FILE")]
    robot: Option<PathBuf>,
    /// Include the dev-dependencies of package.yaml
    #[arg(long)]
    devdeps: bool,
}

#[derive(Serialize)]
struct Availability {
    exist: bool,
    hash: String,
}

/// Reports whether the catalog exists with all its blobs.
pub fn blueprint(context: &Context, args: &BlueprintArgs, silent: bool) -> anyhow::Result<ExitCode> {
    let request =
        Request { files: args.files.clone(), robot: args.robot.clone(), dev_dependencies: args.devdeps };
    let hash = composed_here(context, request)?.blueprint;
    let exist = match find_blueprint(&context.home, &hash)? {
        Some(path) => is_complete(context, &path),
        None => false,
    };
    let report = Availability { exist, hash };
    if context.is_json() {
        context.report(&report, |_| String::new())?;
    } else if !silent {
        say(&format!("Blueprint {:?} is available: {}", report.hash, report.exist));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_complete(context: &Context, catalog: &Path) -> bool {
    let (Ok((catalog, _)), Ok(library)) = (Catalog::read(catalog), Library::open(&context.home.library()))
    else {
        return false;
    };
    catalog.digests().all(|(digest, _)| library.exists(digest))
}

/// Like `holofs hash`, with RCC's message on stderr.
pub fn hash(context: &Context, args: &HashArgs, silent: bool) -> anyhow::Result<ExitCode> {
    let composed = hash::composed_of(context, args)?;
    if !silent {
        let files: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
        say(&format!("Blueprint hash for [{}] is {}.", files.join(" "), composed.blueprint));
    }
    hash::tell(context, args, composed)
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Number of rounds to repeat while damage is found
    #[arg(short, long, default_value_t = 1)]
    retries: u32,
}

/// Repairs damage and removes unreferenced blobs, until nothing is wrong or the rounds are used up.
pub fn check(context: &Context, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    check_rounds(context, args.retries)
}

fn check_rounds(context: &Context, retries: u32) -> anyhow::Result<ExitCode> {
    let lock = context.lock_hololib()?;
    for round in 0..=retries {
        let report = verify::check(&context.home, true, &crate::store::observe::Tally::logging())?;
        let unnamed = report.unreferenced > 0 && !report.is_damaged();
        if unnamed {
            let options = collect::Options { hololib: true, ..collect::Options::default() };
            let gone = collect::collect(&context.home, options)?;
            say(&format!("Removed {} blobs that no catalog refers to", gone.blobs));
        }
        if !report.is_damaged() {
            say("OK.");
            drop(lock);
            return Ok(ExitCode::SUCCESS);
        }
        say(&format!("Round {} of the check:", round + 1));
        crate::cli::check::verdict(&report).iter().for_each(|line| say(line));
    }
    drop(lock);
    Ok(ExitCode::from(BAD_BLOB))
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Parts of catalog names; without any, list all names
    parts: Vec<String>,
    /// File to write
    #[arg(short, long, default_value = "hololib.zip", value_name = "FILE")]
    zipfile: PathBuf,
    /// robot.yaml whose catalog is exported too
    #[arg(short, long, value_name = "FILE")]
    robot: Option<PathBuf>,
}

/// Exports every catalog whose name contains one of the parts.
pub fn export(context: &Context, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let mut parts = args.parts.clone();
    if let Some(robot) = &args.robot {
        let request = Request { robot: Some(robot.clone()), ..Request::default() };
        parts.push(file_name(&composed_here(context, request)?.blueprint, &crate::rcc::home::platform()));
    }
    if parts.is_empty() {
        if !context.is_json() {
            say("Selectable catalogs (you can use substrings):");
        }
        let nothing = ours_export::ExportArgs { catalogs: Vec::new(), zipfile: args.zipfile.clone() };
        return ours_export::main(context, &nothing);
    }
    let paths = matching(context, &parts)?;
    ours_export::export(context, &paths, &args.zipfile)
}

/// The catalogs whose file name contains one of the parts.
fn matching(context: &Context, parts: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = context.home.catalogs()?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        parts.iter().any(|part| name.contains(part.as_str()))
    });
    Ok(paths)
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files to import
    #[arg(required = true, value_name = "ZIP")]
    files: Vec<PathBuf>,
}

/// Like `holofs import`.
pub fn import(context: &Context, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    ours_import::main(
        context,
        &ours_import::ImportArgs { files: args.files.clone(), sha256: None, mixed: false },
    )
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Parts of catalog names
    parts: Vec<String>,
    /// Also check the hololib, with at most this many rounds
    #[arg(short, long, default_value_t = 0)]
    check: u32,
    /// All catalogs not used for more than this many days
    #[arg(long, value_name = "DAYS")]
    unused: Option<i64>,
}

/// Removes every selected catalog; an empty selection is no error.
pub fn remove(context: &Context, args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let mut paths = if args.parts.is_empty() { Vec::new() } else { matching(context, &args.parts)? };
    if let Some(days) = args.unused.filter(|days| *days > 0) {
        let rows = crate::space::inventory::catalogs(
            &context.home,
            crate::space::inventory::Shown { identity: false, top: 0 },
        )?;
        let idle = rows.into_iter().filter(|row| row.days_since_last_use > days);
        paths.extend(
            idle.map(|row| context.home.catalog_dir().join(file_name(&row.blueprint, &row.platform))),
        );
    }
    if paths.is_empty() {
        say("Warning: No catalogs given, so nothing to do. Quitting!");
    }
    let lock = context.lock_hololib()?;
    paths.iter().try_for_each(|path| delete::remove_catalog(path).map(drop))?;
    drop(lock);
    if args.check == 0 {
        say("Warning: Remember to run `holofs holotree check` after you have removed all desired catalogs!");
        say("OK.");
        return Ok(ExitCode::SUCCESS);
    }
    check_rounds(context, args.check)
}

/// Arguments of `variables`.
#[derive(Debug, Args)]
pub struct VariablesArgs {
    /// conda.yaml or package.yaml files
    files: Vec<PathBuf>,
    /// Name of the space
    #[arg(short, long, default_value = "user", value_parser = parse_space)]
    space: String,
    #[command(flatten)]
    more: activate::MoreArgs,
    /// Not offered: tokens of RCC's cloud
    #[arg(short, long)]
    workspace: Option<String>,
    /// No effect without a workspace
    #[arg(short, long, hide = true)]
    minutes: Option<u32>,
    /// No effect without a workspace
    #[arg(long, hide = true)]
    graceperiod: Option<u32>,
    /// No effect without a workspace
    #[arg(short, long, hide = true)]
    account: Option<String>,
}

/// Like `holofs variables`.
pub fn variables(context: &Context, args: &VariablesArgs, global: &RccGlobal) -> anyhow::Result<ExitCode> {
    if args.workspace.is_some() {
        let why = "only RCC issues cloud tokens";
        return Err(crate::session::error::NotOffered { what: "--workspace", why }.into());
    }
    if args.more.force {
        let why = "it forces a build, which only RCC does: `rcc holotree variables --force`";
        return Err(crate::session::error::NotOffered { what: "--force", why }.into());
    }
    let mut more = args.more.clone();
    more.no_pyc_management |= global.no_pyc_management;
    more.no_temp_management |= global.no_temp_management;
    let ours = activate::VariablesArgs {
        what: args.files.clone(),
        space: args.space.clone(),
        controller: global.controller.clone(),
        mode: Mode::Auto,
        more,
        remote: Default::default(),
    };
    activate::main(context, &ours)
}

/// Prints a message for people: stdout is for results.
#[allow(clippy::print_stderr)]
pub fn say(line: &str) {
    eprintln!("{}", text::line(line));
}
