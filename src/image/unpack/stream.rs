//! From the bytes of a layer blob to the bytes of its tar: decompressed on a thread of its own,
//! hashed and counted as they are read.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;

use anyhow::Context;
use anyhow::Result;
use lzma_rust2::XzReader;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::store::archive::read::Input;

const CHUNK: usize = 256 << 10;
const CHUNKS_IN_FLIGHT: usize = 4;
/// How much a decompressor must remember is for its input to say.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    zstd_window_log: u32,
    xz_kib: u32,
}

impl Memory {
    /// Of layers, several of which are unpacked at a time. RFC 8878 wants 8 MiB of zstd, and what images
    /// are made with keeps to it; xz(1) has 32 MiB at -8.
    pub const LAYER: Self = Self {
        zstd_window_log: 25,
        xz_kib: 33 << 10,
    };
    /// Of what somebody packed by hand. zstd(1): --ultra -22 has a window of 2^27; larger ones need
    /// --long. xz(1): -9 needs 65 MiB.
    pub const ARCHIVE: Self = Self {
        zstd_window_log: 27,
        xz_kib: 129 << 10,
    };
}
/// As many bytes as tell compressions apart.
pub const MAGIC_LEN: usize = 10;

/// How bytes are compressed, by what they begin with, never by a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x31,
                0x41,
                0x59,
                0x26,
                0x53,
                0x59,
                ..,
            ] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// Decompresses: gzip (members one after the other), zstd (frames likewise), xz (streams likewise),
/// or nothing.
pub fn decompressed<R>(input: R, memory: Memory) -> io::Result<Box<dyn Read + Send>>
where
    R: Read + Send + 'static,
{
    let mut input = BufReader::with_capacity(CHUNK, input);
    let mut magic = Vec::new();
    // One read may return fewer than the bytes that tell.
    (&mut input)
        .take(MAGIC_LEN as u64)
        .read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let whole = io::Cursor::new(magic).chain(input);
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(memory.zstd_window_log)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(XzReader::new_mem_limit(whole, true, memory.xz_kib)),
        Compression::Bzip2 => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is compressed by bzip2, which rbox does not read: unpack it with bunzip2 first",
            ));
        }
        Compression::None => Box::new(whole),
    })
}

const BLOCK: usize = 512;

/// Whether a tar can begin with these bytes: the checksum of a header is right, or it is the end at once.
pub fn is_tar(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<BLOCK>() else {
        return false;
    };
    let header = tar::Header::from_byte_slice(block);
    let byte = |(at, byte): (usize, &u8)| match at {
        // The checksum is made with blanks in its own place.
        148..156 => u32::from(b' '),
        _ => u32::from(*byte),
    };
    let sum: u32 = block.iter().enumerate().map(byte).sum();
    block.iter().all(|byte| *byte == 0) || header.cksum().is_ok_and(|told| told == sum)
}

type Chunk = io::Result<Vec<u8>>;

/// The uncompressed tar, hashed.
pub struct Tar {
    chunks: Receiver<Chunk>,
    /// Used buffers go back to the thread that fills them.
    used: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    hasher: Hasher,
    size: u64,
    size_max: u64,
}

impl Tar {
    /// Starts the thread that decompresses. `size_max` bounds the whole tar.
    pub fn start<R>(input: R, algorithm: Algorithm, size_max: u64) -> Result<Self>
    where
        R: Read + Send + 'static,
    {
        let (chunk_tx, chunk_rx) = sync_channel(CHUNKS_IN_FLIGHT);
        let (used_tx, used_rx) = channel();
        std::thread::Builder::new()
            .name("decompress".to_owned())
            .spawn(move || produce(input, &chunk_tx, &used_rx))
            .context("cannot start a thread")?;
        Ok(Self {
            chunks: chunk_rx,
            used: used_tx,
            current: Vec::new(),
            position: 0,
            hasher: Hasher::new(algorithm),
            size: 0,
            size_max,
        })
    }

    /// Reads what is behind the end of the archive, and returns the digest of all of it.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        while self.next_chunk()? {}
        Ok((self.hasher.finish(), self.size))
    }

    /// `false` at the end.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let used = std::mem::take(&mut self.current);
        self.position = 0;
        if used.capacity() > 0 {
            // The thread may have ended: then nobody needs buffers.
            self.used.send(used).ok();
        }
        // The sender goes away after the last chunk.
        let Ok(chunk) = self.chunks.recv() else {
            return Ok(false);
        };
        self.current = chunk?;
        self.size += self.current.len() as u64;
        if self.size > self.size_max {
            return Err(io::Error::other(format!(
                "it is larger than {} bytes",
                self.size_max
            )));
        }
        self.hasher.update(&self.current);
        Ok(true)
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() && !self.next_chunk()? {
            return Ok(0);
        }
        let rest = &self.current[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Input for Tar {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut rest = count;
        while rest > 0 && (self.position < self.current.len() || self.next_chunk()?) {
            let here = self.current.len() - self.position;
            let step = usize::try_from(rest).unwrap_or(usize::MAX).min(here);
            self.position += step;
            rest -= step as u64;
        }
        Ok(count - rest)
    }
}

fn produce<R>(input: R, chunks: &SyncSender<Chunk>, used: &Receiver<Vec<u8>>)
where
    R: Read + Send + 'static,
{
    let mut reader = match decompressed(input, Memory::LAYER) {
        Ok(reader) => reader,
        Err(err) => {
            // A receiver that is gone wants no error either, here and below.
            chunks.send(Err(err)).ok();
            return;
        }
    };
    loop {
        let mut buffer = used.try_recv().unwrap_or_default();
        buffer.resize(CHUNK, 0);
        let chunk = fill(&mut reader, &mut buffer).map(|count| {
            buffer.truncate(count);
            buffer
        });
        let last = match &chunk {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(_) => false,
            Err(_) => true,
        };
        if chunks.send(chunk).is_err() || last {
            return;
        }
    }
}

/// Reads until the buffer is full or the input at its end.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match reader.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// By xz(1), which this library is not.
    fn xz(args: &[&str], bytes: &[u8]) -> Vec<u8> {
        use std::process::Command;
        use std::process::Stdio;
        let mut child = Command::new("xz")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn read(input: Vec<u8>) -> Result<Vec<u8>> {
        let mut tar = Tar::start(io::Cursor::new(input), Algorithm::Sha256, 1 << 30)?;
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)?;
        let (digest, size) = tar.finish()?;
        assert!(digest.matches(&bytes) && size == bytes.len() as u64);
        Ok(bytes)
    }

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let plain: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let (first, second) = plain.split_at(1_000_001);
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        assert!(read(plain.clone()).unwrap() == plain);
        assert!(read(gzip(&plain)).unwrap() == plain);
        assert!(read([gzip(first), gzip(second)].concat()).unwrap() == plain);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        assert!(read([&skippable[..], &zstd(first), &zstd(second)].concat()).unwrap() == plain);
        assert!(read(xz(&["-c"], &plain)).unwrap() == plain);
        assert!(read([xz(&["-c"], first), xz(&["-8e"], second)].concat()).unwrap() == plain);
        assert!(read(xz(&["--check=sha256", "--block-size=65536"], &plain)).unwrap() == plain);
        assert_eq!(read(Vec::new()).unwrap(), b"");
        assert_eq!(read(vec![0x1f]).unwrap(), [0x1f]);
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let mut packed = gzip(&plain);
        packed.truncate(packed.len() - 9);
        assert!(read(packed).is_err());
        let mut packed = zstd::encode_all(&plain[..], 1).unwrap();
        packed.truncate(packed.len() - 9);
        assert!(read(packed).is_err());
        let mut packed = xz(&["-0"], &plain);
        packed.truncate(packed.len() - 9);
        assert!(read(packed).is_err());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let bzip2 = b"BZh91AY&SY\x94$|\x0e".to_vec();
        let err = read(bzip2).unwrap_err();
        let expected =
            "it is compressed by bzip2, which rbox does not read: unpack it with bunzip2 first";
        assert_eq!(err.to_string(), expected);
        // The name of a file can begin like that too.
        assert_eq!(read(b"BZh9 and more".to_vec()).unwrap(), b"BZh9 and more");
        // A dictionary of 512 MiB.
        let err = read(xz(&["--lzma2=dict=512MiB"], b"x")).unwrap_err();
        assert!(err.to_string().contains("memory"), "{err}");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let tar = Tar::start(io::Cursor::new(bomb), Algorithm::Sha256, 1 << 20).unwrap();
        let err = tar.finish().unwrap_err();
        assert_eq!(err.to_string(), "it is larger than 1048576 bytes");
    }
}
