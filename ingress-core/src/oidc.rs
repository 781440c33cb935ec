//! Logins at an OpenID provider, as far as they are data: what is asked of the provider, what it answers, what
//! cookies hold (OpenID Connect Core 1.0 §3.1, RFC 6749, RFC 7636).
//!
//! `ir::OidcAuth` is what an Ingress asks for. The proxy draws the random numbers, encrypts the cookies and
//! carries the requests.
//!
//! Architecture invariant: nothing of a client or of a provider makes these functions panic or grow beyond the
//! text that they are given.

mod callback;
pub mod cookie;
mod login;
mod navigation;
mod provider;
mod request;
mod session;

pub use callback::{Callback, CallbackError, Outcome};
pub use login::Login;
pub use navigation::is_navigation;
pub use provider::{ClientAuthentication, Provider, ProviderError, discovery_url};
pub use request::{
    Authorization, TokenRequest, authorization_url, id_token, is_code_refused, logout_url,
    token_form,
};
pub use session::Session;
