//! One file of manifests: what is in it, and what was good in it last.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;

use tracing::debug;

use super::document::{self, Fault, Format};
use super::object::Located;
use super::{Problem, ProblemReason};

#[derive(Debug)]
pub(super) struct ManifestFile {
    pub(super) content: Content,
    /// Of the last good content.
    pub(super) objects: Vec<Located>,
    /// What is wrong with the content.
    pub(super) problem: Option<Problem>,
}

/// What was found in a file last, so that one that was touched but not changed is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Digest(u64),
    Unreadable(io::ErrorKind),
}

#[derive(PartialEq)]
pub(super) struct Found {
    pub(super) content: Content,
    bytes: Result<Vec<u8>, io::ErrorKind>,
}

impl Found {
    /// `None` when the file is gone.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = read_bounded(path).map_err(|error| error.kind());
        let content = match &bytes {
            Ok(bytes) => Content::Digest(digest(bytes)),
            Err(io::ErrorKind::NotFound) => return None,
            Err(kind) => Content::Unreadable(*kind),
        };
        Some(Self { content, bytes })
    }
}

impl Found {
    /// Whether there is nothing in the file.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.as_ref().is_ok_and(Vec::is_empty)
    }
}

impl ManifestFile {
    /// What was found in a file now, after what was in it last. An object that has not changed is
    /// the very same one.
    pub(super) fn new(path: &Path, found: Found, last: Option<Self>) -> Self {
        let Found { content, bytes } = found;
        let objects = bytes
            .map_err(|kind| Problem::of(path, ProblemReason::Read(kind)))
            .and_then(|bytes| parse(path, &bytes));
        let (objects, problem) = match objects {
            Ok(mut objects) => {
                keep_same(
                    &mut objects,
                    last.map(|last| last.objects).unwrap_or_default(),
                );
                (objects, None)
            }
            Err(problem) => (
                last.map(|last| last.objects).unwrap_or_default(),
                Some(problem),
            ),
        };
        debug!(file = %path.display(), objects = objects.len(), broken = problem.is_some(), "read");
        Self {
            content,
            objects,
            problem,
        }
    }
}

/// Puts the objects of `last` in the place of equal ones.
fn keep_same(objects: &mut [Located], last: Vec<Located>) {
    let mut last: HashMap<_, _> = last
        .into_iter()
        .map(|located| (located.object.reference(), located.object))
        .collect();
    for located in objects {
        if let Some(known) = last.remove(&located.object.reference())
            && known == located.object
        {
            located.object = known;
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Located>, Problem> {
    let problem = |line, reason| Problem {
        file: path.to_owned(),
        line,
        reason,
    };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(problem(None, ProblemReason::FileTooLarge));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count() as u64;
        problem(Some(line), ProblemReason::Invalid("is not UTF-8".into()))
    })?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let format = if is_json { Format::Json } else { Format::Yaml };
    document::read(text, format)
        .map_err(|Fault { line, message }| problem(line, ProblemReason::Invalid(message.into())))
}

/// One byte more than allowed is read at most, which tells that there is more.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let bound = FILE_BYTES_MAX as u64 + 1;
    // One byte more shows that there is none.
    let expected = file.metadata()?.len().min(bound) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bound of one file.
pub const FILE_BYTES_MAX: usize = 32 << 20;
