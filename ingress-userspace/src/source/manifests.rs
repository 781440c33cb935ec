//! A directory of manifests (or one file) as the source of objects.
//!
//! The files of the directory itself whose name ends in `.yaml`, `.yml` or `.json` are read, in
//! order of their names; hidden files and subdirectories are not. A file counts as a whole: while
//! it is broken, its last good content stays in force and a [`Problem`] says why. Kinds that have
//! no say in the configuration are skipped.

mod beta;
mod document;
mod endpoints;
mod file;
mod object;
mod watch;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ingress_core::ir::ObjectRef;
use ingress_core::snapshot::Snapshot;
use thiserror::Error;

pub use file::FILE_BYTES_MAX;
use file::{Found, ManifestFile};
use object::{Located, Object};
pub use watch::{Watch, Watched};

/// A directory of manifests, or one file, and what was last read from it.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    files: BTreeMap<PathBuf, ManifestFile>,
    /// What could not be read at all.
    unread: Vec<Problem>,
    /// What was given last.
    last: Loaded,
    /// Whether an object stands in two places.
    has_duplicates: bool,
}

/// What a reading found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The objects of all files.
    pub snapshot: Snapshot,
    /// What is wrong with which file, in order of files.
    pub problems: Vec<Problem>,
}

/// Something wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1, where one is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: ProblemReason,
}

impl Problem {
    fn of(file: &Path, reason: ProblemReason) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            reason,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, reason } = self;
        match line {
            Some(line) => write!(f, "{}:{line}: {reason}", file.display()),
            None => write!(f, "{}: {reason}", file.display()),
        }
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProblemReason {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Read(io::ErrorKind),
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("is larger than {FILE_BYTES_MAX} bytes")]
    FileTooLarge,
    /// The directory has more than [`FILES_MAX`] manifests; this is the first one left out.
    #[error("is left out, a directory may have {FILES_MAX} manifests")]
    TooManyFiles,
    /// No UTF-8, no YAML or JSON, or no object of the kind that it says it is.
    #[error("{0}")]
    Invalid(Box<str>),
    /// The same object was read before, in order of files.
    #[error("{object} is defined already in {first}, which counts")]
    Duplicate {
        /// The object.
        object: ObjectRef,
        /// The place of the one that counts, as `file:line`.
        first: String,
    },
}

/// The manifests cannot be used at all.
#[derive(Debug, Error)]
pub enum ManifestsError {
    /// Nothing there, or no permission.
    #[error("cannot open manifests `{}`", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No inotify instance or thread; the usual cause is `fs.inotify.max_user_instances`.
    #[error("cannot watch manifests `{}`", path.display())]
    Watch {
        /// What was to be watched.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Manifests {
    /// Opens a directory or a file; nothing is read yet.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ManifestsError> {
        let path = path.into();
        match fs::metadata(&path) {
            Ok(_) => Ok(Self {
                path,
                files: BTreeMap::new(),
                unread: Vec::new(),
                last: Loaded::default(),
                has_duplicates: false,
            }),
            Err(source) => Err(ManifestsError::Open { path, source }),
        }
    }

    /// Reads what changed since the last reading and gives everything.
    pub fn load(&mut self) -> Loaded {
        let scan = self.scan();
        self.apply(scan);
        self.assemble()
    }

    /// Begins to note changes of the files.
    pub fn watch(self) -> Result<Watched, ManifestsError> {
        let path = self.path.clone();
        Watched::new(self).map_err(|source| ManifestsError::Watch { path, source })
    }

    /// Reads the files without drawing any conclusion from them.
    fn scan(&self) -> Scan {
        let mut unread = Vec::new();
        let mut paths = match list(&self.path) {
            Ok(paths) => paths,
            // The last good content stays: a vanished directory is rather a mistake, or one about
            // to be replaced, than the wish to serve nothing.
            Err(error) => {
                unread.push(Problem::of(&self.path, ProblemReason::Read(error.kind())));
                let files = self.files.keys().map(|path| (path.clone(), None)).collect();
                return Scan { files, unread };
            }
        };
        if let Some(first_left_out) = paths.get(FILES_MAX) {
            unread.push(Problem::of(first_left_out, ProblemReason::TooManyFiles));
            paths.truncate(FILES_MAX);
        }
        let read = |path: PathBuf| {
            let known = self.files.get(&path).map(|file| file.content);
            let found = Found::read(&path)?;
            let news = (known != Some(found.content)).then_some(found);
            Some((path, news))
        };
        Scan {
            files: paths.into_iter().filter_map(read).collect(),
            unread,
        }
    }

    /// Whether a scan shows anything new.
    fn differs(&self, scan: &Scan) -> bool {
        scan.files.values().any(Option::is_some)
            || scan.files.len() != self.files.len()
            || scan.unread != self.unread
    }

    /// Takes what a scan read as the present state.
    fn apply(&mut self, scan: Scan) {
        let mut before = std::mem::take(&mut self.files);
        self.unread = scan.unread;
        for (path, news) in scan.files {
            let last = before.remove(&path);
            let file = match news {
                None => last,
                Some(found) => Some(ManifestFile::new(&path, found, last)),
            };
            self.files.extend(file.map(|file| (path, file)));
        }
    }

    /// Reads files of the directory that were written, and no others; gives those whose content is
    /// new. `None` if there is more to it than these files.
    fn read_again(&self, names: &BTreeSet<OsString>) -> Option<Vec<(PathBuf, Found)>> {
        let mut news = Vec::new();
        for name in names {
            let path = self.path.join(name);
            let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            let known = self.files.get(&path).filter(|_| is_file)?;
            let found = Found::read(&path)?;
            // Rather about to be written again than meant so.
            if found.is_empty() {
                return None;
            }
            if found.content != known.content {
                news.push((path, found));
            }
        }
        Some(news)
    }

    /// Takes what was read again of known files as their present state.
    fn take(&mut self, news: Vec<(PathBuf, Found)>) -> Loaded {
        let mut is_in_place = !self.has_duplicates;
        for (path, found) in news {
            let last = self.files.remove(&path);
            let before = last.as_ref().map(|last| last.objects.clone());
            is_in_place &= last.as_ref().is_some_and(|last| last.problem.is_none());
            let file = ManifestFile::new(&path, found, last);
            is_in_place &= file.problem.is_none();
            is_in_place = is_in_place && self.replace(&before.unwrap_or_default(), &file.objects);
            self.files.insert(path, file);
        }
        if is_in_place {
            self.last.clone()
        } else {
            self.assemble()
        }
    }

    /// Puts the objects of a file in the places of those that it had before, if they are of the
    /// same names; tells whether it did.
    fn replace(&mut self, before: &[Located], after: &[Located]) -> bool {
        let mut pairs = before.iter().zip(after);
        let are_same = |(a, b): (&Located, &Located)| a.object.reference() == b.object.reference();
        before.len() == after.len()
            && pairs.clone().all(are_same)
            && pairs.all(|(a, b)| b.object.replace(&a.object, &mut self.last.snapshot))
    }

    /// Does what a change of a file takes, and forgets it: the allocator gives each thread pages of
    /// its own for each size of blocks, which the first change is not to wait for.
    fn rehearse(&self) {
        let is_slice = |located: &Located| matches!(located.object, Object::EndpointSlice(_));
        let mut files = self.files.iter();
        let Some((path, file)) = files.find(|(_, file)| file.objects.iter().any(is_slice)) else {
            return;
        };
        self.read_again(&path.file_name().map(OsStr::to_owned).into_iter().collect());
        let read = |last| Some(ManifestFile::new(path, Found::read(path)?, last));
        let Some(changed) = read(None) else {
            return;
        };
        let mut snapshot = self.last.snapshot.clone();
        for (before, after) in file.objects.iter().zip(&changed.objects) {
            after.object.replace(&before.object, &mut snapshot);
        }
        read(Some(changed));
    }

    fn assemble(&mut self) -> Loaded {
        let mut problems = self.unread.clone();
        let mut snapshot = Snapshot::default();
        let mut seen = BTreeMap::new();
        self.has_duplicates = false;
        for (path, file) in &self.files {
            problems.extend(file.problem.clone());
            for Located { line, object } in &file.objects {
                match seen.entry(object.reference()) {
                    Entry::Vacant(entry) => {
                        entry.insert((path, *line));
                        object.add_to(&mut snapshot);
                    }
                    Entry::Occupied(entry) => {
                        self.has_duplicates = true;
                        let (first, first_line) = entry.get();
                        let first = format!("{}:{first_line}", first.display());
                        let reason = ProblemReason::Duplicate {
                            object: entry.key().clone(),
                            first,
                        };
                        problems.push(Problem {
                            file: path.clone(),
                            line: Some(*line),
                            reason,
                        });
                    }
                }
            }
        }
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let snapshot = object::sharing(snapshot, &self.last.snapshot);
        self.last = Loaded { snapshot, problems };
        self.last.clone()
    }
}

/// What the files of a directory hold right now.
#[derive(PartialEq)]
struct Scan {
    /// Every file there is, and its content if that is not the known one.
    files: BTreeMap<PathBuf, Option<Found>>,
    /// What could not be read at all.
    unread: Vec<Problem>,
}

/// The manifests at a path, in order of their names.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // Follows symbolic links: the files of a ConfigMap volume are such.
        if is_manifest(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Bound of the files of a directory.
pub const FILES_MAX: usize = 16_384;

#[cfg(test)]
mod tests;
