//! The screen of `top`: spaces at the top, request kinds of the selected one below. Drawn from two samples; takes none itself.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState};

use crate::inspect::live::{LiveSpace, Sample};
use crate::space::lease;
use crate::sys::text;

use super::super::table::bytes;
use super::{HEAD, KINDS, cells, kinds};

/// The screen's state.
pub struct Screen {
    now: Sample,
    before: Option<Sample>,
    chosen: usize,
}

impl Screen {
    /// Shows `sample`.
    pub fn new(sample: Sample) -> Screen {
        Screen { now: sample, before: None, chosen: 0 }
    }

    /// Shows `sample` from now on; rates are relative to the previous one.
    pub fn show(&mut self, sample: Sample) {
        let path = self.chosen().map(|space| space.path.clone());
        self.before = Some(std::mem::replace(&mut self.now, sample));
        let same = path.and_then(|path| self.now.spaces.iter().position(|space| space.path == path));
        self.chosen = same.unwrap_or(0);
    }

    /// The age of the sample.
    pub fn age(&self) -> Duration {
        self.now.at.elapsed()
    }

    /// Moves the selection.
    pub fn key(&mut self, code: KeyCode) {
        let last = self.now.spaces.len().saturating_sub(1);
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.chosen = (self.chosen + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = last,
            _ => {}
        }
    }

    /// Draws the screen.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let spaces = u16::try_from(self.now.spaces.len()).unwrap_or(u16::MAX).clamp(1, 12);
        let parts = [Constraint::Length(spaces + 3), Constraint::Min(3), Constraint::Length(1)];
        let [above, below, foot] = Layout::vertical(parts).areas(frame.area());
        self.draw_spaces(frame, above);
        match self.chosen() {
            Some(space) => draw_kinds(frame, below, space),
            None => frame.render_widget(Paragraph::new("No space is mounted"), below),
        }
        frame.render_widget(Line::from("q quit   up, down choose a space"), foot);
    }

    fn chosen(&self) -> Option<&LiveSpace> {
        self.now.spaces.get(self.chosen)
    }

    fn draw_spaces(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.now.spaces.iter().map(|space| {
            let mut cells: Vec<String> =
                cells(space).iter().map(|cell| text::line(cell).into_owned()).collect();
            cells.resize(HEAD.len(), String::new());
            let rates = self.before.as_ref().and_then(|before| self.now.rates(before, &space.path));
            let (requests, read) = rates.map_or_else(
                || ("-".to_owned(), "-".to_owned()),
                |rates| (format!("{:.0}", rates.requests), bytes(whole(rates.bytes))),
            );
            Row::new(cells.into_iter().chain([requests, read, space.users.len().to_string()]))
        });
        let head = HEAD.into_iter().chain(["Req/s", "Read/s", "Users"]);
        let widths = [16, 10, 11, 9, 9, 9, 8, 11, 11, 7, 11, 5].map(Constraint::Length);
        let table = Table::new(rows, widths)
            .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::bordered().title(format!("HoloFS: {} spaces", self.now.spaces.len())));
        let mut state = TableState::new().with_selected(self.chosen().map(|_| self.chosen));
        frame.render_stateful_widget(table, area, &mut state);
    }
}

fn draw_kinds(frame: &mut Frame<'_>, area: Rect, space: &LiveSpace) {
    let users = if space.users.is_empty() { "nobody".to_owned() } else { lease::described(&space.users) };
    let title = text::line(&format!("{} for {users}", space.path.display())).into_owned();
    let rows = space.stats.iter().flat_map(kinds).map(Row::new);
    let widths = [16, 10, 9, 9, 9, 9].map(Constraint::Length);
    let table = Table::new(rows, widths)
        .header(Row::new(KINDS).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

/// A rate without its fraction; real rates are far below the limit.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and far from 2^63"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::fs::fuse::latency::Latency;
    use crate::inspect::live::Stats;

    fn space(name: &str, reads: u64) -> LiveSpace {
        let latency = Latency {
            count: reads,
            p50_us: 12.0,
            p90_us: 900.0,
            p99_us: 3400.0,
            max_us: 2e6,
            ..Latency::default()
        };
        let counts =
            [("raw_hits", 9), ("blobs_ingested", 1), ("bytes_read", reads * 1024), ("bytes_ingested", 2048)];
        let stats = Stats {
            io: "no-open".to_owned(),
            requests: BTreeMap::from([("read".to_owned(), reads), ("lookup".to_owned(), 3)]),
            latency: BTreeMap::from([("read".to_owned(), latency)]),
            counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            ..Stats::default()
        };
        LiveSpace {
            space: name.to_owned(),
            controller: "user".to_owned(),
            label: String::new(),
            path: format!("/tree/{name}").into(),
            blueprint: String::new(),
            mode: "read-write".to_owned(),
            pid: 7,
            users: Vec::new(),
            stats: Some(stats),
            silent: None,
        }
    }

    fn drawn(screen: &Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(130, 14)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y: u16| (0..130).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..14).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_screen_shows_totals_rates_and_the_kinds_of_the_chosen_space() {
        let start = Instant::now();
        let old = Sample { at: start, spaces: vec![space("one", 10), space("two", 1)] };
        let new =
            Sample { at: start + Duration::from_secs(2), spaces: vec![space("one", 50), space("two", 1)] };
        let mut screen = Screen::new(old);
        assert!(drawn(&screen)[2].contains(" -"), "no rates from one sample");
        screen.show(new);
        let lines = drawn(&screen);
        let words: Vec<&str> = lines[2].trim_matches('│').split_whitespace().collect();
        let right = "one read-write no-open 53 12 us 3.4 ms 90.0 % 50.00 KiB 2.00 KiB 20 20.00 KiB 0";
        assert_eq!(words.join(" "), right);
        assert!(lines[5].contains("/tree/one for nobody"), "{lines:#?}");
        let kind: Vec<&str> = lines[7].trim_matches('│').split_whitespace().collect();
        assert_eq!(kind.join(" "), "read 50 12 us 900 us 3.4 ms 2.0 s");
        assert!(lines[13].starts_with("q quit"));
        screen.key(KeyCode::Down);
        screen.key(KeyCode::Down);
        assert!(drawn(&screen)[5].contains("/tree/two"));
    }

    #[test]
    fn without_a_space_it_says_so() {
        let screen = Screen::new(Sample { at: Instant::now(), spaces: Vec::new() });
        assert!(drawn(&screen).iter().any(|line| line == "No space is mounted"));
    }
}
