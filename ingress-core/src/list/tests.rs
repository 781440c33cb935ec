//! A list is a vector, and shares.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Objects = Vec<Arc<u16>>;

fn objects(numbers: std::ops::Range<u16>) -> Objects {
    numbers.map(Arc::new).collect()
}

fn same(list: &List<u16>, objects: &[Arc<u16>]) -> bool {
    let iter = list.iter();
    iter.len() == objects.len() && iter.zip(objects).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn has_full_chunks(list: &List<u16>) -> bool {
    let Some((end, others)) = list.chunks.split_last() else {
        return list.is_empty();
    };
    let mut sizes = others.iter().map(|chunk| chunk.len());
    sizes.all(|size| (CHUNK_MIN..=CHUNK_MAX).contains(&size))
        && (1..=CHUNK_MAX).contains(&end.len())
}

/// What happens to a list in one step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u16),
    Replace(usize, u16),
    /// So many from this place on leave, and so many come there.
    Follow(usize, usize, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let few_or_many = || prop_oneof![4 => 0..3_usize, 1 => 0..600_usize];
    prop_oneof![
        (0..300_u16).prop_map(Step::Push),
        (any::<usize>(), any::<u16>()).prop_map(|(at, object)| Step::Replace(at, object)),
        (any::<usize>(), few_or_many(), few_or_many()).prop_map(|(at, leaving, coming)| {
            Step::Follow(at, leaving, u16::try_from(coming).unwrap())
        }),
    ]
}

fn apply(step: Step, list: &mut List<u16>, vec: &mut Objects) {
    match step {
        Step::Push(count) => {
            let new = objects(0..count);
            list.extend(new.iter().cloned());
            vec.extend(new);
        }
        Step::Replace(at, object) => {
            let object = Arc::new(object);
            if !vec.is_empty() {
                let at = at % vec.len();
                assert!(list.replace(&vec[at], &object));
                vec[at] = Arc::clone(&object);
            }
            assert!(!list.replace(&Arc::new(0), &object));
        }
        Step::Follow(at, leaving, coming) => {
            let at = at % (vec.len() + 1);
            let end = (at + leaving).min(vec.len());
            vec.splice(at..end, objects(0..coming));
            *list = list.following(&*vec);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_what_a_vector_is(start in 0..1_500_u16, steps in vec(step(), 0..12)) {
        let mut vec = objects(0..start);
        let mut list: List<u16> = vec.iter().cloned().collect();
        for step in steps {
            let (before, list_before) = (vec.clone(), list.clone());
            apply(step, &mut list, &mut vec);
            prop_assert!(same(&list, &vec));
            prop_assert!(same(&list_before, &before));
            prop_assert_eq!(list.len(), vec.len());
            prop_assert_eq!(list.is_empty(), vec.is_empty());
            prop_assert!(has_full_chunks(&list));
            prop_assert_eq!(list == list_before, vec == before);

            let missing = |from: &Objects, other: &Objects| -> Vec<_> {
                let other: HashSet<_> = other.iter().map(Arc::as_ptr).collect();
                let addresses = from.iter().map(Arc::as_ptr);
                addresses.filter(|object| !other.contains(object)).collect()
            };
            let Difference { gone, new } = list_before.difference(&list);
            let addresses = |objects: Vec<&Arc<u16>>| -> Vec<_> {
                objects.into_iter().map(Arc::as_ptr).collect()
            };
            prop_assert_eq!(addresses(gone), missing(&before, &vec));
            prop_assert_eq!(addresses(new), missing(&vec, &before));
        }
    }

    #[test]
    fn what_follows_is_the_same_only_if_every_object_is(
        start in 0..1_000_u16, steps in vec(step(), 0..4), at in any::<usize>(),
    ) {
        let mut vec = objects(0..start);
        let mut list: List<u16> = vec.iter().cloned().collect();
        for step in steps {
            apply(step, &mut list, &mut vec);
        }
        prop_assert!(list.following(&vec).is(&list));
        prop_assert!(list.following(vec.iter().cloned()).is(&list));
        if !vec.is_empty() {
            let at = at % vec.len();
            vec[at] = Arc::new(*vec[at]);
            let equal = list.following(&vec);
            prop_assert!(!equal.is(&list));
            prop_assert!(equal == list);
            prop_assert!(!list.following(&vec[..at]).is(&list));
        }
    }
}

/// Chunks of a list that another one does not have.
fn own_chunks(list: &List<u16>, other: &List<u16>) -> usize {
    let chunks = list.chunks.iter();
    let is_own = |chunk: &&Arc<_>| !other.chunks.iter().any(|one| Arc::ptr_eq(one, chunk));
    chunks.filter(is_own).count()
}

#[test]
fn a_change_copies_the_chunks_around_it() {
    let vec = objects(0..10_000);
    let before: List<u16> = vec.iter().cloned().collect();
    let mut after = before.clone();
    assert!(after.is(&before));
    assert!(after.replace(&vec[5_000], &Arc::new(1)));
    assert_eq!(own_chunks(&after, &before), 1);

    for at in [0, 1, CHUNK_FILLED - 1, CHUNK_FILLED, 5_000, 9_999] {
        let mut changed = vec.clone();
        changed[at] = Arc::new(1);
        assert!(own_chunks(&before.following(&changed), &before) <= 2);
        changed.insert(at, Arc::new(2));
        assert!(own_chunks(&before.following(&changed), &before) <= 2);
        changed.drain(at..at + 2);
        assert!(own_chunks(&before.following(&changed), &before) <= 2);
    }
}
