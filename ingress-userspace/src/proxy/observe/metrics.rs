//! What requests come to, as Prometheus metrics: counted by each worker for itself, summed when
//! somebody asks.
//!
//! `labels` names what a route's numbers belong to, `tally` are those numbers of one outcome,
//! `series` finds them on one worker, and `record` is what one request adds to them when it ends.
//! `worker/exposition.rs` puts the workers' numbers together.
//!
//! Invariant: labels come from the configuration and from closed sets, never from a client; a
//! worker holds a bounded number of series, and those of a route that has left are dropped.

/// Whether requests are counted by route, status and method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestMetrics {
    /// They are.
    #[default]
    On,
    /// Only what a worker counts of itself is.
    Off,
}

/// The text that a scraper wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

impl MetricsFormat {
    /// The format that an Accept field prefers; the text format unless it names OpenMetrics.
    pub fn of_accept(accept: &str) -> Self {
        let wants = |kind: &str| {
            let weight = accept.split(',').filter_map(|one| {
                let mut parts = one.split(';').map(str::trim);
                let is_kind = parts.next()?.eq_ignore_ascii_case(kind);
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
                is_kind.then_some(weight)
            });
            weight.fold(0.0, f32::max)
        };
        let open = wants("application/openmetrics-text");
        if open > 0.0 && open >= wants("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The content type of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus::TEXT_FORMAT,
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }
}

pub(crate) mod exemplars;
pub(crate) mod family;
pub(crate) mod head_bytes;
pub(crate) mod histogram;
pub(crate) mod labels;
pub(crate) mod openmetrics;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod requests;
pub(crate) mod series;
pub(crate) mod tally;
pub(crate) mod worker;

#[cfg(test)]
mod tests {
    use super::MetricsFormat;

    #[test]
    fn openmetrics_is_for_clients_that_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, MetricsFormat::OpenMetrics),
            ("application/openmetrics-text", MetricsFormat::OpenMetrics),
            ("", MetricsFormat::Text),
            ("*/*", MetricsFormat::Text),
            (
                "text/plain, application/openmetrics-text;q=0.5",
                MetricsFormat::Text,
            ),
            ("application/openmetrics-text;q=0", MetricsFormat::Text),
            ("application/openmetrics-text;q=many", MetricsFormat::Text),
        ] {
            assert_eq!(MetricsFormat::of_accept(accept), format, "{accept}");
        }
    }
}
