//! A loopback port of the machine that leads to a port in a network namespace.
//!
//! So `kubectl` and tests reach the cluster's API without the cluster having an address on the
//! machine: any number of clusters run side by side.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::host::Host;

/// A port that is forwarded for as long as this lives.
#[derive(Debug)]
pub(super) struct Forward {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Forwards a free port of 127.0.0.1 to `target` as it is seen from `host`.
    pub(super) fn start(host: &Host, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel::<()>();
        // The listener stays in the namespace that it was made in; connections are made in `host`.
        let thread = host.spawn(move || {
            let served = Builder::new_current_thread()
                .enable_all()
                .build()
                .map(|runtime| {
                    runtime.block_on(async {
                        tokio::select! {
                            result = serve(listener, target) => result,
                            _ = stopped => Ok(()),
                        }
                    })
                });
            debug_assert!(matches!(served, Ok(Ok(()))), "{served:?}");
        })?;
        Ok(Self {
            port,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Whoever can't be reached is a closed connection to the client.
            if let Ok(mut server) = TcpStream::connect(target).await {
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
