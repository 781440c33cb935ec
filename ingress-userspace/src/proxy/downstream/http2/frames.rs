//! What each frame of a client does.
//!
//! An error is one of the connection; what only a stream has done wrong ends that stream.

use std::mem;
use std::rc::Rc;
use std::time::Instant;

use ingress_wire::hpack::Decoder;
use ingress_wire::http2::Piece;
use ingress_wire::http2::frame::{
    ACK, ENABLE_CONNECT_PROTOCOL, FrameHead, INITIAL_WINDOW_SIZE, Kind, MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE, Reason, Setting, WINDOW_DEFAULT, WINDOW_MAX, setting, settings,
};

use super::blocks::Block;
use super::reset_budget::{ResetBudget, Spent};
use super::session::SharedState;
use super::stream::Stream;
use crate::proxy::downstream::driver::GOODBYE_GRACE;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::runtime::limits::{HTTP2_CONNECTION_BYTES_MAX, HTTP2_STREAM_BYTES_MAX};

/// What a connection knows about the frames that have come.
pub(crate) struct Frames {
    pub(crate) session: Rc<SharedState>,
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
    settings: SettingsExchange,
    /// Streams that were refused before the client knew our settings.
    refused_early: u32,
    departure: GoAwayState,
    budget: ResetBudget,
    /// What frames have cost beyond their bytes, in bytes that take as long to read.
    work: usize,
    /// Whether the client has said that it is to end.
    client_leaves: bool,
}

/// How far both sides know each other's settings.
#[derive(Default)]
struct SettingsExchange {
    /// Whether the client has sent its own.
    has_come: bool,
    /// Whether the client has acknowledged ours, and so knows how many streams it may open.
    is_known: bool,
}

/// How far the end of the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GoAwayState {
    Unknown,
    /// The client has been told, and may have begun streams before it hears of it.
    Announced {
        at: Instant,
        /// Streams that it has begun since.
        streams: u32,
    },
    /// It has heard of it: no stream comes after the last.
    Final,
}

impl Frames {
    pub(crate) fn new(session: &Rc<SharedState>, connection: &Rc<Connection>) -> Self {
        let limit = &connection.worker.limits;
        let mut output = session.output.borrow_mut();
        output.settings(&[
            setting(MAX_CONCURRENT_STREAMS, limit.http2_streams_max),
            setting(INITIAL_WINDOW_SIZE, HTTP2_STREAM_BYTES_MAX),
            setting(MAX_HEADER_LIST_SIZE, limit.head_bytes_max),
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
            settings: SettingsExchange::default(),
            refused_early: 0,
            departure: GoAwayState::Unknown,
            budget: ResetBudget::new(connection.worker.runtime.timers.now()),
            work: 0,
            client_leaves: false,
        }
    }

    pub(crate) fn worker(&self) -> &Rc<WorkerContext> {
        &self.connection.worker
    }

    /// Tells the client to begin nothing more. What it has begun by then is answered
    /// (RFC 9113 §6.8).
    pub(crate) fn send_goaway(&mut self) {
        if self.departure == GoAwayState::Unknown {
            self.departure = GoAwayState::Announced {
                at: self.worker().runtime.timers.now(),
                streams: 0,
            };
            let mut output = self.session.output.borrow_mut();
            output.go_away(WINDOW_MAX, Reason::NO_ERROR);
            output.ping(GOODBYE);
        }
    }

    /// Ends the time in which a client may not have heard of the goodbye: streams that it begins
    /// from now on are ignored, those that are open are answered (RFC 9113 §6.8).
    pub(crate) fn refuse_new_streams(&mut self, reason: Reason) {
        if self.departure != GoAwayState::Final {
            self.departure = GoAwayState::Final;
            let mut output = self.session.output.borrow_mut();
            output.go_away(self.last, reason);
        }
    }

    /// A client that never acknowledges the goodbye may not begin streams for ever.
    pub(crate) fn enforce_goodbye(&mut self) {
        let (now, streams_max) = {
            let worker = self.worker();
            (worker.runtime.timers.now(), worker.limits.http2_streams_max)
        };
        if let GoAwayState::Announced { at, streams } = &mut self.departure {
            *streams += 1;
            let is_late = now.saturating_duration_since(*at) > GOODBYE_GRACE;
            if is_late || *streams > streams_max {
                self.refuse_new_streams(Reason::NO_ERROR);
            }
        }
    }

    /// A request that comes after the last one that is answered.
    pub(crate) fn ignore_new_stream(&mut self, id: u32) -> Result<(), Reason> {
        if self.departure == GoAwayState::Final && id > self.last {
            return self.spend();
        }
        Ok(())
    }

    /// Refuses a stream beyond the number that may be open. A client that cannot know that number
    /// yet has done nothing wrong, within a bound.
    pub(crate) fn refuse_stream(&mut self, id: u32) -> Result<(), Reason> {
        if !self.settings.is_known && self.refused_early < REFUSED_EARLY_MAX {
            self.refused_early += 1;
            self.session.reset(id, Reason::REFUSED_STREAM);
            return Ok(());
        }
        self.fault(id, Reason::REFUSED_STREAM)
    }

    /// What frames have cost since this was asked last, in bytes that take as long to read.
    pub(crate) fn take_work(&mut self) -> usize {
        mem::take(&mut self.work)
    }

    /// Tells the client why the connection ends now.
    pub(crate) fn fail(&mut self, reason: Reason) {
        let mut output = self.session.output.borrow_mut();
        output.go_away(self.last, reason);
    }

    /// Whether nothing more is to come of the connection.
    pub(crate) fn is_over(&self) -> bool {
        let is_last = self.client_leaves || self.departure == GoAwayState::Final;
        is_last && self.session.streams_open() == 0
    }

    /// Applies one parsed frame.
    pub(crate) fn handle(&mut self, piece: Piece<'_>) -> Result<(), Reason> {
        match piece {
            Piece::Data(bytes, is_last) => {
                self.add(bytes);
                if is_last {
                    return self.finish();
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
        if is_expected && (self.settings.has_come || is_settings) {
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
        let is_too_late = self.departure == GoAwayState::Final && id > self.last;
        is_too_late || self.session.has_forgotten(id)
    }

    /// A stream ends because of what the client has done.
    pub(crate) fn fault(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.session.reset(id, reason);
        self.spend()
    }

    /// The client has provoked a reset. When it has done so too often, its open streams may finish
    /// and new ones are refused; if it goes on, the connection ends.
    pub(crate) fn spend(&mut self) -> Result<(), Reason> {
        let now = self.worker().runtime.timers.now();
        match self.budget.spend(now) {
            Spent::Granted => Ok(()),
            Spent::Exhausted => {
                self.refuse_new_streams(Reason::ENHANCE_YOUR_CALM);
                Ok(())
            }
            Spent::Overdrawn => Err(Reason::ENHANCE_YOUR_CALM),
        }
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
            // A response that has begun may be of no more use at any time: a watch, a video.
            if stream.has_response_head() {
                return Ok(());
            }
            return self.spend();
        }
        let is_idle = head.stream > self.last || head.stream.is_multiple_of(2);
        if is_idle && !self.is_ignored(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.has(ACK) {
            self.settings.is_known = true;
            let is_empty = payload.is_empty();
            return is_empty.then_some(()).ok_or(Reason::FRAME_SIZE_ERROR);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.settings.has_come = true;
        // Of several values for one setting the last counts (RFC 9113 §6.5.3).
        let mut window = None;
        for setting in settings(payload) {
            match setting? {
                Setting::Table => self.session.set_table(),
                Setting::Window(bytes) => window = Some(bytes),
            }
        }
        if let Some(bytes) = window {
            self.work += self.session.streams_open() * STREAM_UPDATE_WORK;
            self.session.set_stream_window(bytes)?;
        }
        self.session.output.borrow_mut().acknowledge_settings();
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let payload = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if !head.has(ACK) {
            self.session.output.borrow_mut().acknowledge_ping(payload);
        } else if payload == GOODBYE && matches!(self.departure, GoAwayState::Announced { .. }) {
            self.refuse_new_streams(Reason::NO_ERROR);
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
            return self.session.increase_window(bytes);
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
        match stream.increase_window(i64::from(bytes)) {
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

/// Streams that may be refused without a fault before a client has acknowledged our settings: as
/// many as one writes that takes the protocol's word for it that there is no bound.
const REFUSED_EARLY_MAX: u32 = 1_024;

/// What a change of one stream's window takes, in bytes that take as long to read.
const STREAM_UPDATE_WORK: usize = 16;

/// What a client that sends it back has read before (RFC 9113 §6.7).
const GOODBYE: [u8; 8] = *b"goodbye!";
