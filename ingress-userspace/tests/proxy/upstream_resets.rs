//! Streams that clients break off do not cost other clients theirs on a shared connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use ingress_core::ir::UpstreamProtocol;
use tokio::sync::Notify;

use crate::grpc::speaking;
use crate::h2rig::{Asked, H2Origin, call, connect, read, run};
use crate::rig::Proxy;

/// Clients, and the streams that each breaks off: below what one client may.
const CLIENTS: usize = 6;
const CANCELS: usize = 100;

/// Resets that an endpoint takes on one connection at most.
const RESETS_MAX: usize = 250;

async fn count_to(events: &AtomicUsize, count: usize) {
    while events.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_connection_is_retired_before_its_peer_loses_patience() {
    // Requests for `/watch` that have come to the endpoint, and their ends.
    let events = Arc::new(AtomicUsize::new(0));
    let (counted, go_on) = (Arc::clone(&events), Arc::new(Notify::new()));
    let told = Arc::clone(&go_on);
    let origin = H2Origin::start(
        move |Asked {
                  request,
                  mut respond,
              }| {
            let (counted, told) = (Arc::clone(&counted), Arc::clone(&told));
            async move {
                if request.uri().path() == "/long" {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    told.notified().await;
                    stream.send_data(Bytes::from("all of it"), true).unwrap();
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                assert_eq!(reset.unwrap(), Reason::CANCEL);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        },
    );
    let proxy = Proxy::start(speaking(UpstreamProtocol::Http2, &[origin.address]));
    run(async {
        let victim = connect(proxy.http).await;
        let (response, _stream) = call(&victim, "/long").await;
        let response = response.await.unwrap();
        for _ in 0..CLIENTS {
            let client = connect(proxy.http).await;
            for _ in 0..CANCELS {
                let before = events.load(Ordering::SeqCst);
                let (response, mut stream) = call(&client, "/watch").await;
                count_to(&events, before + 1).await;
                stream.send_reset(Reason::CANCEL);
                drop(response);
                count_to(&events, before + 2).await;
            }
        }
        let connections = origin.connections();
        assert!(
            connections > CLIENTS * CANCELS / RESETS_MAX,
            "{connections}"
        );
        go_on.notify_one();
        assert_eq!(read(response).await.0, b"all of it");
    });
}
