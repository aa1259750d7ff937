//! Rows that take turns, and the median of each.

use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// One command whose time counts, and one that clears up after it, whose time does not.
pub struct Row {
    pub name: &'static str,
    pub command: Vec<String>,
    pub after: Option<Vec<String>>,
    /// Every n-th round only, for commands that take hundreds of milliseconds.
    pub every: usize,
}

impl Row {
    pub fn new(name: &'static str, command: Vec<String>) -> Self {
        Row {
            name,
            command,
            after: None,
            every: 1,
        }
    }

    pub fn every(self, every: usize) -> Self {
        Row { every, ..self }
    }

    pub fn after(self, command: Vec<String>) -> Self {
        Row {
            after: Some(command),
            ..self
        }
    }
}

/// Splits at blanks.
pub fn words(command: &str) -> Vec<String> {
    command.split_ascii_whitespace().map(String::from).collect()
}

/// A command, with what stands before it in the form NAME=VALUE in its environment.
pub fn command(words: &[String]) -> Command {
    let first = words.iter().position(|word| !word.contains('='));
    let (environment, words) = words.split_at(first.unwrap_or(0));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.envs(environment.iter().filter_map(|pair| pair.split_once('=')));
    command
}

/// Runs a command to its end; its output in the error when it fails.
pub fn run(words: &[String]) -> Result<Duration> {
    let start = Instant::now();
    let status = command(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("cannot start {}", words[0]))?;
    let took = start.elapsed();
    if !status.success() {
        bail!("`{}` ended with {status}", words.join(" "));
    }
    Ok(took)
}

/// Standard output of a command that must succeed.
pub fn output(words: &[String]) -> Result<String> {
    let done = command(words).output()?;
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` ended with {}: {stderr}", words.join(" "), done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// The median of each row in milliseconds; none for a row that fails when it is tried first.
pub fn medians(rows: &[Row], rounds: usize) -> Result<Vec<Option<f64>>> {
    let mut times: Vec<Option<Vec<f64>>> = Vec::new();
    for row in rows {
        let tried = run(&row.command);
        if let Err(err) = &tried {
            println!("left out: {}: {err:#}", row.name);
        }
        clear(row)?;
        times.push(tried.is_ok().then(Vec::new));
    }
    for round in 0..rounds {
        for (row, times) in rows.iter().zip(&mut times) {
            let Some(times) = times else { continue };
            if round % row.every == 0 {
                times.push(run(&row.command)?.as_secs_f64() * 1000.0);
                clear(row)?;
            }
        }
    }
    Ok(times.into_iter().map(|times| times.map(median)).collect())
}

/// What a command leaves running for a moment (the kernel's end of namespaces, rbox's removal of the container after
/// its status is out) must not fall into the next row's time.
const SETTLE: Duration = Duration::from_millis(20);

fn clear(row: &Row) -> Result<()> {
    if let Some(after) = &row.after {
        run(after)?;
    }
    thread::sleep(SETTLE);
    Ok(())
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints a table of medians and gives them back.
pub fn table(title: &str, rows: &[Row], rounds: usize) -> Result<Vec<Option<f64>>> {
    let medians = medians(rows, rounds)?;
    println!("\n{title}");
    for (row, median) in rows.iter().zip(&medians) {
        match median {
            Some(median) => println!("  {:<34} {median:>9.2} ms", row.name),
            None => println!("  {:<34} {:>12}", row.name, "-"),
        }
    }
    Ok(medians)
}

/// `a/b = 1.32 (target <= 1.6)`, where both are there.
pub fn ratio(name: &str, a: Option<f64>, b: Option<f64>, target: &str) {
    if let (Some(a), Some(b)) = (a, b) {
        println!("  {name} = {:.2} ({target})", a / b);
    }
}
