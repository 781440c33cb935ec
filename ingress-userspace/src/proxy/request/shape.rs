//! How the response of a request is to be sent: with texts replaced, compressed or not, and how fast.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, response};
use ingress_core::filter::compression;
use ingress_core::filter::substitution::{self, Replacer};
use ingress_core::ir::{Bandwidth, Compression, Substitution};

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
    substitution: Option<Arc<Substitution>>,
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
        let substitution = extras.substitution.clone();
        let is_any = compression.is_some() || extras.bandwidth.is_some() || substitution.is_some();
        Self(is_any.then(|| {
            Box::new(Wanted {
                bandwidth: extras.bandwidth,
                compression,
                substitution,
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
            substitution,
        } = *self.0?;
        let has_body = !source.is_body_over();
        let substitution = substitution.filter(|one| substitution::applies(one, &head.headers));
        if let Some(substitution) = &substitution {
            substitution::apply(substitution, &mut head.headers);
        }
        // The length is another one when texts are replaced.
        let length = source
            .body_size()
            .exact()
            .filter(|_| substitution.is_none());
        let coding = compression
            .filter(|_| has_body)
            .and_then(|(compression, accepted)| {
                compression::choose(
                    &compression,
                    accepted.as_ref(),
                    head.status,
                    &mut head.headers,
                    length,
                )
            });
        // Without memory for it the response goes as it is.
        let encoder = coding.and_then(|(coding, level)| {
            let encoder = Encoder::new(coding, level).ok()?;
            compression::apply(coding, &mut head.headers);
            Some(encoder)
        });
        let encoder = match substitution.filter(|_| has_body).map(Replacer::new) {
            Some(replacer) => {
                let encoder = encoder.unwrap_or_else(Encoder::identity);
                Some(encoder.after(replacer))
            }
            None => encoder,
        };
        Transform::new(bandwidth.map(Pace::new), encoder)
    }
}
