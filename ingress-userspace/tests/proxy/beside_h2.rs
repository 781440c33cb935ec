//! The HTTP/2 server beside that of the crate h2, with the same frames: both answer the same requests, reset the
//! same streams and end the same connections, but for differences that [`reason`] gives a reason for.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use proptest::prelude::*;

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, fields, frame,
};
use crate::h2rig::{Asked, H2Origin};
use crate::rig::{Origin, PATIENCE, Proxy, config};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const UNKNOWN: u8 = 0x20;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The first response to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// By another status than 200, or by a reset.
    Refused,
}

/// A server's response to a sequence of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// The error that the server ended the connection with.
    error: Option<u32>,
    /// Streams that it refused, before or after an answer.
    refusals: usize,
    streams: BTreeMap<u32, Fate>,
}

fn frames() -> impl Strategy<Value = Vec<Sent>> {
    let some = prop_oneof![
        8 => one_frame().prop_map(|frame| vec![frame]),
        1 => request_with_trailers(),
    ];
    prop::collection::vec(some, 1..10).prop_map(|frames| frames.concat())
}

/// A request with a body and trailers, whose frames seldom meet by chance.
fn request_with_trailers() -> impl Strategy<Value = Vec<Sent>> {
    let stream = prop::sample::select(vec![1, 3, 5]);
    let trailers = prop::sample::select(vec![
        fields(&[("x", "y")]),
        fields(&[("X", "y")]),
        fields(&[("x", "y"), ("connection", "close")]),
        get(),
    ]);
    (stream, trailers).prop_map(|(stream, trailers)| {
        let sent = |kind, flags, payload| Sent {
            kind,
            flags,
            stream,
            payload,
        };
        let head = fields(&[METHOD_POST, SCHEME, AUTHORITY, PATH]);
        vec![
            sent(HEADERS, END_HEADERS, head),
            sent(DATA, 0, b"abc".to_vec()),
            sent(HEADERS, END_HEADERS | END_STREAM, trailers),
        ]
    })
}

fn one_frame() -> impl Strategy<Value = Sent> {
    let stream = prop_oneof![6 => Just(1), 4 => Just(3), 2 => Just(5), 1 => Just(0), 1 => Just(2)];
    let kind = prop_oneof![
        12 => head(),
        4 => body(),
        1 => Just((CONTINUATION, END_HEADERS, get())),
        2 => Just((RST_STREAM, 0, vec![0, 0, 0, 8])),
        1 => Just((RST_STREAM, 0, vec![0, 0, 8])),
        4 => other(),
    ];
    (stream, kind).prop_map(|(stream, (kind, flags, payload))| Sent {
        kind,
        flags,
        stream: if [SETTINGS, PING, GOAWAY].contains(&kind) && stream != 5 {
            0
        } else {
            stream
        },
        payload,
    })
}

type Parts = (u8, u8, Vec<u8>);

fn head() -> impl Strategy<Value = Parts> {
    let block = prop::sample::select(vec![
        get(),
        get(),
        get(),
        fields(&[METHOD_POST, SCHEME, AUTHORITY, PATH]),
        fields(&[
            METHOD_POST,
            SCHEME,
            AUTHORITY,
            PATH,
            ("content-length", "3"),
        ]),
        fields(&[METHOD_GET, SCHEME, AUTHORITY]),
        fields(&[METHOD_GET, SCHEME, AUTHORITY, PATH, ("X", "y")]),
        fields(&[METHOD_GET, SCHEME, AUTHORITY, ("x", "y"), PATH]),
        fields(&[METHOD_GET, SCHEME, AUTHORITY, PATH, ("connection", "close")]),
        fields(&[METHOD_GET, SCHEME, AUTHORITY, PATH, ("te", "trailers")]),
        fields(&[("x", "y")]),
        vec![0xff; 6],
        vec![0x80],
        Vec::new(),
    ]);
    let form = prop_oneof![8 => Just(0), 1 => Just(PADDED), 1 => Just(WITH_PRIORITY)];
    let flags = prop_oneof![
        8 => Just(END_HEADERS | END_STREAM),
        4 => Just(END_HEADERS),
        1 => Just(END_STREAM),
    ];
    (block, form, flags).prop_map(|(block, form, flags)| {
        let payload = match form {
            PADDED => [&[2][..], &block, &[0, 0]].concat(),
            WITH_PRIORITY => [&[0, 0, 0, 9, 16][..], &block].concat(),
            _ => block,
        };
        (HEADERS, flags | form, payload)
    })
}

fn body() -> impl Strategy<Value = Parts> {
    let payload = prop::sample::select(vec![
        Vec::new(),
        b"abc".to_vec(),
        vec![0; 16_384],
        vec![0; 16_385],
    ]);
    let flags = prop::sample::select(vec![0, END_STREAM, END_STREAM | PADDED]);
    (payload, flags).prop_map(|(payload, flags)| (DATA, flags, payload))
}

fn other() -> impl Strategy<Value = Parts> {
    let setting = |identifier: u8, value: u32| {
        let payload = [&[0, identifier][..], &value.to_be_bytes()].concat();
        (SETTINGS, 0, payload)
    };
    prop::sample::select(vec![
        (SETTINGS, 0, Vec::new()),
        (SETTINGS, ACK, Vec::new()),
        (SETTINGS, ACK, vec![0]),
        (SETTINGS, 0, vec![0; 5]),
        setting(2, 0),
        setting(2, 2),
        setting(4, 0x7fff_ffff),
        setting(4, 0x8000_0000),
        setting(5, 16_384),
        setting(5, 16_383),
        setting(5, 0x0100_0000),
        setting(99, 7),
        (PING, 0, vec![7; 8]),
        (PING, ACK, vec![7; 8]),
        (PING, 0, vec![7; 7]),
        (WINDOW_UPDATE, 0, vec![0, 0, 0, 1]),
        (WINDOW_UPDATE, 0, vec![0, 0, 0, 0]),
        (WINDOW_UPDATE, 0, vec![0x7f, 0xff, 0xff, 0xff]),
        (WINDOW_UPDATE, 0, vec![0, 0, 1]),
        (PRIORITY, 0, vec![0, 0, 0, 0, 16]),
        (PRIORITY, 0, vec![0, 0, 0, 9, 16]),
        (PRIORITY, 0, vec![0, 0, 0, 9]),
        (PUSH_PROMISE, END_HEADERS, vec![0, 0, 0, 2, 0x82]),
        (UNKNOWN, 0xff, vec![1, 2, 3]),
    ])
}

const METHOD_GET: (&str, &str) = (":method", "GET");
const METHOD_POST: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "one.test");
const PATH: (&str, &str) = (":path", "/");

fn get() -> Vec<u8> {
    fields(&[METHOD_GET, SCHEME, AUTHORITY, PATH])
}

/// A client that has sent all frames, and reads.
struct Asking {
    raw: Raw,
    outcome: Outcome,
    /// Whether the server has closed the connection.
    is_over: bool,
}

impl Asking {
    /// Sends frames, a ping and one more request, and reads until the server has answered that or has ended the
    /// connection.
    fn send(server: SocketAddr, frames: &[Sent]) -> Self {
        let mut asking = Self {
            raw: Raw::connect(server),
            outcome: Outcome::default(),
            is_over: false,
        };
        let all: Vec<u8> = frames
            .iter()
            .flat_map(|sent| frame(sent.kind, sent.flags, sent.stream, &sent.payload))
            .chain(frame(PING, 0, 0, &[1; 8]))
            .chain(frame(HEADERS, END_HEADERS | END_STREAM, LAST, &get()))
            .collect();
        asking.raw.write(&all);
        let deadline = Instant::now() + PATIENCE;
        while !asking.is_over && !asking.outcome.streams.contains_key(&LAST) {
            asking.read(deadline - Instant::now());
        }
        asking
    }

    /// Reads until the outcome has the streams of another, or for [`LATE`].
    fn read_on(&mut self, sent: &[Sent], other: &Outcome) {
        let deadline = Instant::now() + LATE;
        while !self.is_over && self.lacks(sent, other) && Instant::now() < deadline {
            self.read(deadline - Instant::now());
        }
    }

    fn lacks(&self, sent: &[Sent], other: &Outcome) -> bool {
        let streams = other.streams.keys();
        let mut streams = streams.filter(|stream| !is_reset(sent, **stream));
        streams.any(|stream| !self.outcome.streams.contains_key(stream))
    }

    /// Reads one frame, if one begins in this time.
    fn read(&mut self, patience: Duration) {
        let patience = patience.max(Duration::from_millis(1));
        self.raw.stream.set_read_timeout(Some(patience)).unwrap();
        match self.raw.stream.peek(&mut [0]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(0) | Err(_) => return self.end(),
        }
        match self.raw.read() {
            Some(frame) => self.record(&frame),
            None => self.end(),
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.outcome.error.get_or_insert(0);
    }

    fn record(&mut self, frame: &crate::frames::Frame) {
        match frame.kind {
            HEADERS => {
                // Both servers write 200 by its index (RFC 7541 appendix A).
                let fate = if frame.payload.first() == Some(&0x88) {
                    Fate::Answered
                } else {
                    Fate::Refused
                };
                self.outcome.add(frame.stream, fate);
            }
            RST_STREAM => self.outcome.add(frame.stream, Fate::Refused),
            GOAWAY => {
                let bytes = frame.payload[4..8].try_into().unwrap();
                let code = u32::from_be_bytes(bytes);
                self.outcome.error = Some(code).filter(|code| *code != 0);
            }
            _ => {}
        }
    }
}

impl Outcome {
    fn add(&mut self, stream: u32, fate: Fate) {
        self.refusals += usize::from(fate == Fate::Refused);
        self.streams.entry(stream).or_insert(fate);
    }
}

/// Returns true if the client resets a stream.
fn is_reset(sent: &[Sent], stream: u32) -> bool {
    let mut sent = sent.iter();
    sent.any(|sent| sent.kind == RST_STREAM && sent.stream == stream)
}

/// Streams with a second head that has pseudo-header fields, as trailers may not. The other server lets them pass.
fn has_wrong_trailers(sent: &[Sent]) -> Vec<u32> {
    let heads: Vec<_> = sent.iter().filter(|sent| sent.kind == HEADERS).collect();
    let has_pseudo = |payload: &[u8]| payload.windows(8).any(|bytes| bytes == b"\x07:method");
    let wrong = heads.iter().enumerate().filter(|(number, head)| {
        let mut before = heads[..*number].iter();
        has_pseudo(&head.payload) && before.any(|earlier| earlier.stream == head.stream)
    });
    wrong.map(|(_, head)| head.stream).collect()
}

/// Streams of requests whose head has a length.
fn with_length(sent: &[Sent]) -> Vec<u32> {
    let has_length = |sent: &&Sent| {
        let mut parts = sent.payload.windows(14);
        sent.kind == HEADERS && parts.any(|bytes| bytes == b"content-length")
    };
    sent.iter()
        .filter(has_length)
        .map(|sent| sent.stream)
        .collect()
}

/// Returns true for a `WINDOW_UPDATE` of zero for a stream.
fn is_empty_update(sent: &Sent) -> bool {
    sent.kind == WINDOW_UPDATE && sent.stream != 0 && sent.payload == [0; 4]
}

/// Why both outcomes are right.
fn reason(sent: &[Sent], ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
    match (ours.error, theirs.error) {
        (Some(_), Some(_)) => Some(
            "both end the connection; the code is theirs to choose, and answers before that are a matter of time",
        ),
        (Some(_), None) if theirs.refusals > 0 => {
            Some("an error that ends the connection may be taken as one of the stream")
        }
        (None, Some(_)) if ours.refusals > 0 => {
            Some("an error of a stream may be taken as one of the connection (RFC 9113 §5.4.2)")
        }
        (None, None) => {
            // What a client has reset may have been answered or refused before.
            let fates = |outcome: &Outcome| {
                let mut fates = outcome.streams.clone();
                fates.retain(|stream, _| !is_reset(sent, *stream));
                fates
            };
            let (mut ours, mut theirs) = (fates(ours), fates(theirs));
            for stream in has_wrong_trailers(sent) {
                if ours.remove(&stream) == Some(Fate::Refused) {
                    theirs.remove(&stream);
                }
            }
            // A body of a known length is whole before its stream ends: the endpoint answers then (RFC 9113 §8.1).
            for stream in with_length(sent) {
                if !theirs.contains_key(&stream) && ours.get(&stream) == Some(&Fate::Answered) {
                    ours.remove(&stream);
                }
            }
            (ours == theirs)
                .then_some("the same, but for pseudo-header fields in trailers (RFC 9113 §8.1)")
        }
        (None, Some(_)) if sent.iter().any(is_empty_update) => Some(
            "a stream that has ended has no window to update, so that the increment does not matter",
        ),
        // A stream that the client has reset gets no reset in return, so that its refusal does not show.
        (Some(_), None) | (None, Some(_)) if sent.iter().any(|sent| sent.kind == RST_STREAM) => {
            Some(
                "an error that ends the connection for one was of a stream that the client reset for the other",
            )
        }
        (Some(_), None) | (None, Some(_)) => None,
    }
}

struct Servers {
    proxy: Proxy,
    other: H2Origin,
    _origin: Origin,
}

impl Servers {
    fn start() -> Self {
        let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
        let other = H2Origin::start(
            |Asked {
                 request,
                 mut respond,
             }| async move {
                let mut body = request.into_body();
                while let Some(data) = body.data().await {
                    let Ok(data) = data else { return };
                    let _ = body.flow_control().release_capacity(data.len());
                }
                if body.trailers().await.is_err() {
                    return;
                }
                let response = Response::new(());
                if let Ok(mut stream) = respond.send_response(response, false) {
                    let _ = stream.send_data(Bytes::new(), true);
                }
            },
        );
        Self {
            proxy,
            other,
            _origin: origin,
        }
    }

    fn outcomes(&self, frames: &[Sent]) -> (Outcome, Outcome) {
        let mut ours = Asking::send(self.proxy.http, frames);
        let mut theirs = Asking::send(self.other.address, frames);
        loop {
            let before = (ours.outcome.clone(), theirs.outcome.clone());
            ours.read_on(frames, &theirs.outcome);
            theirs.read_on(frames, &ours.outcome);
            let after = (ours.outcome.clone(), theirs.outcome.clone());
            if before == after || reason(frames, &ours.outcome, &theirs.outcome).is_some() {
                return after;
            }
        }
    }
}

#[test]
fn frames_mean_the_same_to_both() {
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    for _ in 0..ROUNDS {
        // The other server ends after a while.
        let servers = Servers::start();
        proptest!(config.clone(), |(frames in frames())| {
            let (ours, theirs) = servers.outcomes(&frames);
            prop_assert!(
                reason(&frames, &ours, &theirs).is_some(),
                "ours {ours:?}, theirs {theirs:?}"
            );
        });
    }
}

const ROUNDS: u32 = 20;
/// A stream that no generated frame is of.
const LAST: u32 = 101;
/// How long an answer may take that the other server has given.
const LATE: Duration = Duration::from_secs(2);
