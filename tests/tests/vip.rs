//! One address for many edge nodes: two nodes, and the programs that announce an address of theirs.
//!
//! Each test shows that clients reach the address over IPv4 and IPv6, that the node tracks none of their
//! connections and pods are told who they are, that a planned withdrawal loses no request, and how long a
//! killed daemon is missed.

mod vip {
    mod adopted;
    mod flow;
    mod keepalived;
    mod routed;
    mod scene;
}
