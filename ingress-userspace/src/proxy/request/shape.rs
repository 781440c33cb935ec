//! How the response of a request is to be sent: compressed or not, and how fast.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, response};
use ingress_core::filter::compression;
use ingress_core::ir::{Bandwidth, Compression};

use crate::proxy::request::compress::Encoder;
use crate::proxy::request::pace::Pace;
use crate::proxy::request::transform::Transform;
use crate::proxy::table::slot::RouteExtras;
use crate::proxy::upstream::response_source::ResponseSource;

/// How the response of a request is to be sent.
#[derive(Default)]
pub(crate) struct Shape(Option<Box<Wanted>>);

struct Wanted {
    bandwidth: Option<Bandwidth>,
    compression: Option<(Arc<Compression>, Option<HeaderValue>)>,
}

impl Shape {
    /// That of a request with these fields.
    pub(crate) fn of(extras: Option<&RouteExtras>, headers: &HeaderMap) -> Self {
        let Some(extras) = extras else {
            return Self::default();
        };
        let compression = extras.compression.as_ref();
        let compression = compression.map(|compression| {
            let accepted = compression::accepted(headers).cloned();
            (Arc::clone(compression), accepted)
        });
        let is_any = compression.is_some() || extras.bandwidth.is_some();
        Self(is_any.then(|| {
            Box::new(Wanted {
                bandwidth: extras.bandwidth,
                compression,
            })
        }))
    }

    /// The transform for the body of a response; changes its head accordingly.
    pub(crate) fn transform(
        self,
        head: &mut response::Parts,
        source: &ResponseSource,
    ) -> Option<Box<Transform>> {
        let Wanted {
            bandwidth,
            compression,
        } = *self.0?;
        let encoder = compression.and_then(|(compression, accepted)| {
            if source.is_body_over() {
                return None;
            }
            let length = source.body_size().exact();
            let chosen = compression::choose(
                &compression,
                accepted.as_ref(),
                head.status,
                &mut head.headers,
                length,
            );
            let (coding, level) = chosen?;
            // Without memory for it the response goes as it is.
            let encoder = Encoder::new(coding, level).ok()?;
            compression::apply(coding, &mut head.headers);
            Some(encoder)
        });
        Transform::new(bandwidth.map(Pace::new), encoder)
    }
}
