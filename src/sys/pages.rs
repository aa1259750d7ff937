//! Memory of its own pages: zeroes that cost nothing before something is written there, and can be given back.
#![expect(unsafe_code, reason = "mmap(2) and madvise(2) have no safe wrapper")]

use std::ops::Deref;
use std::ops::DerefMut;
use std::ptr::NonNull;

/// Bytes in a private mapping. A block of an allocator may be one that was used before, and is filled with zeroes then:
/// a page for a page.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nobody else has the mapping.
unsafe impl Send for Pages {}

impl Pages {
    /// Zeroes.
    ///
    /// # Panics
    ///
    /// Where there is no memory, as an allocator does.
    pub fn new(length: usize) -> Pages {
        // SAFETY: a new private mapping, at an address that the kernel chooses, changes no other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(start != libc::MAP_FAILED, "no memory for {length} bytes");
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at 0 by itself");
        Pages { start, length }
    }

    /// Makes them zeroes that cost nothing again.
    pub fn clear(&mut self) {
        if self.length > 0 {
            // Linux: pages of a private anonymous mapping are zeroes after this (madvise(2), MADV_DONTNEED).
            // SAFETY: the mapping is ours alone, and nobody has a reference into it while it is borrowed here.
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTNEED) };
        }
    }
}

/// None.
impl Default for Pages {
    fn default() -> Pages {
        Pages {
            start: NonNull::dangling(),
            length: 0,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping is ours, and nobody has a reference into it any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` readable bytes begin at `start`, or none do, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and they can be written to.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_zeroes_until_they_are_written_and_after() {
        let mut pages = Pages::new(100_000);
        assert_eq!(pages.len(), 100_000);
        pages[99_999] = 7;
        assert_eq!(
            pages.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            7
        );
        pages.clear();
        assert!(pages.iter().all(|byte| *byte == 0));
        let taken = std::mem::take(&mut pages);
        assert_eq!((pages.len(), taken.len()), (0, 100_000));
        pages.clear();
    }
}
