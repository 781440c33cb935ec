//! Clients whose requests are refused, by ingress-nginx's keys: `block-cidrs`, `block-user-agents`,
//! `block-referers`.

use std::sync::Arc;

use super::{Settings, access};
use crate::ir::{Block, BlockPattern};

/// Source: ingress-nginx, ConfigMap key `block-cidrs`.
pub(super) fn cidrs(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.block.networks = access::networks(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `block-user-agents`.
pub(super) fn user_agents(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.block.user_agents = patterns(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `block-referers`.
pub(super) fn referers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.block.referers = patterns(value)?;
    Ok(())
}

/// The clients to refuse; `None` if no key names any.
pub(super) fn block(settings: &Settings) -> Option<Arc<Block>> {
    (settings.block != Block::default()).then(|| Arc::new(settings.block.clone()))
}

/// Texts, or expressions behind `~` (or `~*`, without regard to case), with commas between them, as in
/// nginx's `map`.
fn patterns(value: &str) -> Result<Box<[BlockPattern]>, String> {
    let items = value.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    items
        .map(|item| {
            let expression = item
                .strip_prefix("~*")
                .map(|rest| format!("(?i){rest}"))
                .or_else(|| item.strip_prefix('~').map(str::to_owned));
            match expression {
                Some(expression) => BlockPattern::expression(&expression),
                None => Ok(BlockPattern::Text(item.to_ascii_lowercase().into())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_texts_or_expressions() {
        let mut settings = Settings::default();
        assert_eq!(block(&settings), None);
        user_agents("Bad Bot, ~^curl/, ~*spider", &mut settings).unwrap();
        let block = block(&settings).unwrap();
        let blocks = |agent: &str| {
            block
                .user_agents
                .iter()
                .any(|one| one.matches(agent.as_bytes()))
        };
        for agent in ["bad bot", "curl/8.0", "a SPIDER b"] {
            assert!(blocks(agent), "{agent}");
        }
        for agent in ["bad bot 2", "Curl/8.0", "", "Mozilla"] {
            assert!(!blocks(agent), "{agent}");
        }
        user_agents("~(", &mut settings).unwrap_err();
    }
}
