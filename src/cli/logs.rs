//! `holofs logs`: shows the log of the process that serves a space, including its previous run.

use std::io::{Read, Seek, SeekFrom};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::session::error::{NotAmong, NotFound};
use crate::space::{Space, files, inventory};
use crate::sys::text;

use super::SpaceArgs;
use super::context::Context;
use super::terminal;

/// The pause between checks for new lines.
const PAUSE: Duration = Duration::from_millis(200);
/// Of a larger log, only the end is read.
const MOST: u64 = 8 << 20;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Follow the log until the space is unmounted
    #[arg(short, long)]
    pub follow: bool,
    /// Number of last lines to show
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
}

/// Shows the log.
pub fn main(context: &Context, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let SpaceArgs { space: name, controller } = &args.space;
    let known = inventory::find(&context.home, controller, name)?.pop();
    let none = || NotAmong::spaces(format!("No space {name:?} of controller {controller:?}"));
    let known = known.ok_or_else(none)?;
    let place = known.space.state_dir.below(files::LOG);
    let mut log = match place.open_file() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(NotFound(format!("Space {name:?} was never mounted: it has no log")).into());
        }
        opened => opened.with_context(|| format!("Cannot read {}", place.path().display()))?,
    };
    let cannot = || format!("Cannot read {}", place.path().display());
    let size = log.metadata().with_context(cannot)?.len();
    log.seek(SeekFrom::Start(size.saturating_sub(MOST))).with_context(cannot)?;
    let text = rest(&mut log).with_context(cannot)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let first = lines.len().saturating_sub(args.lines.unwrap_or(usize::MAX));
    if context.is_json() {
        context.report(&&lines[first..], |_| Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    show(lines[first..].iter().map(String::as_str))?;
    while args.follow && is_live(&known.space) {
        std::thread::sleep(PAUSE);
        show(rest(&mut log).with_context(cannot)?.lines())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_live(space: &Space) -> bool {
    space.live_holder().is_some()
}

/// The unread rest. A line is written at once.
fn rest(log: &mut impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn show<'a>(lines: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let lines: Vec<_> = lines.map(text::line).collect();
    if lines.is_empty() { Ok(()) } else { terminal::print(&lines.join("\n")) }
}
