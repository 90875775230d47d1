//! Counts allocations and bytes, which are the same on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a thread has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// How often, to make room or to make more of it.
    pub allocations: u64,
    /// How much room; what is made larger counts by how much.
    pub bytes: u64,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { allocations: 0, bytes: 0 }) };
}

fn count(bytes: usize) {
    let asked = ASKED.get();
    ASKED.set(Asked { allocations: asked.allocations + 1, bytes: asked.bytes + bytes as u64 });
}

/// What the current thread asks for while it does something.
pub fn counted<T>(act: impl FnOnce() -> T) -> (T, Asked) {
    let before = ASKED.get();
    let result = act();
    let after = ASKED.get();
    let asked = Asked { allocations: after.allocations - before.allocations, bytes: after.bytes - before.bytes };
    (result, asked)
}

// SAFETY: every call is handed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: likewise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: likewise.
        unsafe { System.realloc(at, layout, size) }
    }
}
