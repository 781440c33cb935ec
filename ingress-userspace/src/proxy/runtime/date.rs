//! The date of a response that has none (RFC 9110 §6.6.1), written once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use httpdate::HttpDate;

/// The last date, and the second of it.
#[derive(Default)]
pub(crate) struct Date(RefCell<Option<(u64, HeaderValue)>>);

impl Date {
    /// `IMF-fixdate` (RFC 9110 §5.6.7) of now.
    pub(crate) fn now(&self) -> HeaderValue {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((then, value)) if *then == second => value.clone(),
            _ => {
                let value = written(now);
                *last = Some((second, value.clone()));
                value
            }
        }
    }
}

fn written(time: SystemTime) -> HeaderValue {
    let text = HttpDate::from(time).to_string();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_is_written_as_http_has_it() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(written(time), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Date::default().now().len(), 29);
    }
}
