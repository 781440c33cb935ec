//! Clients that get nothing.

use ipnet::IpNet;

use super::canary::CanaryPattern;

/// Clients that get nothing but 403.
///
/// Source: ingress-nginx, ConfigMap keys `block-cidrs`, `block-user-agents` and `block-referers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// By their address.
    pub networks: Box<[IpNet]>,
    /// By their User-Agent.
    pub user_agents: Box<[BlockPattern]>,
    /// By their Referer.
    pub referers: Box<[BlockPattern]>,
}

/// Values of a field that are blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockPattern {
    /// This one, in lower case; letters of either case are the same.
    Text(Box<str>),
    /// Those that an expression is found in.
    Expression(CanaryPattern),
}

impl BlockPattern {
    /// # Errors
    ///
    /// A message that says what is wrong with the expression.
    pub fn expression(text: &str) -> Result<Self, String> {
        CanaryPattern::new(text).map(Self::Expression)
    }

    /// Whether a value is one of these.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Text(text) => value.eq_ignore_ascii_case(text.as_bytes()),
            Self::Expression(expression) => expression.is_found_in(value),
        }
    }
}
