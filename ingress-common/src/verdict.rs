//! Why a packet went where it went: the one list of reasons for counters, metrics and status.
//!
//! Every packet that a program sees adds one to exactly one (program, reason) cell of the
//! `COUNTERS` map.

/// The programs that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Program {
    /// XDP on the uplinks.
    Guard = 0,
    /// TC ingress on the uplinks.
    Steer = 1,
    /// TC ingress on the host side of the gate.
    ReturnPath = 2,
    /// `sk_lookup` in the ingress netns.
    Dispatch = 3,
    /// `sock_ops` and `sk_msg` of the connections between the proxy and pods of this node. It counts
    /// what is sent, by call, in place of packets.
    Shortcut = 4,
}

impl Program {
    /// All of them, in counter order.
    pub const ALL: [Self; 5] = [
        Self::Guard,
        Self::Steer,
        Self::ReturnPath,
        Self::Dispatch,
        Self::Shortcut,
    ];

    /// Name of the program's entry point (the shortcut has three), and its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Steer => "steer",
            Self::ReturnPath => "return_path",
            Self::Dispatch => "dispatch",
            Self::Shortcut => "shortcut",
        }
    }
}

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left to the host stack, untouched.
    Pass,
    /// Carried past the host stack, assigned to a worker, or sent back as an answer.
    Redirect,
    /// Dropped.
    Drop,
}

/// Declares the reasons with their verdict and label, so that none can lack either.
macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $index:literal, $verdict:ident, $label:literal; )+) => {
        /// Why; each belongs to one [`Verdict`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason { $( $(#[doc = $doc])+ $name = $index, )+ }

        impl Reason {
            /// All of them, in counter order.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// The verdict that it stands for.
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $( Self::$name => Verdict::$verdict, )+ }
            }

            /// Its meaning, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+), )+ }
            }

            /// Its label in metrics and status.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $( Self::$name => $label, )+ }
            }
        }
    };
}

reasons! {
    /// Passed by the guard: nothing wrong with it.
    Accepted = 0, Pass, "accepted";
    /// Neither IPv4 nor IPv6.
    NotIp = 1, Pass, "not_ip";
    /// Ends before its headers do, or a header contradicts itself.
    Unparsable = 2, Pass, "unparsable";
    /// More extension headers or tags than are looked at.
    TooDeep = 3, Pass, "too_deep";
    /// An IP protocol that is never ours.
    OtherProtocol = 4, Pass, "other_protocol";
    /// Addressed to something else.
    NotOurs = 5, Pass, "not_ours";
    /// Not addressed to this host at the link layer.
    OtherHost = 6, Pass, "other_host";
    /// A later fragment whose first fragment was not steered.
    UnknownFragment = 7, Pass, "unknown_fragment";
    /// Ours, but no worker is listening.
    NoListener = 8, Pass, "no_listener";
    /// Belongs to a connection that a host listener serves.
    HostConnection = 9, Pass, "host_connection";
    /// User space has not said where to steer.
    NotReady = 10, Pass, "not_ready";
    /// The routing table has no forwarding answer.
    NoRoute = 11, Pass, "no_route";
    /// The route leaves through a device whose replies would not come back to us.
    UnsteeredDevice = 12, Pass, "unsteered_device";
    /// Its time to live ends here.
    TtlExpired = 13, Pass, "ttl_expired";
    /// Larger than the next device carries.
    TooBig = 14, Pass, "too_big";
    /// Addressed to a frontend.
    Frontend = 15, Redirect, "frontend";
    /// A reply to an upstream connection.
    Upstream = 16, Redirect, "upstream";
    /// An ICMP error that quotes a steered flow.
    IcmpError = 17, Redirect, "icmp_error";
    /// A later fragment of a steered datagram.
    Fragment = 18, Redirect, "fragment";
    /// Sent to its next hop.
    Forwarded = 19, Redirect, "forwarded";
    /// Assigned to a worker's listening socket.
    Assigned = 20, Redirect, "assigned";
    /// TCP without any flag.
    TcpNull = 21, Drop, "tcp_null";
    /// TCP with FIN, PSH and URG together.
    TcpXmas = 22, Drop, "tcp_xmas";
    /// TCP with SYN and FIN, or SYN and RST.
    TcpSynFin = 23, Drop, "tcp_syn_fin";
    /// TCP from port 0.
    TcpPortZero = 24, Drop, "tcp_port_zero";
    /// A TCP header length below 20 bytes or beyond the packet.
    TcpHeaderLength = 25, Drop, "tcp_header_length";
    /// Addressed to a frontend, inside a connection that no worker has.
    NoConnection = 26, Pass, "no_connection";
    /// Addressed to a frontend, through a device of which only replies are taken: the host's
    /// policies for pods judge it.
    PodClient = 27, Pass, "pod_client";
    /// Has a VLAN tag for which the host has no device.
    ForeignVlan = 28, Pass, "foreign_vlan";
    /// Would open a connection from a network that may not.
    ForeignSource = 29, Drop, "foreign_source";
    /// Sent into the receive queue of the other end's socket.
    Redirected = 30, Redirect, "redirected";
    /// Sent by TCP: the other end is not enrolled.
    NotEnrolled = 31, Pass, "not_enrolled";
    /// Sent by TCP: an end of the connection is about to close.
    Closing = 32, Pass, "closing";
    /// Sent by TCP: bytes before it went by TCP and are not read yet.
    BytesInFlight = 33, Pass, "bytes_in_flight";
    /// Sent by TCP, which makes its sender wait: the other end has much to read already.
    ReaderBehind = 34, Pass, "reader_behind";
    /// Sent by TCP: a request with a body, or no HTTP/1.1 request.
    NotEligible = 35, Pass, "not_eligible";
    /// A socket of the proxy was enrolled.
    ProxyEnrolled = 36, Pass, "proxy_enrolled";
    /// The pod's socket of the same connection was enrolled.
    PodEnrolled = 37, Pass, "pod_enrolled";
    /// A socket with the same addresses and ports is not the other end: its sequence numbers differ,
    /// or bytes were sent before it could be enrolled.
    PodUnproven = 38, Pass, "pod_unproven";
    /// Comes from a network that is denied.
    Denied = 39, Drop, "denied";
    /// Would open a connection beyond the budget of its source.
    OverBudget = 40, Drop, "over_budget";
    /// Passed by the guard: would open a connection to a frontend.
    Opening = 41, Pass, "opening";
    /// Answered by the guard with a cookie, in the place of the listener.
    SynAnswered = 42, Redirect, "syn_answered";
}

/// Reasons that the counter map has room for, for each program.
pub const REASONS_MAX: u32 = 64;

const _: () = assert!(
    Reason::ALL.len() <= REASONS_MAX as usize,
    "counter map is too small"
);

/// Index into the `COUNTERS` map.
#[inline(always)]
#[must_use]
pub const fn counter_index(program: Program, reason: Reason) -> u32 {
    program as u32 * REASONS_MAX + reason as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_program_and_reason_has_a_counter_of_its_own() {
        let mut cells = HashSet::new();
        for program in Program::ALL {
            for reason in Reason::ALL {
                let cell = counter_index(program, *reason);
                assert_eq!(cell / REASONS_MAX, program as u32);
                assert!(cells.insert(cell), "{program:?} {reason:?}");
            }
        }
    }

    #[test]
    fn reasons_stand_in_counter_order_and_differ_in_their_labels() {
        let mut labels = HashSet::new();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(labels.insert(reason.label()), "{reason:?}");
        }
    }

    #[test]
    fn only_malformed_tcp_and_unwanted_sources_are_reasons_to_drop() {
        for reason in Reason::ALL {
            let is_drop = reason.verdict() == Verdict::Drop;
            let is_malformed = reason.label().starts_with("tcp_");
            let is_unwanted = matches!(
                reason,
                Reason::ForeignSource | Reason::Denied | Reason::OverBudget
            );
            assert_eq!(is_drop, is_malformed || is_unwanted, "{reason:?}");
        }
    }
}
