//! Tables for people: columns as wide as their widest cell, two blanks between them.

/// Lays out rows below a head. Columns in `right` are aligned to the right.
pub fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
            if right.contains(&at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

/// A number of bytes, short: `0`, `512`, `21.4M`.
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{}.{}{name}", count / unit, count % unit * 10 / unit),
        None => count.to_string(),
    }
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
    fn bytes_are_short() {
        assert_eq!([0, 1023, 1024, 22_394_215].map(bytes), ["0", "1023", "1.0K", "21.3M"]);
    }
}
