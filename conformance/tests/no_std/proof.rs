//! A library that ends here: its own panic handler, its own allocator, no std. Whatever is linked into
//! it and brings std along brings a second panic handler, and the compiler refuses (E0152).
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

struct Nowhere;

// SAFETY: it never hands out memory, which is what a null pointer means.
unsafe impl GlobalAlloc for Nowhere {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Nowhere = Nowhere;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
