//! Load and its other end, over std::net alone: the same program makes both, on the host and in a container.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

const TIME: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
const CHUNK: usize = 128 << 10;

/// The first byte of a connection says what it is for.
const TAKE: u8 = b't';
const GIVE: u8 = b'g';
const ECHO: u8 = b'e';
const LEAVE: u8 = b'l';

/// Serves until who started it is gone.
pub fn serve(port: u16) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let datagrams = UdpSocket::bind(("0.0.0.0", port))?;
    thread::spawn(move || count(&datagrams));
    for stream in TcpListener::bind(("0.0.0.0", port))?.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream).ok());
    }
    Ok(())
}

/// Passes on connections to another port by splice(2) alone: the least that any process between two others takes.
pub fn relay(port: u16, target: SocketAddr) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    for outer in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (outer, inner) = (outer?, TcpStream::connect_timeout(&target, PATIENCE)?);
        for (from, to) in [(outer.try_clone()?, inner.try_clone()?), (inner, outer)] {
            from.set_nodelay(true)?;
            thread::spawn(move || pass(&from, &to).ok());
        }
    }
    Ok(())
}

fn pass(from: &TcpStream, to: &TcpStream) -> Result<()> {
    const MUCH: usize = 1 << 20;
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&write, MUCH)?;
    let flags = SpliceFlags::MOVE;
    loop {
        let taken = rustix::pipe::splice(from, None, &write, None, MUCH, flags)?;
        if taken == 0 {
            return Ok(to.shutdown(Shutdown::Write)?);
        }
        let mut left = taken;
        while left > 0 {
            left -= rustix::pipe::splice(&read, None, to, None, left, flags)?;
        }
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let mut buffer = vec![0; CHUNK];
    match kind[0] {
        TAKE => {
            let mut total = 0_u64;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    length => total += length as u64,
                }
            }
            stream.write_all(&total.to_be_bytes())?;
        }
        GIVE => loop {
            stream.write_all(&buffer)?;
        },
        ECHO => {
            stream.set_nodelay(true)?;
            loop {
                stream.read_exact(&mut kind)?;
                stream.write_all(&kind)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Counts datagrams until one of one byte asks how many they were.
fn count(socket: &UdpSocket) -> Option<()> {
    let mut buffer = vec![0; 65536];
    let mut seen = 0_u64;
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).ok()?;
        if length == 1 {
            socket.send_to(&seen.to_be_bytes(), peer).ok();
            seen = 0;
        } else {
            seen += 1;
        }
    }
}

/// One figure, by its name; more is better, but for the latency.
pub fn measure(kind: &str, target: SocketAddr) -> Result<f64> {
    match kind {
        "put-1" => put(target, 1),
        "put-4" => put(target, 4),
        "get-1" => get(target, 1),
        "get-4" => get(target, 4),
        "connect" => connections(target),
        "latency" => latency(target),
        "udp-64" => datagrams(target, 64),
        "udp-8192" => datagrams(target, 8192),
        _ => bail!("no measurement \"{kind}\""),
    }
}

fn open(target: SocketAddr, kind: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)
        .with_context(|| format!("cannot reach {target}"))?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

fn sum(count: usize, each: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&each)).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|_| bail!("a stream panicked")))
            .sum()
    })
}

/// Bytes in a second that have arrived at the other end.
fn put(target: SocketAddr, streams: usize) -> Result<f64> {
    sum(streams, || {
        let mut stream = open(target, TAKE)?;
        let buffer = vec![0; CHUNK];
        let began = Instant::now();
        while began.elapsed() < TIME {
            stream.write_all(&buffer)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total)?;
        Ok(u64::from_be_bytes(total) as f64 / began.elapsed().as_secs_f64())
    })
}

fn get(target: SocketAddr, streams: usize) -> Result<f64> {
    sum(streams, || {
        let mut stream = open(target, GIVE)?;
        let mut buffer = vec![0; CHUNK];
        let (began, mut total) = (Instant::now(), 0);
        while began.elapsed() < TIME {
            total += stream.read(&mut buffer)?;
        }
        Ok(total as f64 / began.elapsed().as_secs_f64())
    })
}

/// Connections in a second, from request to end, four at a time.
fn connections(target: SocketAddr) -> Result<f64> {
    sum(4, || {
        let (began, mut done) = (Instant::now(), 0);
        // The other end closes first; no more than there are ports.
        while began.elapsed() < TIME && done < 5000 {
            let mut stream = open(target, LEAVE)?;
            if stream.read(&mut [0])? > 0 {
                bail!("an answer that was not expected");
            }
            done += 1;
        }
        Ok(f64::from(done) / began.elapsed().as_secs_f64())
    })
}

/// Seconds for one byte and its echo, the median.
fn latency(target: SocketAddr) -> Result<f64> {
    let mut stream = open(target, ECHO)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..5000 {
        let began = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Datagrams in a second that have arrived.
fn datagrams(target: SocketAddr, size: usize) -> Result<f64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    asked(&socket)?;
    let began = Instant::now();
    let buffer = vec![0; size];
    while began.elapsed() < TIME {
        // A queue that is full loses it, as any other does on the way.
        socket.send(&buffer).ok();
    }
    let took = began.elapsed().as_secs_f64();
    // What is on its way arrives.
    thread::sleep(Duration::from_millis(300));
    Ok(asked(&socket)? as f64 / took)
}

fn asked(socket: &UdpSocket) -> Result<u64> {
    let mut count = [0; 8];
    for _ in 0..10 {
        socket.send(&[0])?;
        if socket.recv(&mut count).is_ok() {
            return Ok(u64::from_be_bytes(count));
        }
    }
    bail!("nobody counts datagrams")
}
