//! Coverage marks: a branch names itself, a test demands it.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts one pass through the mark `name`. Called by [`gimlet_machine::mark!`] in test builds.
pub fn hit(name: &'static str) {
    HITS.with_borrow_mut(|hits| *hits.entry(name).or_default() += 1);
}

/// Runs `body` and fails unless it passed through the mark `name` at least once.
///
/// ```
/// gimlet_testkit::marked("rare branch", || gimlet_testkit::hit("rare branch"));
/// ```
pub fn marked<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    let count = || HITS.with_borrow(|hits| hits.get(name).copied().unwrap_or(0));
    let before = count();
    let result = body();
    assert!(count() > before, "the test never reached the mark `{name}`");
    result
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "never reached the mark")]
    fn a_mark_that_is_not_reached_fails_the_test() {
        super::marked("unreached", || ());
    }
}
