//! What comes as a stream and is wanted as a file: it is copied into a nameless one.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;

const BUFFER: usize = 256 << 10;

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
        if buffer[..count].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..count], copied)?;
        }
        copied += count as u64;
    }
    file.set_len(copied)?;
    Ok(copied)
}
