//! The shortcut's decisions: which sockets are two ends of one connection, and which bytes may go
//! from one to the other past TCP.
//!
//! The invariant: bytes arrive in the order in which they were sent. A reader of an enrolled socket
//! gets redirected bytes before those of TCP, so nothing is redirected while bytes of TCP are on their
//! way or unread.

use ingress_common::verdict::Reason;

/// The two ends of a connection while one of them sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// TCP state of the sender.
    pub sender_state: u8,
    /// TCP state of the receiver.
    pub receiver_state: u8,
    /// Sequence number after the last byte that the sender gave to TCP.
    pub written: u32,
    /// Sequence number of the next byte of TCP that the receiver reads.
    pub read: u32,
    /// Bytes that the receiver has and that nobody has read.
    pub unread_bytes: u32,
}

/// Decides how what is sent now reaches the receiver.
#[inline(always)]
#[must_use]
pub const fn judge(ends: &Ends) -> Reason {
    // With a FIN on its way, TCP alone knows what comes first; and what reaches a closed socket has to
    // be answered by a reset.
    if ends.sender_state != TCP_ESTABLISHED || ends.receiver_state != TCP_ESTABLISHED {
        Reason::Closing
    } else if ends.written != ends.read {
        Reason::BytesInFlight
    } else if ends.unread_bytes > UNREAD_BYTES_MAX {
        Reason::ReaderBehind
    } else {
        Reason::Redirected
    }
}

/// The sequence numbers of one end of a connection that was just established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The next byte that it sends.
    pub sends: u32,
    /// The next byte that it receives.
    pub receives: u32,
}

/// Whether two sockets are the ends of one connection over which nothing was sent yet.
///
/// Addresses and ports prove nothing: a workload may have the pod's address in a network namespace
/// of its own, and connections there. It cannot know the initial sequence numbers, 64 random bits.
#[inline(always)]
#[must_use]
pub const fn is_one_connection(proxy: Sequence, pod: Sequence) -> bool {
    proxy.sends == pod.receives && proxy.receives == pod.sends
}

/// Bytes that the receiver may leave unread before the sender is made to wait by TCP. Half of the
/// smallest receive buffer that Linux begins with: TCP's own window is never closed by them, which
/// would cost a probe to open.
pub const UNREAD_BYTES_MAX: u32 = 64 * 1024;
/// Bytes that are redirected by one decision. Larger sends are decided about again.
pub const REDIRECTED_BYTES_MAX: u32 = 64 * 1024;
/// `net/tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        sender_state: TCP_ESTABLISHED,
        receiver_state: TCP_ESTABLISHED,
        written: u32::MAX,
        read: u32::MAX,
        unread_bytes: 0,
    };

    #[test]
    fn bytes_are_redirected_when_the_reader_has_read_all_of_tcp() {
        assert_eq!(judge(&ENDS), Reason::Redirected);
        let behind = Ends { read: 7, ..ENDS };
        assert_eq!(judge(&behind), Reason::BytesInFlight);
    }

    #[test]
    fn slow_reader_makes_its_sender_wait() {
        let unread_bytes = UNREAD_BYTES_MAX;
        let full = Ends {
            unread_bytes,
            ..ENDS
        };
        assert_eq!(judge(&full), Reason::Redirected);
        let behind = Ends {
            unread_bytes: unread_bytes + 1,
            ..ENDS
        };
        assert_eq!(judge(&behind), Reason::ReaderBehind);
    }

    #[test]
    fn tcp_alone_carries_what_is_sent_while_an_end_closes() {
        for state in (0..=13).filter(|state| *state != TCP_ESTABLISHED) {
            let sender = Ends {
                sender_state: state,
                ..ENDS
            };
            let receiver = Ends {
                receiver_state: state,
                ..ENDS
            };
            assert_eq!(judge(&sender), Reason::Closing, "{state}");
            assert_eq!(judge(&receiver), Reason::Closing, "{state}");
        }
    }

    #[test]
    fn sockets_with_other_sequence_numbers_are_no_ends_of_one_connection() {
        let proxy = Sequence {
            sends: 1,
            receives: 2,
        };
        let pod = Sequence {
            sends: 2,
            receives: 1,
        };
        assert!(is_one_connection(proxy, pod));
        assert!(!is_one_connection(proxy, proxy));
        let sent_already = Sequence { sends: 9, ..proxy };
        assert!(!is_one_connection(sent_already, pod));
    }
}
