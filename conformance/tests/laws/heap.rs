//! An allocator that knows how much is in use, per thread: tests run beside each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has asked for memory.
pub(crate) fn calls() -> usize {
    CALLS.get()
}

/// Bytes that this thread has allocated and not freed.
pub(crate) fn live_bytes() -> usize {
    LIVE.get()
}

fn change(by: impl FnOnce(usize) -> usize) {
    // Memory is still freed while a thread's locals are torn down.
    let _ = LIVE.try_with(|live| live.set(by(live.get())));
}

// SAFETY: every call goes to the system's allocator unchanged; the count beside it touches no memory that
// is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        change(|live| live + layout.size());
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(|live| live.saturating_sub(layout.size()));
        // SAFETY: the caller's promises about `pointer` and `layout` are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_count_follows_what_is_in_use() {
    let before = live_bytes();
    let kept = vec![0u8; 10_000];
    assert!((10_000..11_000).contains(&(live_bytes() - before)), "{}", live_bytes() - before);
    drop(kept);
    assert!(live_bytes() <= before + 100);
}
