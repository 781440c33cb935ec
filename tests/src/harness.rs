//! Test binaries whose tests share a cluster, which has to go when the last of them has ended.
//!
//! They are run like any other test binary, also with several names at once.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Error, Result};
use libtest_mimic::{Arguments, Completion, Conclusion, Trial};

/// Something that tests share: made by the first, dropped when all have ended.
pub struct Shared<T> {
    made: Mutex<Option<Result<Arc<T>, String>>>,
    make: fn() -> Result<T>,
}

impl<T> Shared<T> {
    /// Will be made by `make`.
    pub fn new(make: fn() -> Result<T>) -> Arc<Self> {
        Arc::new(Self {
            made: Mutex::default(),
            make,
        })
    }

    /// The thing itself. What could not be made once is not tried again.
    pub fn thing(&self) -> Result<Arc<T>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = || {
            (self.make)()
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        };
        let made = made.get_or_insert_with(attempt);
        made.clone().map_err(Error::msg)
    }
}

/// A test that needs root, and is skipped without.
pub fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        if !rustix::process::geteuid().is_root() {
            return Ok(Completion::ignored_with("needs root: network namespaces"));
        }
        test().map_err(|error| format!("{error:#}"))?;
        Ok(Completion::Completed)
    })
}

/// Runs those tests that the command line asks for, one after another.
pub fn run(mut trials: Vec<Trial>) -> Conclusion {
    let (names, flags): (Vec<_>, Vec<_>) = words().partition(|word| !word.starts_with('-'));
    let program = env::args().take(1);
    let mut arguments = Arguments::from_iter(program.chain(flags));
    arguments.test_threads = Some(1);
    trials.retain(|trial| {
        let is_asked_for = |name: &String| {
            if arguments.exact {
                trial.name() == name
            } else {
                trial.name().contains(name)
            }
        };
        names.is_empty() || names.iter().any(is_asked_for)
    });
    libtest_mimic::run(&arguments, trials)
}

/// Words of the command line, a flag in one with its value.
fn words() -> impl Iterator<Item = String> {
    let mut words = env::args().skip(1);
    std::iter::from_fn(move || {
        let word = words.next()?;
        if FLAGS_WITH_VALUE.contains(&&*word) {
            let value = words.next().unwrap_or_default();
            return Some(format!("{word}={value}"));
        }
        Some(word)
    })
}

const FLAGS_WITH_VALUE: [&str; 4] = ["--color", "--format", "--skip", "--test-threads"];
