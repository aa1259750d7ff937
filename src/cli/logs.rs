//! `rbox logs`.

use std::io::BufReader;
use std::io::IsTerminal;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use rustix::io::Errno;

use crate::cli::session::write_all;
use crate::container::log_file;
use crate::container::log_file::Record;
use crate::container::log_file::Stream;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::sys::process;
use crate::text::time;

/// Print what a container has written
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what it writes until it ends
    #[arg(short, long)]
    follow: bool,

    /// Only from this time on: RFC 3339, seconds since 1970, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Only the last lines: a number, or all
    #[arg(long, value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,

    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,

    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" | "-1" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|count| Tail(Some(count)))
            .map_err(|_| "expected a number of lines, or all".into()),
    }
}

/// How often a log that is followed is looked at.
const PACE: Duration = Duration::from_millis(50);

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let container = Container::find(&engine.dirs, &args.container)?;
    let zone = time::local_zone();
    let moment = |flag: &str, text: &Option<String>| {
        text.as_ref()
            .map(|text| time::parse_since(text, Timestamp::now(), &zone))
            .transpose()
            .map_err(|err| fail(Kind::Usage, format!("{flag}: {err}")))
    };
    let printer = Printer {
        since: moment("--since", &args.since)?,
        until: moment("--until", &args.until)?,
        timestamps: args.timestamps,
        terminal: container.config.process.terminal,
    };
    let file = match std::fs::File::open(container.log_path()) {
        // Never started.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && !args.follow => return Ok(0),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(fail(
                Kind::WrongStatus,
                format!("container \"{}\" has no log yet", container.name),
            ));
        }
        result => {
            result.with_context(|| format!("cannot read the log of \"{}\"", container.name))?
        }
    };
    let mut reader = BufReader::new(file);
    if let Tail(Some(count)) = args.tail {
        skip_to_last(&mut reader, count)?;
    }
    follow(&container, &mut reader, &printer, args.follow)?;
    Ok(0)
}

/// Prints to the end, and goes on while the container runs.
fn follow(
    container: &Container,
    reader: &mut BufReader<std::fs::File>,
    printer: &Printer,
    go_on: bool,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    loop {
        // Looked at before the reading: what is written until then is in the file.
        let running = go_on && container.status()?.is_running();
        while log_file::read_line(reader, &mut line)? {
            if let Some(record) = log_file::parse(&line) {
                printer.print(&record)?;
            }
            line.clear();
        }
        if !running {
            return Ok(());
        }
        std::thread::sleep(PACE);
    }
}

/// Positions the reader at the beginning of the last `count` whole lines.
fn skip_to_last(reader: &mut BufReader<std::fs::File>, count: usize) -> anyhow::Result<()> {
    let mut starts = std::collections::VecDeque::new();
    let mut line = Vec::new();
    let (mut position, mut start) = (0, 0);
    while log_file::read_line(reader, &mut line)? {
        position += line.len() as u64 + 1;
        if log_file::parse(&line).is_some_and(|record| record.whole) {
            starts.push_back(start);
            start = position;
            if starts.len() > count {
                starts.pop_front();
            }
        }
        line.clear();
    }
    let from = if count == 0 {
        start
    } else {
        starts.front().copied().unwrap_or(start)
    };
    reader.seek(SeekFrom::Start(from))?;
    Ok(())
}

struct Printer {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    /// The container's lines are those of a terminal, with its own line ends.
    terminal: bool,
}

impl Printer {
    fn print(&self, record: &Record<'_>) -> anyhow::Result<()> {
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = time::parse_rfc3339(record.time) else {
                return Ok(());
            };
            if self.since.is_some_and(|since| time < since)
                || self.until.is_some_and(|until| time > until)
            {
                return Ok(());
            }
        }
        let mut out = Vec::with_capacity(record.text.len() + 48);
        if self.timestamps {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if self.terminal && !std::io::stdout().is_terminal() && out.last() == Some(&b'\r') {
            out.pop();
        }
        if record.whole {
            out.push(b'\n');
        }
        let written = match record.stream {
            Stream::Stdout => write_all(std::io::stdout().as_fd(), &out),
            Stream::Stderr => write_all(std::io::stderr().as_fd(), &out),
        };
        match written {
            // The reader has seen enough.
            Err(Errno::PIPE) => process::exit_now(0),
            result => result.context("cannot write the log"),
        }
    }
}
