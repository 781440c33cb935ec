//! Streams that share a connection.

use super::super::stream::RequestMeta;
use super::*;

fn open(session: &SharedState, id: u32) -> Rc<Stream> {
    let window = session.stream_window();
    let stream = Stream::new(id, &RequestMeta::default(), window, HTTP2_STREAM_BYTES_MAX);
    let stream = Rc::new(stream);
    session.add(Rc::clone(&stream));
    stream
}

fn window(session: &SharedState, stream: &Rc<Stream>) -> Poll<Result<usize, Reason>> {
    session.poll_window(stream, &Context::from_waker(Waker::noop()))
}

#[test]
fn streams_share_the_window_of_the_connection() {
    let session = SharedState::new();
    let (one, two) = (open(&session, 1), open(&session, 3));
    let mut left = WINDOW_DEFAULT as usize;
    while left > 0 {
        let Poll::Ready(Ok(room)) = window(&session, &one) else {
            panic!("{left} bytes are left");
        };
        assert!(room <= left && room <= PAYLOAD_BYTES_MAX);
        session.send(&one, vec![0; room].into(), false);
        session.output.take();
        left -= room;
    }
    assert!(window(&session, &one).is_pending());
    assert!(window(&session, &two).is_pending());
    session.increase_window(5).unwrap();
    assert!(window(&session, &one).is_pending(), "its own is empty");
    assert_eq!(window(&session, &two), Poll::Ready(Ok(5)));
    assert_eq!(
        session.increase_window(WINDOW_MAX),
        Err(Reason::FLOW_CONTROL_ERROR)
    );
}

#[test]
fn blocked_stream_is_woken_when_output_has_room() {
    let session = SharedState::new();
    let (one, two) = (open(&session, 1), open(&session, 3));
    session.increase_window(1 << 20).unwrap();
    session.output.borrow_mut().ping([0; 8]);
    let full = vec![0; HTTP2_OUTPUT_BYTES_MAX];
    session.output.borrow_mut().data(9, full.into(), false);
    for stream in [&one, &two, &one] {
        assert!(window(&session, stream).is_pending());
    }
    session.admit();
    assert_eq!(session.queue.borrow().len(), 2, "nothing has left");
    session.output.take();
    session.admit();
    assert!(session.queue.borrow().is_empty());
    assert!(one.is_admitted.get() && two.is_admitted.get());
    assert!(window(&session, &two).is_ready());
}

#[test]
fn the_room_of_what_was_read_is_given_back_in_large_pieces() {
    let session = SharedState::new();
    let stream = open(&session, 1);
    let half = HTTP2_STREAM_BYTES_MAX as usize / 2;
    session.release(Some(&stream), half - 1);
    assert_eq!(session.output.borrow().length(), 0);
    session.release(Some(&stream), 1);
    assert_eq!(session.output.borrow().length(), 9 + 4);
    session.release(None, HTTP2_CONNECTION_BYTES_MAX as usize / 2 - half);
    assert_eq!(session.output.borrow().length(), 2 * (9 + 4));
}

#[test]
fn streams_that_were_reset_are_remembered_and_not_for_ever() {
    let session = SharedState::new();
    for id in 0..1000 {
        session.reset(2 * id + 1, Reason::CANCEL);
    }
    assert!(session.has_forgotten(1999) && !session.has_forgotten(1));
    assert_eq!(session.forgotten.borrow().len(), FORGOTTEN_MAX);
}

#[test]
fn ended_stream_does_not_wait() {
    let session = SharedState::new();
    let stream = open(&session, 1);
    session.send(&stream, vec![0; WINDOW_DEFAULT as usize].into(), false);
    let waiting = open(&session, 3);
    assert!(window(&session, &waiting).is_pending());
    assert_eq!(session.queue.borrow().len(), 1);
    session.reset_by_client(&waiting, Reason::CANCEL);
    assert!(session.queue.borrow().is_empty());
    assert_eq!(window(&session, &waiting), Poll::Ready(Err(Reason::CANCEL)));
}
