//! What each frame of a client does.
//!
//! An error is one of the connection; what only a stream has done wrong ends that stream.

use std::rc::Rc;

use super::blocks::Block;
use super::frame::{
    ACK, ENABLE_CONNECT_PROTOCOL, FrameHead, INITIAL_WINDOW_SIZE, Kind, MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE, Reason, Setting, WINDOW_DEFAULT, WINDOW_MAX, setting, settings,
};
use super::input::Piece;
use super::session::Session;
use super::stream::Stream;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::hpack::Decoder;
use crate::proxy::runtime::limits::{HTTP2_CONNECTION_BYTES_MAX, HTTP2_STREAM_BYTES_MAX};
use crate::proxy::worker::WorkerState;

/// What a connection knows about the frames that have come.
pub(crate) struct Frames {
    pub(crate) session: Rc<Session>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) decoder: Decoder,
    /// A field block that has not come to its end.
    pub(crate) block: Option<Box<Block>>,
    /// Whose body the DATA frame is for that comes; `None`: nobody's.
    pub(crate) sink: Option<Rc<Stream>>,
    /// Whether that frame is the last of its stream.
    pub(crate) is_last: bool,
    /// The largest identifier of a stream of the client's.
    pub(crate) last: u32,
    has_settings: bool,
    departure: Departure,
    /// Whether the client has said that it is to end.
    client_leaves: bool,
}

/// How far the end of the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    Unknown,
    /// The client has been told, and may have begun streams before it hears of it.
    Announced,
    /// It has heard of it: no stream comes after the last.
    Final,
}

impl Frames {
    pub(crate) fn new(session: &Rc<Session>, connection: &Rc<Connection>) -> Self {
        let limit = &connection.worker.client_limit;
        let mut output = session.output.borrow_mut();
        output.settings(&[
            setting(MAX_CONCURRENT_STREAMS, limit.http2_streams_max()),
            setting(INITIAL_WINDOW_SIZE, HTTP2_STREAM_BYTES_MAX),
            setting(MAX_HEADER_LIST_SIZE, limit.head_bytes_max()),
            setting(ENABLE_CONNECT_PROTOCOL, 1),
        ]);
        output.window_update(0, HTTP2_CONNECTION_BYTES_MAX - WINDOW_DEFAULT);
        drop(output);
        Self {
            session: Rc::clone(session),
            connection: Rc::clone(connection),
            decoder: Decoder::new(TABLE_BYTES_MAX),
            block: None,
            sink: None,
            is_last: false,
            last: 0,
            has_settings: false,
            departure: Departure::Unknown,
            client_leaves: false,
        }
    }

    pub(crate) fn worker(&self) -> &Rc<WorkerState> {
        &self.connection.worker
    }

    /// Tells the client to begin nothing more. What it has begun by then is answered
    /// (RFC 9113 §6.8).
    pub(crate) fn say_goodbye(&mut self) {
        if self.departure == Departure::Unknown {
            self.departure = Departure::Announced;
            let mut output = self.session.output.borrow_mut();
            output.go_away(WINDOW_MAX, Reason::NO_ERROR);
            output.ping(GOODBYE);
        }
    }

    /// Tells the client why the connection ends now.
    pub(crate) fn fail(&mut self, reason: Reason) {
        let mut output = self.session.output.borrow_mut();
        output.go_away(self.last, reason);
    }

    /// Whether nothing more is to come of the connection.
    pub(crate) fn is_over(&self) -> bool {
        let is_last = self.client_leaves || self.departure == Departure::Final;
        is_last && self.session.streams_open() == 0
    }

    /// What has come does what it is there for.
    pub(crate) fn handle(&mut self, piece: Piece<'_>) -> Result<(), Reason> {
        match piece {
            Piece::Data(bytes, is_last) => {
                self.add(bytes);
                if is_last {
                    self.finish();
                }
                Ok(())
            }
            Piece::DataBegins(head) => {
                self.check(head)?;
                self.begin_data(head, head.length)
            }
            Piece::Frame(head, payload) => {
                self.check(head)?;
                self.frame(head, payload)
            }
        }
    }

    /// The first frame is SETTINGS, and nothing comes between the frames of a field block.
    fn check(&self, head: FrameHead) -> Result<(), Reason> {
        let is_expected = match &self.block {
            Some(block) => head.kind == Kind::Continuation && head.stream == block.head.stream,
            None => head.kind != Kind::Continuation,
        };
        let is_settings = head.kind == Kind::Settings && !head.has(ACK);
        if is_expected && (self.has_settings || is_settings) {
            Ok(())
        } else {
            Err(Reason::PROTOCOL_ERROR)
        }
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let is_of_connection = matches!(head.kind, Kind::Settings | Kind::Ping | Kind::GoAway);
        let is_of_either = matches!(head.kind, Kind::WindowUpdate | Kind::Unknown(_));
        if !is_of_either && is_of_connection != (head.stream == 0) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            Kind::Data => self.padded_data(head, payload),
            Kind::Headers => self.headers(head, payload),
            Kind::Continuation => self.continuation(head, payload),
            Kind::Priority => self.priority(head, payload),
            Kind::Reset => self.reset(head, payload),
            Kind::Settings => self.settings(head, payload),
            Kind::Ping => self.ping(head, payload),
            Kind::GoAway => self.go_away(payload),
            Kind::WindowUpdate => self.window_update(head, payload),
            Kind::PushPromise => Err(Reason::PROTOCOL_ERROR),
            Kind::Unknown(_) => Ok(()),
        }
    }

    /// Whether what comes for a stream is of no interest.
    pub(crate) fn is_ignored(&self, id: u32) -> bool {
        let is_too_late = self.departure == Departure::Final && id > self.last;
        is_too_late || self.session.has_forgotten(id)
    }

    /// A stream ends because of what the client has done.
    pub(crate) fn fault(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.session.reset(id, reason);
        self.session.fault()
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let Ok(priority) = payload.try_into() else {
            return self.fault(head.stream, Reason::FRAME_SIZE_ERROR);
        };
        // Otherwise ignored (RFC 9113 §5.3.2).
        if depends_on_itself(priority, head.stream) {
            return self.fault(head.stream, Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn reset(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let code = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if let Some(stream) = self.session.stream(head.stream) {
            let reason = Reason::of(u32::from_be_bytes(code));
            self.session.reset_by_client(&stream, reason);
            return self.session.fault();
        }
        let is_idle = head.stream > self.last || head.stream.is_multiple_of(2);
        if is_idle && !self.is_ignored(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.has(ACK) {
            let is_empty = payload.is_empty();
            return is_empty.then_some(()).ok_or(Reason::FRAME_SIZE_ERROR);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.has_settings = true;
        for setting in settings(payload) {
            match setting? {
                Setting::Table => self.session.set_table(),
                Setting::Window(bytes) => self.session.set_stream_window(bytes)?,
            }
        }
        self.session.output.borrow_mut().acknowledge_settings();
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let payload = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if !head.has(ACK) {
            self.session.output.borrow_mut().acknowledge_ping(payload);
        } else if payload == GOODBYE && self.departure == Departure::Announced {
            self.departure = Departure::Final;
            let mut output = self.session.output.borrow_mut();
            output.go_away(self.last, Reason::NO_ERROR);
        }
        Ok(())
    }

    fn go_away(&mut self, payload: &[u8]) -> Result<(), Reason> {
        if payload.len() < 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.client_leaves = true;
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let bytes = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        let bytes = u32::from_be_bytes(bytes) & WINDOW_MAX;
        if head.stream == 0 {
            if bytes == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            return self.session.widen(bytes);
        }
        let Some(stream) = self.session.stream(head.stream) else {
            let is_idle = head.stream > self.last || head.stream.is_multiple_of(2);
            if is_idle && !self.is_ignored(head.stream) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            return Ok(());
        };
        if bytes == 0 {
            return self.fault(head.stream, Reason::PROTOCOL_ERROR);
        }
        match stream.widen(i64::from(bytes)) {
            Ok(()) => Ok(()),
            Err(reason) => self.fault(head.stream, reason),
        }
    }
}

pub(crate) fn depends_on_itself(priority: [u8; 5], stream: u32) -> bool {
    let [a, b, c, d, _] = priority;
    u32::from_be_bytes([a, b, c, d]) & WINDOW_MAX == stream
}

/// Bytes of the table that a client's fields are kept in: the default, which nobody has to be told.
const TABLE_BYTES_MAX: usize = 4_096;

/// What a client that sends it back has read before (RFC 9113 §6.7).
const GOODBYE: [u8; 8] = *b"goodbye!";
