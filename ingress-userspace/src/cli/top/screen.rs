//! The table of `sluice top`: what keys change, and its text.

use std::cmp::Ordering;

use super::row::{Row, columns};
use crate::cli::table;
use crate::settings::TopTable;

/// The table, its sort order and its filter.
#[derive(Debug)]
pub(super) struct Screen {
    table: TopTable,
    rows: Vec<Row>,
    problem: Option<String>,
    /// The column that rows are sorted by.
    sort: usize,
    is_ascending: bool,
    /// Only rows whose names contain this.
    filter: String,
    is_typing: bool,
}

/// The consequence of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Continue,
    Quit,
}

impl Screen {
    pub(super) fn new(table: TopTable) -> Self {
        Self {
            table,
            rows: Vec::new(),
            problem: Some("counting for a second".to_owned()),
            sort: BY_FIRST,
            is_ascending: false,
            filter: String::new(),
            is_typing: false,
        }
    }

    /// Takes over new numbers, or the reason why there are none.
    pub(super) fn update(&mut self, shown: Option<Result<Vec<Row>, String>>) {
        match shown {
            Some(Ok(rows)) => (self.rows, self.problem) = (rows, None),
            Some(Err(problem)) => self.problem = Some(problem),
            None => {}
        }
    }

    /// Handles keys. One read may return several keys, or the sequence of one arrow.
    pub(super) fn keys(&mut self, keys: &[u8]) -> Outcome {
        if let [ESCAPE, _, ..] = keys {
            return self.key(keys);
        }
        let mut keys = keys.chunks(1).map(|key| self.key(key));
        let quits = keys.any(|outcome| outcome == Outcome::Quit);
        if quits {
            Outcome::Quit
        } else {
            Outcome::Continue
        }
    }

    fn key(&mut self, key: &[u8]) -> Outcome {
        match key {
            [CTRL_C] => return Outcome::Quit,
            key if self.is_typing => self.type_in(key),
            b"q" => return Outcome::Quit,
            b"/" => {
                self.is_typing = true;
                self.filter.clear();
            }
            b"r" => self.is_ascending = !self.is_ascending,
            b">" | b"\x1b[C" | b"\x1bOC" => self.sort = (self.sort + 1) % self.width(),
            b"<" | b"\x1b[D" | b"\x1bOD" => {
                self.sort = (self.sort + self.width() - 1) % self.width();
            }
            [ESCAPE] => self.filter.clear(),
            _ => {}
        }
        Outcome::Continue
    }

    /// The number of columns.
    fn width(&self) -> usize {
        1 + columns(self.table).1.len()
    }

    fn type_in(&mut self, key: &[u8]) {
        match key {
            b"\r" | b"\n" => self.is_typing = false,
            [ESCAPE, ..] => {
                self.filter.clear();
                self.is_typing = false;
            }
            [0x08 | 0x7f] => {
                self.filter.pop();
            }
            [key] if key.is_ascii_graphic() && self.filter.len() < FILTER_MAX => {
                self.filter.push(char::from(*key));
            }
            _ => {}
        }
    }

    /// The text for a terminal of this size (columns, rows); `None`: all rows, uncut.
    pub(super) fn text(&self, size: Option<(usize, usize)>) -> String {
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.name.contains(&self.filter))
            .collect();
        rows.sort_by(|a, b| {
            let order = compare(a, b, self.sort);
            let order = if self.is_ascending {
                order
            } else {
                order.reverse()
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        let count = rows.len();
        if let Some((_, height)) = size {
            rows.truncate(height.saturating_sub(HEAD_LINES));
        }
        let cells: Vec<_> = rows.into_iter().map(cells).collect();
        let (names, numbers) = columns(self.table);
        let headings = std::iter::once(&names).chain(numbers);
        let mut headings: Vec<String> = headings.map(|&heading| heading.to_owned()).collect();
        let mark = if self.is_ascending { '^' } else { 'v' };
        headings[self.sort].push(mark);
        let headings: Vec<&str> = headings.iter().map(|heading| &**heading).collect();
        let width = size.map(|(width, _)| width);
        let table = table::render(&headings, &cells, width);
        match size {
            None => table,
            Some((width, _)) => {
                let text = format!("{}\n{table}", self.status(count));
                // Headings may be wider than the terminal.
                let cut = |line: &str| line.chars().take(width).collect::<String>() + "\n";
                text.lines().map(cut).collect()
            }
        }
    }

    fn status(&self, count: usize) -> String {
        if self.is_typing {
            return format!("filter: {}_  (Enter keeps it, Esc clears it)", self.filter);
        }
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let filter = if self.filter.is_empty() {
            String::new()
        } else {
            format!(" with `{}`", self.filter)
        };
        format!("{count} shown{filter}  < > sort  r reverse  / filter  q quit")
    }
}

fn compare(a: &Row, b: &Row, column: usize) -> Ordering {
    let number = |row: &Row| {
        let cell = column.checked_sub(1).and_then(|index| row.cells.get(index));
        cell.map_or(0.0, |cell| cell.value())
    };
    match column {
        // Descending, as the others: names begin with `a` at the top.
        0 => b.name.cmp(&a.name),
        _ => number(a).total_cmp(&number(b)),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let numbers = row.cells.iter().map(|cell| cell.text());
    std::iter::once(row.name.clone()).chain(numbers).collect()
}

/// The first number: requests or packets.
const BY_FIRST: usize = 1;
/// The status and the headings.
const HEAD_LINES: usize = 2;
/// Characters of a filter.
const FILTER_MAX: usize = 64;
const CTRL_C: u8 = 3;
const ESCAPE: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::Rates;

    fn row(rates: Rates) -> Row {
        rates.into()
    }

    fn screen() -> Screen {
        let rates = |name: &str, requests, server_errors| Rates {
            name: name.to_owned(),
            requests,
            server_errors,
            median: Some(0.002),
            percentile_99: Some(1.25),
            received: 1_500.0,
            ..Rates::default()
        };
        let mut screen = Screen::new(TopTable::Hosts);
        screen.update(Some(Ok(vec![
            row(rates("a.test", 1.0, 0.5)),
            row(rates("b.test", 250.0, 0.0)),
        ])));
        screen
    }

    fn names(screen: &Screen) -> Vec<String> {
        let text = screen.text(Some((80, 24)));
        let lines = text.lines().skip(HEAD_LINES);
        let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        lines.map(first).collect()
    }

    #[test]
    fn busiest_is_first_until_keys_say_otherwise() {
        let mut screen = screen();
        assert_eq!(names(&screen), ["b.test", "a.test"]);
        let text = screen.text(None);
        assert!(text.contains("b.test  250   0.0  0.0  2ms  1.2s"), "{text}");
        assert!(
            text.lines().next().unwrap_or_default().contains("REQv"),
            "{text}"
        );
        for key in [&b">"[..], b"\x1b[C"] {
            screen.keys(key);
        }
        assert_eq!(names(&screen), ["a.test", "b.test"], "by 5xx");
        screen.keys(b"r");
        assert_eq!(names(&screen), ["b.test", "a.test"]);
        screen.keys(b"r");
        for _ in 0..3 {
            screen.keys(b"<");
        }
        assert_eq!(names(&screen), ["a.test", "b.test"], "by name");
    }

    #[test]
    fn devices_have_columns_of_packets() {
        let text = Screen::new(TopTable::Devices).text(None);
        let headings: Vec<_> = text.split_whitespace().collect();
        let expected = [
            "DEVICE", "PKT-INv", "PKT-OUT", "DROP-IN", "DROP-OUT", "ERR", "IN", "OUT",
        ];
        assert_eq!(headings, expected);
    }

    #[test]
    fn filter_is_typed_and_cleared() {
        let mut screen = screen();
        screen.keys(b"/bq");
        assert!(screen.text(Some((80, 24))).starts_with("filter: bq_"));
        assert_eq!(names(&screen), Vec::<String>::new());
        screen.keys(b"\x7f");
        assert_eq!(screen.keys(b"\r"), Outcome::Continue);
        assert_eq!(names(&screen), ["b.test"]);
        screen.keys(b"\x1b");
        assert_eq!(names(&screen).len(), 2);
        assert_eq!(screen.keys(b"q"), Outcome::Quit);
        screen.keys(b"/");
        assert_eq!(screen.keys(&[CTRL_C]), Outcome::Quit);
    }

    #[test]
    fn text_fits_the_terminal() {
        let mut screen = screen();
        let named = |index: usize| Rates {
            name: format!("{}-{index}", "x".repeat(100)),
            ..Rates::default()
        };
        let rows = (0..100).map(|index| row(named(index)));
        screen.update(Some(Ok(rows.collect())));
        let text = screen.text(Some((80, 24)));
        assert_eq!(text.lines().count(), 24);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        screen.update(Some(Err("the daemon is away".to_owned())));
        assert!(
            screen
                .text(Some((80, 24)))
                .starts_with("the daemon is away\n")
        );
    }
}
