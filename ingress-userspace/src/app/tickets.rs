//! Follows the file of ticket keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use crate::proxy::{TicketKeys, Tickets, TlsOptions};
use crate::settings::Run;

/// What TLS towards clients may be; keys of tickets follow their file from now on.
pub(super) fn options(flags: &Run) -> Result<TlsOptions> {
    let tickets = match &flags.tls.tls_ticket_keys {
        _ if !flags.tls.tls_session_tickets => Tickets::Off,
        Some(path) => Tickets::Shared(shared(path)?),
        None => Tickets::Own,
    };
    Ok(TlsOptions {
        min_version: flags.tls.tls_min_version.into(),
        cipher_suites: flags.tls.tls_ciphers.clone(),
        tickets,
    })
}

fn shared(path: &Path) -> Result<Arc<TicketKeys>> {
    let read = || -> Result<_> {
        let text = fs::read_to_string(path)?;
        Ok((TicketKeys::parse(&text)?, text))
    };
    let (keys, text) =
        read().with_context(|| format!("failed to read ticket keys from `{}`", path.display()))?;
    tokio::spawn(follow(path.to_owned(), text, Arc::clone(&keys)));
    Ok(keys)
}

/// Reads the file again and again: a mounted Secret is exchanged by a link, of which a watch on
/// the file sees nothing.
async fn follow(path: PathBuf, mut known: String, keys: Arc<TicketKeys>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Ok(text) = fs::read_to_string(&path) else {
            // It is gone for a moment, or for good: the last keys stay.
            continue;
        };
        if text == known {
            continue;
        }
        match keys.replace(&text) {
            Ok(()) => info!(path = %path.display(), "ticket keys have changed"),
            Err(error) => {
                warn!(path = %path.display(), %error, "keeping the previous session ticket keys");
            }
        }
        known = text;
    }
}

/// How late a new key may be used. Keys are known everywhere before tickets are made by them only
/// if they come as second ones first.
const INTERVAL: Duration = Duration::from_secs(1);
