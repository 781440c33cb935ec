//! What of a request's head is said in the access log, kept until the request has ended.

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request};
use ingress_core::prefetch::prefetch;

use super::buffer::LogBuffer;
use super::template::Template;
use crate::proxy::observe::metrics::head_bytes::Fields;
use crate::proxy::observe::metrics::record::ClientInfo;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::field::X_REQUEST_ID;
use crate::proxy::runtime::random::RequestId;
use crate::proxy::runtime::transport::{Downstream, Scheme};

/// A copy of a head's parts, so that the buffer that the head was read into is free for the next
/// one. Boxed, as it moves from the request to the log and back to the next request: on one line of
/// the cache.
#[repr(align(64))]
pub(crate) struct Entry {
    /// The parts one after the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: [u32; PARTS],
    pub(crate) scheme: Scheme,
    pub(crate) downstream: Downstream,
    /// Whether the request's id is one that we made.
    has_own_id: bool,
}

/// Has an entry keep fields of a head.
pub(crate) struct FieldCapture<'e, 'a> {
    template: &'e Template,
    entry: &'e mut Entry,
    /// The client's id of the request.
    id: Option<&'a [u8]>,
}

/// What is kept of each request.
#[derive(Clone, Copy)]
enum Part {
    Client,
    Port,
    /// Of the target, where it has one: without a user, whose password nobody should read.
    Host,
    Target,
    /// Request fields that the template asks for.
    Fields,
    RequestId,
}

const PARTS: usize = Part::RequestId as usize + 1;

impl Entry {
    /// Keeps what the log's template asks for. Returns what was counted of the fields, too.
    pub(crate) fn new<B>(
        log: &LogBuffer,
        runtime: &Runtime,
        client: &ClientInfo<'_>,
        request: &Request<B>,
    ) -> (Box<Self>, Fields) {
        let uri = request.uri();
        let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let mut entry = log.blank();
        entry.scheme = client.scheme;
        entry.downstream = client.downstream;
        entry.push(Part::Client, client.address.as_bytes());
        let port = log.template().has_port.then(|| client.port.as_bytes());
        entry.push(Part::Port, port.unwrap_or_default());
        entry.push(Part::Host, uri.host().unwrap_or_default().as_bytes());
        entry.push(Part::Target, target.as_bytes());
        let mut keeper = FieldCapture {
            template: log.template(),
            entry: &mut entry,
            id: None,
        };
        // Looking at all of them is quicker than looking each up.
        let fields = Fields::of(request.headers(), Some(&mut keeper));
        let id = keeper.id;
        entry.push(Part::Fields, b"");
        entry.has_own_id = id.is_none();
        match id {
            Some(id) => entry.push(Part::RequestId, id),
            None => entry.push(Part::RequestId, &runtime.request_id()),
        }
        (entry, fields)
    }

    /// A blank one, with room for what most heads have in the log.
    #[expect(clippy::unnecessary_box_returns, reason = "it moves by its pointer")]
    pub(crate) fn blank() -> Box<Self> {
        Box::new(Self {
            scheme: Scheme::Http,
            downstream: Downstream::Http11,
            bytes: Vec::with_capacity(USUAL_BYTES),
            ends: [0; PARTS],
            has_own_id: false,
        })
    }

    /// Makes it blank again. Whether that is worth it: one that has become large is not kept.
    pub(crate) fn wipe(&mut self) -> bool {
        self.bytes.clear();
        self.bytes.capacity() <= KEPT_BYTES_MAX
    }

    /// Asks for the memory of what it says.
    pub(crate) fn prefetch(&self) {
        for line in self.bytes.chunks(LINE_BYTES) {
            prefetch(&line[0]);
        }
    }

    /// Not inlined: what a request runs through once costs as much as it is long.
    #[inline(never)]
    fn push(&mut self, part: Part, value: &[u8]) {
        // The list of fields is bounded one by one.
        self.bytes.extend_from_slice(logged(value));
        // A head is bounded far below.
        self.ends[part as usize] = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
    }

    /// A field's place in the template, its length, and its value.
    fn push_field(&mut self, place: u32, value: &[u8]) {
        let value = logged(value);
        let length = u32::try_from(value.len()).unwrap_or(0);
        self.bytes.extend_from_slice(&place.to_ne_bytes());
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(value);
    }

    fn part(&self, part: Part) -> &[u8] {
        let begin = match part as usize {
            0 => 0,
            index => self.ends[index - 1] as usize,
        };
        let end = self.ends[part as usize] as usize;
        self.bytes.get(begin..end).unwrap_or_default()
    }

    pub(crate) fn client(&self) -> &[u8] {
        self.part(Part::Client)
    }

    pub(crate) fn port(&self) -> &[u8] {
        self.part(Part::Port)
    }

    /// Empty where the target is a path only.
    pub(crate) fn host(&self) -> &[u8] {
        self.part(Part::Host)
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &[u8] {
        self.part(Part::Target)
    }

    /// Our own, which has nothing to escape.
    pub(crate) fn own_request_id(&self) -> Option<&RequestId> {
        let id = self.has_own_id.then(|| self.request_id())?;
        id.as_array()
    }

    /// The client's, or our own.
    pub(crate) fn request_id(&self) -> &[u8] {
        self.part(Part::RequestId)
    }

    /// The first value of a field, empty where there is none.
    pub(crate) fn field(&self, wanted: usize) -> &[u8] {
        let mut rest = self.part(Part::Fields);
        while let Some(([place, length], values)) = split_numbers(rest) {
            let Some((value, after)) = values.split_at_checked(length) else {
                break;
            };
            if place == wanted {
                return value;
            }
            rest = after;
        }
        &[]
    }
}

impl<'a> FieldCapture<'_, 'a> {
    /// Keeps a field, if the log's template asks for it.
    #[inline]
    pub(crate) fn look(&mut self, name: &HeaderName, value: &'a HeaderValue) {
        if self.template.lengths.has(name) {
            self.keep(name, value.as_bytes());
        }
    }

    fn keep(&mut self, name: &HeaderName, value: &'a [u8]) {
        for (place, wanted) in (0..).zip(&self.template.fields) {
            if wanted == name {
                self.entry.push_field(place, value);
            }
        }
        if *name == X_REQUEST_ID {
            self.id = self.id.or(Some(value));
        }
    }
}

fn split_numbers(bytes: &[u8]) -> Option<([usize; 2], &[u8])> {
    let (place, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let place = u32::from_ne_bytes(*place) as usize;
    let length = u32::from_ne_bytes(*length) as usize;
    Some(([place, length], rest))
}

/// What the log has of a value. Lines of a flood of huge heads would take the place of other clients'
/// lines in the queue to the log's writer.
fn logged(value: &[u8]) -> &[u8] {
    &value[..value.len().min(VALUE_BYTES_MAX)]
}

/// Bytes of a value in the log; the rest is cut off. Browsers send targets of at most 2 KiB as a rule.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// Bytes that most heads have in the log.
const USUAL_BYTES: usize = 320;

/// Bytes that are used again for other requests.
const KEPT_BYTES_MAX: usize = 4 * USUAL_BYTES;

/// Bytes of a line of the processor's cache.
const LINE_BYTES: usize = 64;

const _: () = assert!(size_of::<Entry>() == LINE_BYTES);
