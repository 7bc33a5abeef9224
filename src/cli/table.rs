//! Tables for people: columns as wide as their widest cell, separated by two blanks.

use std::fmt::Display;
use std::io::IsTerminal;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use indicatif::HumanBytes;

use crate::sys::text;

/// Columns are separated by this number of blanks.
const GAP: u16 = 2;

/// Formats rows below a head. Columns in `right` are right-aligned. On a terminal, cells that are too wide are wrapped in their
/// column; words such as hashes are not broken, if the widest ones of all columns fit.
pub fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> Vec<String> {
    laid_out(head, right, rows, is_terminal().then(|| Table::new().width().unwrap_or(80)))
}

/// True if tables go to a terminal, which has a width.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The width of the widest word of each column.
fn widest_words(head: &[&str], rows: &[Vec<String>]) -> Vec<u16> {
    let widest = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
    let column = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| widest(cell));
        cells.chain([widest(head[at])]).max().unwrap_or(0)
    };
    (0..head.len()).map(|at| u16::try_from(column(at)).unwrap_or(u16::MAX)).collect()
}

fn laid_out(head: &[&str], right: &[usize], rows: &[Vec<String>], width: Option<u16>) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied());
    table.set_content_arrangement(match width {
        Some(_) => ContentArrangement::Dynamic,
        None => ContentArrangement::Disabled,
    });
    if let Some(width) = width {
        table.set_width(width);
    }
    // A line break in a name must not start a new line.
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| text::line(cell).into_owned())));
    let words = widest_words(head, rows);
    let sum = words.iter().fold(0_u16, |sum, word| sum.saturating_add(word.saturating_add(GAP)));
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if width.is_some_and(|width| sum <= width) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(words[at] + GAP)));
        }
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A number of bytes, as progress shows it: `0 B`, `512 B`, `21.36 MiB`.
pub fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// A count with its noun: `1 blob`, `2 blobs`, `2 directories`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if count == N::from(1) => format!("1 {what}"),
        Some(start) => format!("{count} {start}ies"),
        None => format!("{count} {what}s"),
    }
}

/// Parses a number of bytes as people write it: `512`, `20G`, `20 GiB`, `1.5T`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size, such as 20G or 500 MiB");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = text[end..].trim().to_ascii_uppercase();
    let unit = unit.trim_end_matches('B').trim_end_matches('I');
    let shift = ["", "K", "M", "G", "T"].iter().position(|name| *name == unit).ok_or_else(wrong)?;
    // Disk sizes are far below what a float represents exactly.
    Ok((number * 1024_f64.powi(i32::try_from(shift).unwrap_or(0))) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["abc".to_owned(), "1".to_owned()], vec!["a".to_owned(), "100".to_owned()]];
        assert_eq!(table(&["x", "n"], &[1], &rows), ["x      n", "abc    1", "a    100"]);
    }

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_a_name_is_no_line() {
        let rows = [vec!["word ".repeat(30), "x\ny".to_owned()]];
        let lines = laid_out(&["long", "n"], &[], &rows, Some(80));
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains(r"x\ny")).count(), 1);
        assert_eq!(laid_out(&["long", "n"], &[], &rows, None).len(), 2);
    }

    #[test]
    fn words_are_not_broken_where_they_fit() {
        let hash = "0123456789abcdef".to_owned();
        let rows = [vec!["word ".repeat(30), hash.clone(), "live (123)".to_owned()]];
        let lines = laid_out(&["Long", "Hash", "State"], &[], &rows, Some(40));
        assert!(lines.iter().any(|line| line.contains(&hash)), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = ["0", "512", "20G", "1.5 KiB", "3mb"].map(parse_bytes);
        assert_eq!(sizes, [0, 512, 20 << 30, 1536, 3 << 20].map(Ok));
        for wrong in ["", "G", "-1", "1X", "1 2"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!([0, 1023, 1024, 22_394_215].map(bytes), ["0 B", "1023 B", "1.00 KiB", "21.36 MiB"]);
        // What is shown can be given.
        assert_eq!(parse_bytes(&bytes(3 << 29)), Ok(3 << 29));
    }

    #[test]
    fn counts_have_their_plural() {
        assert_eq!([0_u64, 1, 2].map(|count| counted(count, "blob")), ["0 blobs", "1 blob", "2 blobs"]);
        assert_eq!([1_usize, 2].map(|count| counted(count, "raw entry")), ["1 raw entry", "2 raw entries"]);
    }
}
