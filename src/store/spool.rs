//! What comes as a stream and is wanted as a file: it is copied into a nameless one.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;

const BUFFER: usize = 256 << 10;

/// Whether there is nothing but zeros, at the speed of memory: each byte is the one before it.
pub fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && rest == &bytes[..rest.len()],
    }
}

/// Copies to the end. What is only zeros becomes a hole, so that a small archive cannot fill the disk.
pub fn copy(input: &mut impl Read, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        if !is_zero(&buffer[..count]) {
            file.write_all_at(&buffer[..count], copied)?;
        }
        copied += count as u64;
    }
    file.set_len(copied)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_is_none_is_found_anywhere() {
        assert!(is_zero(&[]));
        let mut bytes = [0; 300];
        assert!(is_zero(&bytes));
        for at in 0..bytes.len() {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
