//! `holofs top`: shows the live spaces, their requests and their users; on a terminal, as a screen that is updated.

mod screen;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::inspect::live::{LiveSpace, Sample, Stats};
use crate::space::lease;
use crate::store::observe::Counter;

use super::context::Context;
use super::table::{bytes, table};

use screen::Screen;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print once and exit (default if stdout is not a terminal)
    #[arg(long)]
    pub once: bool,
    /// Seconds between two updates
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = interval)]
    pub interval: f64,
}

/// Parses the interval, with a minimum so that sampling does not dominate the load.
fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "seconds must be a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600 seconds".to_owned()) }
}

/// Shows until `q` is pressed, or once.
pub fn main(context: &Context, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let sample = Sample::take(&context.home)?;
    if args.once || context.is_json() || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        context.report(&sample, text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::try_init().context("Cannot take over the terminal")?;
    let shown = keep_showing(context, &mut terminal, Screen::new(sample), args);
    ratatui::try_restore().context("Cannot restore the terminal")?;
    shown.map(|()| ExitCode::SUCCESS)
}

fn keep_showing(
    context: &Context,
    terminal: &mut ratatui::DefaultTerminal,
    mut screen: Screen,
    args: &TopArgs,
) -> anyhow::Result<()> {
    let every = Duration::from_secs_f64(args.interval);
    loop {
        terminal.draw(|frame| screen.draw(frame)).context("Cannot draw")?;
        let left = every.saturating_sub(screen.age());
        if event::poll(left).context("Cannot read the keyboard")? {
            match event::read().context("Cannot read the keyboard")? {
                Event::Key(key) if key.kind == KeyEventKind::Press && is_end(key) => return Ok(()),
                Event::Key(key) if key.kind == KeyEventKind::Press => screen.key(key.code),
                _ => {}
            }
        } else {
            screen.show(Sample::take(&context.home)?);
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

/// The columns of the table of spaces.
pub(super) const HEAD: [&str; 9] =
    ["Space", "Mode", "Io", "Requests", "Read p50", "Read p99", "Hits", "Read", "Fetched"];

/// The cells of a space, as totals since it is served.
pub(super) fn cells(space: &LiveSpace) -> Vec<String> {
    let Some(stats) = &space.stats else {
        let why = space.silent.clone().unwrap_or_default();
        return vec![space.space.clone(), space.mode.clone(), why];
    };
    let read = stats.latency.get("read").cloned().unwrap_or_default();
    vec![
        space.space.clone(),
        space.mode.clone(),
        stats.io.clone(),
        stats.total().to_string(),
        micros(read.p50_us),
        micros(read.p99_us),
        stats.hit_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0)),
        bytes(stats.count(Counter::BytesRead)),
        bytes(stats.count(Counter::BytesIngested)),
    ]
}

/// The columns of the table of request kinds.
pub(super) const KINDS: [&str; 6] = ["Kind", "Count", "p50", "p90", "p99", "Longest"];

/// The request kinds of a space, most frequent first.
pub(super) fn kinds(stats: &Stats) -> Vec<Vec<String>> {
    let mut all: Vec<_> = stats.requests.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let row = |(kind, count): (&String, &u64)| {
        let times = stats.latency.get(kind).cloned().unwrap_or_default();
        let times = [times.p50_us, times.p90_us, times.p99_us, times.max_us].map(micros);
        [kind.clone(), count.to_string()].into_iter().chain(times).collect()
    };
    all.into_iter().map(row).collect()
}

/// A time, short: `12 us`, `3.4 ms`, `1.2 s`.
fn micros(us: f64) -> String {
    match us {
        us if us <= 0.0 => "-".to_owned(),
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn text(sample: &Sample) -> Vec<String> {
    if sample.spaces.is_empty() {
        return vec!["No space is mounted".to_owned()];
    }
    let rows: Vec<Vec<String>> = sample.spaces.iter().map(cells).collect();
    let mut lines = table(&HEAD, &[3, 4, 5, 6, 7, 8], &rows);
    for space in &sample.spaces {
        lines.extend([String::new(), format!("{} at {}", space.space, space.path.display())]);
        lines
            .extend((!space.users.is_empty()).then(|| format!("used by {}", lease::described(&space.users))));
        lines.extend(space.stats.iter().flat_map(|stats| table(&KINDS, &[1, 2, 3, 4, 5], &kinds(stats))));
    }
    lines
}
