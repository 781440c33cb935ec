//! Flags of TLS towards clients.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::proxy::{CipherSuites, TlsVersion};

/// Flags of TLS.
#[derive(Debug, Args)]
pub struct Tls {
    /// The oldest version of TLS that is spoken.
    #[arg(
        long,
        env = "SLUICE_TLS_MIN_VERSION",
        value_enum,
        default_value = "1.2"
    )]
    pub tls_min_version: MinVersion,

    /// Cipher suites by the names of OpenSSL or IANA, separated by colons [default: all good ones].
    #[arg(long, env = "SLUICE_TLS_CIPHERS", value_name = "NAMES",
          value_parser = CipherSuites::parse)]
    pub tls_ciphers: Option<CipherSuites>,

    /// File with keys for session tickets, one a line in base64, the newest first; followed when
    /// it changes. All nodes that have it resume each other's sessions [default: keys of this
    /// process].
    #[arg(long, env = "SLUICE_TLS_TICKET_KEYS", value_name = "FILE")]
    pub tls_ticket_keys: Option<PathBuf>,

    /// Whether sessions are resumed, by tickets; else each connection has a full handshake.
    #[arg(
        long,
        env = "SLUICE_TLS_SESSION_TICKETS",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub tls_session_tickets: bool,
}

/// The oldest version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MinVersion {
    /// RFC 5246.
    #[value(name = "1.2", alias = "TLSv1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3", alias = "TLSv1.3")]
    Tls13,
}

impl From<MinVersion> for TlsVersion {
    fn from(version: MinVersion) -> Self {
        match version {
            MinVersion::Tls12 => Self::Tls12,
            MinVersion::Tls13 => Self::Tls13,
        }
    }
}
