//! Which program stands for which image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Programs by the last part of an image's name, without tag and registry.
#[derive(Clone, Debug, Default)]
pub struct Images {
    programs: BTreeMap<String, PathBuf>,
}

impl Images {
    /// The same with a program for `name`; its containers find it as `/name`, its entry point.
    #[must_use]
    pub fn with(mut self, name: &str, program: &Path) -> Self {
        self.programs.insert(name.to_owned(), program.to_owned());
        self
    }

    /// Names of all of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.programs.keys().map(String::as_str)
    }

    /// The program that stands for an image, and where its containers find it.
    pub fn find(&self, image: &str) -> Result<(&Path, PathBuf)> {
        let name = short_name(image);
        let program = self.programs.get(name);
        let program = program.with_context(|| format!("no program stands for image `{image}`"))?;
        Ok((program, Path::new("/").join(name)))
    }
}

/// `registry:5000/team/name:tag@digest` is `name`.
fn short_name(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(':').next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_tag_and_digest_are_no_part_of_the_name() {
        assert_eq!(short_name("origin"), "origin");
        assert_eq!(short_name("r.test:5000/a/sluice:1.0@sha256:00"), "sluice");
    }
}
