//! How much memory all processes of one executable have at once.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use crate::measure::command;

const PERIOD: Duration = Duration::from_millis(10);

/// Runs a command, and returns the most bytes (Pss) that it and all others of this executable had.
pub fn peak(words: &[String], executable: &Path) -> Result<u64> {
    let mut child = command(words).stdout(Stdio::null()).spawn()?;
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{}` ended with {status}", words.join(" "));
            }
            return Ok(peak);
        }
        peak = peak.max(now(executable)?);
        thread::sleep(PERIOD);
    }
}

fn now(executable: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        // Processes end while they are looked at.
        if fs::read_link(path.join("exe")).is_ok_and(|exe| exe == executable)
            && let Ok(text) = fs::read_to_string(path.join("smaps_rollup"))
        {
            sum += pss(&text).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// `Pss:    1234 kB`
fn pss(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let number: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(number << 10)
}
