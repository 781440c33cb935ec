//! A row of the table of `sluice top`, whatever it counts.

use super::rates::Rates;
use crate::settings::TopTable;

/// A name and its numbers, one for each of the [`columns`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// A number and how it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// Of a second.
    Rate(f64),
    /// Seconds; `None` without a request.
    Time(Option<f64>),
    /// Bytes a second.
    Bytes(f64),
}

/// The headings of a table: that of the names, and those of the numbers.
pub(super) fn columns(table: TopTable) -> (&'static str, &'static [&'static str]) {
    match table {
        TopTable::Hosts => ("HOST", REQUESTS),
        TopTable::Backends => ("BACKEND", REQUESTS),
        TopTable::Endpoints => ("ENDPOINT", REQUESTS),
        TopTable::Clients => ("CLIENT", REQUESTS),
        TopTable::Devices => ("DEVICE", PACKETS),
    }
}

impl Cell {
    /// The column that rows are sorted by.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Rate(value) | Self::Bytes(value) => value,
            Self::Time(value) => value.unwrap_or(-1.0),
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Rate(rate) if rate >= 100.0 => format!("{rate:.0}"),
            Self::Rate(rate) => format!("{rate:.1}"),
            Self::Time(None) => "-".to_owned(),
            Self::Time(Some(seconds)) if seconds < 1.0 => format!("{:.0}ms", seconds * 1_000.0),
            Self::Time(Some(seconds)) => format!("{seconds:.1}s"),
            Self::Bytes(number) => bytes(number),
        }
    }
}

impl From<Rates> for Row {
    fn from(rates: Rates) -> Self {
        Self {
            cells: vec![
                Cell::Rate(rates.requests),
                Cell::Rate(rates.client_errors),
                Cell::Rate(rates.server_errors),
                Cell::Time(rates.median),
                Cell::Time(rates.percentile_99),
                Cell::Bytes(rates.received),
                Cell::Bytes(rates.sent),
            ],
            name: rates.name,
        }
    }
}

fn bytes(mut number: f64) -> String {
    for unit in ["B", "K", "M", "G"] {
        if number < 1_000.0 {
            return format!("{number:.0}{unit}");
        }
        number /= 1_000.0;
    }
    format!("{number:.0}T")
}

/// All of a second, but for the times.
const REQUESTS: &[&str] = &["REQ", "4XX", "5XX", "P50", "P99", "IN", "OUT"];
/// Packets, those dropped, those with errors, and bytes of a second, in and out.
const PACKETS: &[&str] = &[
    "PKT-IN", "PKT-OUT", "DROP-IN", "DROP-OUT", "ERR", "IN", "OUT",
];
