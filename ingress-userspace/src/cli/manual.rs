//! `sluice completion` and `sluice man`: made from the flags themselves.

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::settings::CommandLine;

/// The completions for a shell.
pub fn completion(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "sluice", &mut script);
    script
}

/// The manual page of the command, or of one of its verbs.
///
/// # Errors
///
/// Where there is no such verb.
pub fn page(verb: Option<&str>) -> Result<Vec<u8>> {
    let command = CommandLine::command();
    let command = match verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb);
            found
                .with_context(|| format!("there is no verb `{verb}`"))?
                .clone()
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_a_completion() {
        let script = String::from_utf8(completion(clap_complete::Shell::Bash)).unwrap();
        for verb in CommandLine::command().get_subcommands() {
            let name = verb.get_name();
            assert!(script.contains(name), "{name}");
            let page = String::from_utf8(page(Some(name)).unwrap()).unwrap();
            assert!(page.contains("SYNOPSIS"), "{name}");
        }
        page(Some("nothing")).unwrap_err();
        page(None).unwrap();
    }
}
