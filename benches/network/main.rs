//! How fast a container's network in user mode is, beside the host's loopback, the least that a process
//! between two others takes, and Debian's pasta.
//!
//! `cargo bench --bench network [-- ROUNDS]`. As root everything runs as a plain user (RBOX_BENCH_USER, rboxtest).
//! Peers that are not installed are left out. RBOX_BENCH_RBOX names another rbox to measure.
//!
//! The rows of a figure take turns in one run, and medians are compared with loopback's: on a shared machine only such
//! ratios mean anything. What serves in a container is this program, mounted there. Owns on disk
//! /var/tmp/rbox-bench-network-PID, and removes it.
#![expect(clippy::print_stdout, reason = "the tables are the output")]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures need no more than three digits"
)]

#[path = "../startup/archive.rs"]
mod archive;
#[path = "../startup/image.rs"]
mod image;
mod load;
mod ways;

use std::env;
use std::process::ExitCode;

use anyhow::Result;

use crate::ways::Place;
use crate::ways::Way;

const FIGURES: [(&str, &str); 8] = [
    ("put-1", "to the container, 1 stream, MB/s"),
    ("put-4", "to the container, 4 streams, MB/s"),
    ("get-1", "from the container, 1 stream, MB/s"),
    ("get-4", "from the container, 4 streams, MB/s"),
    ("connect", "connections per second"),
    ("latency", "round trip of one byte, us"),
    ("udp-64", "datagrams of 64 bytes per second"),
    ("udp-8192", "datagrams of 8 KiB per second"),
];

fn main() -> ExitCode {
    match role() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("network bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn role() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port] => load::serve(port.parse()?),
        ["relay", port, target] => load::relay(port.parse()?, target.parse()?),
        ["load", kind, target] => {
            println!("{}", load::measure(kind, target.parse()?)?);
            Ok(())
        }
        // cargo bench adds --bench.
        others => {
            let rounds = others.iter().find_map(|word| word.parse().ok());
            run(rounds.unwrap_or(3))
        }
    }
}

fn run(rounds: usize) -> Result<()> {
    let place = Place::new()?;
    let ways = ways::all(&place)?;
    let all: Vec<&Way> = ways.iter().collect();
    println!("{:40}{}", "published on the host", heads(&all));
    for (kind, name) in FIGURES {
        let ways: Vec<&Way> = ways.iter().filter(|way| way.carries(kind)).collect();
        table(kind, name, &ways, rounds, Way::measure)?;
    }
    let inner: Vec<&Way> = ways.iter().filter(|way| way.reaches_out()).collect();
    println!("\n{:40}{}", "from the container to the host", heads(&inner));
    for (kind, name) in FIGURES.iter().filter(|(kind, _)| goes_out(kind)) {
        let name = name.replace("to the container", "to the host");
        table(kind, &name, &inner, rounds, Way::measure_out)?;
    }
    Ok(())
}

/// Whether it is measured from beside the server too.
fn goes_out(kind: &str) -> bool {
    kind.starts_with("put") || kind.starts_with("udp")
}

fn heads(ways: &[&Way]) -> String {
    let names = ways.iter().map(|way| way.name);
    names.fold(String::new(), |line, name| format!("{line}{name:>22}"))
}

/// The median of each way, and what it is of the first one's.
fn table(
    kind: &str,
    name: &str,
    ways: &[&Way],
    rounds: usize,
    measure: impl Fn(&Way, &str) -> Result<f64>,
) -> Result<()> {
    let mut seen = vec![vec![]; ways.len()];
    for _ in 0..rounds {
        for (way, seen) in ways.iter().zip(&mut seen) {
            match measure(way, kind) {
                Err(err) if way.is_peer() => println!("{err:#}"),
                figure => seen.push(figure?),
            }
        }
    }
    let medians = seen.iter_mut().map(|seen| {
        seen.sort_by(f64::total_cmp);
        seen.get(seen.len() / 2).copied().unwrap_or(f64::NAN)
    });
    let medians: Vec<f64> = medians.collect();
    let unit = match kind {
        "latency" => 1e6,
        "connect" | "udp-64" | "udp-8192" => 1.0,
        _ => 1e-6,
    };
    let mut line = format!("{name:40}");
    for median in &medians {
        let (figure, ratio) = (median * unit, median / medians[0]);
        line = format!("{line}{figure:>14.0} ({ratio:.2})");
    }
    println!("{line}");
    Ok(())
}
