//! A list of objects whose versions share what they have in common.
//!
//! One object among 100,000 changes, and the snapshot that follows has a new list. It is cut into
//! chunks that are shared by pointer, as [`SortedMap`](crate::sorted::SortedMap) is: a new version
//! copies one chunk, is told from the last one by the chunks that are not the same, and touches the
//! reference counts of no other objects. Nothing of it is large: a block of a size that is rarely
//! asked for may lie in memory that the kernel has to clear first.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::iter::FusedIterator;
use std::slice;
use std::sync::Arc;

/// A persistent list of objects; a clone costs nothing.
#[derive(Debug)]
pub struct List<T> {
    /// None of them empty, and all but the last of at least [`CHUNK_MIN`] objects.
    chunks: Arc<Vec<Arc<Chunk<T>>>>,
    len: usize,
}

type Chunk<T> = Vec<Arc<T>>;

/// Objects that only one of two lists has, in their order.
#[derive(Debug)]
pub struct Difference<'a, T> {
    /// In the first list.
    pub gone: Vec<&'a Arc<T>>,
    /// In the second list.
    pub new: Vec<&'a Arc<T>>,
}

impl<T> List<T> {
    /// Objects.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is the very same list, not merely an equal one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// Objects in their order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter {
            chunks: self.chunks.iter(),
            objects: [].iter(),
            left: self.len,
        }
    }

    /// Adds an object at the end; copies what other versions share of the last chunk.
    pub fn push(&mut self, object: Arc<T>) {
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut().filter(|last| last.len() < CHUNK_FILLED) {
            Some(last) => Arc::make_mut(last).push(object),
            None => chunks.push(Arc::new(vec![object])),
        }
        self.len += 1;
    }

    /// Puts an object in the place of this one; copies what other versions share of its chunk.
    /// Tells whether this one was there.
    pub fn replace(&mut self, before: &Arc<T>, after: &Arc<T>) -> bool {
        let in_chunk = |chunk: &Arc<Chunk<T>>| position(chunk, before);
        let mut places = self.chunks.iter().enumerate();
        let place = places.find_map(|(number, chunk)| Some((number, in_chunk(chunk)?)));
        let Some((number, place)) = place else {
            return false;
        };
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(number);
        if let Some(slot) = chunk.and_then(|chunk| Arc::make_mut(chunk).get_mut(place)) {
            *slot = Arc::clone(after);
        }
        true
    }

    /// A list of `objects`, which has those chunks of this one that stay the same, and is this one
    /// if all do.
    #[must_use]
    pub fn following(&self, objects: impl IntoIterator<Item = impl Borrow<Arc<T>>>) -> Self {
        let mut following = Following {
            later: &self.chunks,
            same: 0,
            chunks: Vec::with_capacity(self.chunks.len()),
            own: Vec::new(),
            len: 0,
        };
        for object in objects {
            following.push(object.borrow());
        }
        let list = following.finish();
        let mut pairs = self.chunks.iter().zip(&*list.chunks);
        if self.len == list.len && pairs.all(|(a, b)| Arc::ptr_eq(a, b)) {
            self.clone()
        } else {
            list
        }
    }

    /// What differs between this list and `after`, where no list has an object twice. Nothing is
    /// looked at that both share.
    pub fn difference<'a>(&'a self, after: &'a Self) -> Difference<'a, T> {
        let (mut gone, mut new) = (self.unshared(after), after.unshared(self));
        let (before, after) = (addresses(&gone), addresses(&new));
        gone.retain(|object| !after.contains(&Arc::as_ptr(object)));
        new.retain(|object| !before.contains(&Arc::as_ptr(object)));
        Difference { gone, new }
    }

    /// Objects of chunks that the other list does not have.
    fn unshared(&self, other: &Self) -> Vec<&Arc<T>> {
        let others: HashSet<_> = other.chunks.iter().map(Arc::as_ptr).collect();
        let chunks = self.chunks.iter();
        let unshared = chunks.filter(|chunk| !others.contains(&Arc::as_ptr(chunk)));
        unshared.flat_map(|chunk| &**chunk).collect()
    }
}

fn addresses<T>(objects: &[&Arc<T>]) -> HashSet<*const T> {
    objects.iter().map(|object| Arc::as_ptr(object)).collect()
}

fn position<T>(chunk: &[Arc<T>], object: &Arc<T>) -> Option<usize> {
    chunk.iter().position(|known| Arc::ptr_eq(known, object))
}

/// A list that is made of objects in their order and of chunks of another list.
struct Following<'a, T> {
    /// Chunks of the other list that may come yet.
    later: &'a [Arc<Chunk<T>>],
    /// Objects that came last and are those that the first of these begins with.
    same: usize,
    chunks: Vec<Arc<Chunk<T>>>,
    /// Objects that came last and are in no chunk yet; none while there are some of `same`.
    own: Chunk<T>,
    len: usize,
}

impl<T> Following<'_, T> {
    fn push(&mut self, object: &Arc<T>) {
        self.len += 1;
        if !self.goes_on_with(object) {
            self.leave();
        }
        if self.same == 0 && !self.begins_with(object) {
            self.own.push(Arc::clone(object));
            if self.own.len() == CHUNK_MAX {
                self.close();
            }
            return;
        }
        self.same += 1;
        // A small one may stay only if nothing comes after it.
        if self.same >= CHUNK_MIN {
            self.take_whole();
        }
    }

    /// Takes the chunk that is the same so far if that is all of it.
    fn take_whole(&mut self) {
        if let Some((chunk, later)) = self.later.split_first()
            && chunk.len() == self.same
        {
            self.chunks.push(Arc::clone(chunk));
            self.later = later;
            self.same = 0;
        }
    }

    /// Whether an object is the next one of the chunk that is the same so far.
    fn goes_on_with(&self, object: &Arc<T>) -> bool {
        let next = self.later.first().and_then(|chunk| chunk.get(self.same));
        next.is_some_and(|next| Arc::ptr_eq(next, object))
    }

    /// Looks for a chunk that begins with this object, unless one before it would stay small.
    fn begins_with(&mut self, object: &Arc<T>) -> bool {
        if (1..CHUNK_MIN).contains(&self.own.len()) {
            return false;
        }
        let begins = |chunk: &Arc<Chunk<T>>| {
            let first = chunk.first();
            first.is_some_and(|first| Arc::ptr_eq(first, object))
        };
        let Some(passed) = self.later.iter().take(CHUNKS_AHEAD).position(begins) else {
            return false;
        };
        self.later = self.later.get(passed..).unwrap_or_default();
        self.close();
        true
    }

    /// Copies what is the same so far of a chunk that is another one now.
    fn leave(&mut self) {
        if let Some((chunk, later)) = self.later.split_first()
            && self.same > 0
        {
            self.own.extend(chunk.iter().take(self.same).cloned());
            self.later = later;
            self.same = 0;
        }
    }

    fn close(&mut self) {
        if !self.own.is_empty() {
            self.chunks.push(Arc::new(std::mem::take(&mut self.own)));
        }
    }

    fn finish(mut self) -> List<T> {
        self.take_whole();
        self.leave();
        self.close();
        List {
            chunks: Arc::new(self.chunks),
            len: self.len,
        }
    }
}

/// Objects of a list in their order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    chunks: slice::Iter<'a, Arc<Chunk<T>>>,
    /// Of the chunk that it is at.
    objects: slice::Iter<'a, Arc<T>>,
    left: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a Arc<T>;

    fn next(&mut self) -> Option<&'a Arc<T>> {
        loop {
            if let Some(object) = self.objects.next() {
                self.left -= 1;
                return Some(object);
            }
            self.objects = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            objects: self.objects.clone(),
            left: self.left,
        }
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a Arc<T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Extend<Arc<T>> for List<T> {
    fn extend<I: IntoIterator<Item = Arc<T>>>(&mut self, objects: I) {
        for object in objects {
            self.push(object);
        }
    }
}

impl<T> FromIterator<Arc<T>> for List<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(objects: I) -> Self {
        let mut list = Self::default();
        list.extend(objects);
        list
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self {
            chunks: Arc::clone(&self.chunks),
            len: self.len,
        }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.iter().eq(other)
    }
}

/// Objects of a chunk.
const CHUNK_MAX: usize = 256;
/// Objects of a chunk at least, unless it is the last: lists that follow each other for long do
/// not end in as many chunks as they have objects.
const CHUNK_MIN: usize = CHUNK_MAX / 4;
/// Objects of a chunk of a list that is made one by one.
const CHUNK_FILLED: usize = CHUNK_MAX / 2;
/// Chunks among which the next one that stays the same is looked for. Objects that go are few, or
/// so many that nothing is won by sharing the rest.
const CHUNKS_AHEAD: usize = 4;

#[cfg(test)]
mod tests;
