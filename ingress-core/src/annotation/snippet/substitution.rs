//! `sub_filter` and its settings.
//!
//! Source: nginx, `ngx_http_sub_filter_module`.

use std::sync::Arc;

use super::refused;
use super::syntax::Directive;
use crate::ir::Substitution;

/// The replacements of all snippets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SubstitutionSettings {
    pairs: Vec<(Box<str>, Box<str>)>,
    replaces_all: bool,
    types: Vec<Box<str>>,
    keeps_last_modified: bool,
}

impl SubstitutionSettings {
    /// Reads a directive. Returns whether it is one of this module.
    ///
    /// # Errors
    ///
    /// In words, for a text that nginx would refuse, or that has variables.
    pub(super) fn read(&mut self, directive: &Directive) -> Result<bool, String> {
        let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        match (&*directive.name, &arguments[..]) {
            ("sub_filter", [text, replacement]) => {
                let has_variable = text.contains('$') || replacement.contains('$');
                if text.is_empty() || has_variable || self.pairs.len() == PAIRS_MAX {
                    return Err(refused(directive));
                }
                let pair = (text.to_ascii_lowercase().into(), (*replacement).into());
                self.pairs.push(pair);
            }
            ("sub_filter_once", [switch]) => {
                self.replaces_all = !is_on(switch).ok_or_else(|| refused(directive))?;
            }
            ("sub_filter_last_modified", [switch]) => {
                self.keeps_last_modified = is_on(switch).ok_or_else(|| refused(directive))?;
            }
            ("sub_filter_types", types) if !types.is_empty() => {
                let types = types.iter().map(|one| one.to_ascii_lowercase().into());
                self.types.extend(types);
            }
            (name, _) if name.starts_with("sub_filter") => return Err(refused(directive)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The replacements, if there are any.
    pub(super) fn substitution(&self) -> Option<Arc<Substitution>> {
        (!self.pairs.is_empty()).then(|| {
            Arc::new(Substitution {
                pairs: self.pairs.clone().into(),
                is_once: !self.replaces_all,
                types: self.types.clone().into(),
                keeps_last_modified: self.keeps_last_modified,
            })
        })
    }
}

/// nginx's switches, which are not Go's booleans.
fn is_on(switch: &str) -> Option<bool> {
    match switch {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// Each byte of a body is compared with the first bytes of all of them.
const PAIRS_MAX: usize = 64;
