//! `rbox logs`.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use rustix::io::Errno;

use crate::cli::choose;
use crate::cli::session::write_all;
use crate::container::config::log::Driver;
use crate::container::log::Entry;
use crate::container::log::JournalReader;
use crate::container::log::Stream;
use crate::container::log::reader;
use crate::container::log::reader::Reader;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::process;
use crate::text::time;

/// Print what containers have written
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox logs --tail 20 -f web                go on from the last 20 lines
  rbox logs -t --since 10m --names web db   two containers, with times and names

Lines of several containers come in the order of their times. Those with --log-driver none and passthrough \
have no log.")]
pub struct Args {
    /// Print each container in a colour of its own
    #[arg(long)]
    color: bool,

    /// Print the attributes of each line, of the log driver json-file
    #[arg(long)]
    details: bool,

    /// Go on with what they write until they end
    #[arg(short, long)]
    follow: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Print the name of the container before each line; with several its id is the default
    #[arg(short, long)]
    names: bool,

    /// Only from this time on: RFC 3339, seconds since 1970, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Only the last lines: a number, or all
    #[arg(long, value_name = "LINES", default_value = "all", value_parser = tail, allow_hyphen_values = true)]
    tail: Tail,

    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,

    /// Names or ids
    #[arg(required_unless_present = "latest", value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        // As docker and podman: any negative number is all.
        _ if text.parse::<i64>().is_ok_and(|count| count < 0) => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|count| Tail(Some(count)))
            .map_err(|_| "expected a number of lines, or all".into()),
    }
}

/// How often a log that is followed is looked at.
const PACE: Duration = Duration::from_millis(50);

/// Parts of a line are joined up to this size.
const JOINED: usize = 1024 * 1024;

/// As podman: red, green, yellow, blue, magenta, cyan and their bright forms.
const COLORS: [u8; 12] = [31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let containers = if args.latest {
        vec![choose::latest(engine)?]
    } else {
        let found = args.containers.iter();
        found
            .map(|name| Container::find(&engine.dirs, name))
            .collect::<anyhow::Result<Vec<_>>>()?
    };
    let zone = time::local_zone();
    let moment = |flag: &str, text: &Option<String>| {
        text.as_ref()
            .map(|text| time::parse_since(text, Timestamp::now(), &zone))
            .transpose()
            .map_err(|err| fail(Kind::Usage, format!("{flag}: {err}")))
    };
    let wanted = Wanted {
        in_order: containers.len() > 1,
        since: moment("--since", &args.since)?,
        until: moment("--until", &args.until)?,
        timestamps: args.timestamps,
        details: args.details,
    };
    let mut sources = Vec::new();
    for (index, container) in containers.into_iter().enumerate() {
        let prefix = prefix(&container, &args, index);
        sources.extend(Source::open(container, &args, prefix)?);
    }
    follow(&mut sources, &wanted, args.follow)?;
    Ok(0)
}

/// What comes before each line of a container, and after it.
fn prefix(container: &Container, args: &Args, index: usize) -> (String, &'static str) {
    let name = if args.names {
        format!("{} ", container.name)
    } else if args.containers.len() > 1 {
        format!("{} ", container.config.short_id())
    } else {
        String::new()
    };
    if args.color {
        let color = COLORS[index % COLORS.len()];
        (format!("\x1b[{color}m{name}"), "\x1b[0m")
    } else {
        (name, "")
    }
}

/// Prints to the end of all, and goes on while one runs.
fn follow(sources: &mut [Source], wanted: &Wanted, go_on: bool) -> anyhow::Result<()> {
    loop {
        let in_time = wanted.until.is_none_or(|until| Timestamp::now() <= until);
        let mut running = false;
        for source in &mut *sources {
            // Looked at before the reading: what is written until then is in the file.
            source.runs = go_on && in_time && source.container.status()?.is_running();
            running |= source.runs;
        }
        print(sources, wanted)?;
        if !running {
            return Ok(());
        }
        std::thread::sleep(PACE);
    }
}

/// Prints what there is, of several containers in the order of the times.
fn print(sources: &mut [Source], wanted: &Wanted) -> anyhow::Result<()> {
    let mut printer = Printer::default();
    for source in &mut *sources {
        source.fill(wanted)?;
    }
    let time = |source: &Source| source.ready.as_ref().map(|line| line.time);
    while let Some(first) = sources
        .iter_mut()
        .filter(|source| source.ready.is_some())
        .min_by_key(|source| time(source))
    {
        if let Some(line) = first.ready.take() {
            printer.write(line.stream, &line.bytes)?;
        }
        first.fill(wanted)?;
    }
    printer.flush()
}

/// The log of one container.
struct Source {
    container: Container,
    reader: Records,
    prefix: (String, &'static str),
    /// More may come.
    runs: bool,
    /// The beginning of a line whose end has not come, of each stream.
    begun: [Vec<u8>; 2],
    /// A part of the line was printed already.
    goes_on: [bool; 2],
    ready: Option<Line>,
}

/// What is printed next.
struct Line {
    time: Option<Timestamp>,
    stream: Stream,
    bytes: Vec<u8>,
}

/// Where records come from.
enum Records {
    Files(Reader),
    Journal(Box<JournalReader>),
}

impl Records {
    fn read(&mut self) -> std::io::Result<Option<Entry<'_>>> {
        match self {
            Records::Files(reader) => reader.read(),
            Records::Journal(reader) => reader.read(),
        }
    }

    fn taken(&mut self) {
        if let Records::Files(reader) = self {
            reader.taken();
        }
    }
}

struct Wanted {
    /// The times are needed to put lines in order.
    in_order: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    details: bool,
}

impl Source {
    /// `None`: it has never written anything, and is not followed.
    fn open(
        container: Container,
        args: &Args,
        prefix: (String, &'static str),
    ) -> anyhow::Result<Option<Source>> {
        let Some(reader) = open(&container, args)? else {
            return Ok(None);
        };
        Ok(Some(Source {
            container,
            reader,
            prefix,
            runs: false,
            begun: [vec![], vec![]],
            goes_on: [false; 2],
            ready: None,
        }))
    }

    /// Reads to the end of the next line; where nothing more comes also one that has none.
    fn fill(&mut self, wanted: &Wanted) -> anyhow::Result<()> {
        let name = &self.container;
        let terminal = name.config.process.terminal;
        while self.ready.is_none() {
            let Some(entry) = self.reader.read().map_err(|err| failed(name, err))? else {
                break;
            };
            if wanted.wants(&entry) {
                let begun = &mut self.begun[entry.stream as usize];
                let goes_on = &mut self.goes_on[entry.stream as usize];
                if begun.is_empty() && !*goes_on {
                    begin(begun, &entry, wanted, &self.prefix.0);
                }
                begun.extend_from_slice(&entry.text);
                if entry.whole {
                    // The container's lines are those of a terminal, with its own line ends.
                    if terminal && !std::io::stdout().is_terminal() && begun.last() == Some(&b'\r')
                    {
                        begun.pop();
                    }
                    begun.extend_from_slice(self.prefix.1.as_bytes());
                    begun.push(b'\n');
                }
                if entry.whole || begun.len() > JOINED {
                    *goes_on = !entry.whole;
                    let time = wanted.in_order.then(|| time::parse_rfc3339(&entry.time));
                    self.ready = Some(Line {
                        time: time.flatten(),
                        stream: entry.stream,
                        bytes: std::mem::take(begun),
                    });
                }
            }
            self.reader.taken();
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = &mut self.begun[stream as usize];
            if self.ready.is_none() && !self.runs && !begun.is_empty() {
                begun.extend_from_slice(self.prefix.1.as_bytes());
                self.ready = Some(Line {
                    // After all that has an end.
                    time: Some(Timestamp::MAX),
                    stream,
                    bytes: std::mem::take(begun),
                });
            }
        }
        Ok(())
    }
}

/// `None`: there is nothing, and more is not waited for.
fn open(container: &Container, args: &Args) -> anyhow::Result<Option<Records>> {
    let driver = container.config.log.driver;
    if driver == Driver::Journald {
        return open_journal(container, args).map(Some);
    }
    let path = container.log_path().ok_or_else(|| unreadable(container))?;
    if reader::is_empty(&path) {
        if args.follow {
            let text = format!("container \"{}\" has no log yet", container.name);
            return Err(fail(Kind::WrongStatus, text));
        }
        return Ok(None);
    }
    let reader = match args.tail {
        Tail(Some(count)) => Reader::last_lines(&path, driver, count),
        Tail(None) => Ok(Reader::new(&path, driver)),
    };
    let reader = reader.with_context(|| cannot_read(container))?;
    Ok(Some(Records::Files(reader)))
}

fn open_journal(container: &Container, args: &Args) -> anyhow::Result<Records> {
    let mut reader = JournalReader::new(&container.config.id);
    let has_some = match args.tail {
        Tail(Some(count)) => reader.skip_to_last(count).and_then(|()| reader.has_some()),
        Tail(None) => reader.has_some(),
    };
    let has_some = has_some.map_err(|err| in_journal(container, err.into()))?;
    if let (false, Some(why)) = (has_some, reader.blindness()) {
        return Err(in_journal(container, fail(Kind::Unsupported, why)));
    }
    Ok(Records::Journal(Box::new(reader)))
}

/// Name, attributes and time, as podman and docker put them before a line.
fn begin(line: &mut Vec<u8>, entry: &Entry<'_>, wanted: &Wanted, prefix: &str) {
    line.extend_from_slice(prefix.as_bytes());
    if wanted.timestamps {
        line.extend_from_slice(entry.time.as_bytes());
        line.push(b' ');
    }
    if wanted.details {
        let attributes: std::collections::BTreeMap<String, String> = entry
            .attributes
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let pairs: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        line.extend_from_slice(pairs.join(",").as_bytes());
        line.push(b' ');
    }
}

impl Wanted {
    fn wants(&self, entry: &Entry<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        time::parse_rfc3339(&entry.time).is_some_and(|time| {
            self.since.is_none_or(|since| time >= since)
                && self.until.is_none_or(|until| time <= until)
        })
    }
}

/// Collects what goes to one of our streams, and keeps the order of both.
#[derive(Default)]
struct Printer {
    waiting: Vec<u8>,
    to: Option<Stream>,
}

impl Printer {
    const FULL: usize = 64 * 1024;

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> anyhow::Result<()> {
        if self.to != Some(stream) {
            self.flush()?;
            self.to = Some(stream);
        }
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= Printer::FULL {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let written = match self.to {
            Some(Stream::Stderr) => write_all(std::io::stderr().as_fd(), &self.waiting),
            _ => write_all(std::io::stdout().as_fd(), &self.waiting),
        };
        self.waiting.clear();
        match written {
            // The reader has seen enough.
            Err(Errno::PIPE) => process::exit_now(0),
            result => result.context("cannot write the log"),
        }
    }
}

fn cannot_read(container: &Container) -> String {
    format!("cannot read the log of \"{}\"", container.name)
}

fn failed(container: &Container, err: std::io::Error) -> anyhow::Error {
    match container.config.log.driver {
        Driver::Journald => in_journal(container, err.into()),
        _ => anyhow::Error::new(err).context(cannot_read(container)),
    }
}

fn in_journal(container: &Container, err: anyhow::Error) -> anyhow::Error {
    let id = &container.config.id;
    err.context(cannot_read(container)).hint(format!(
        "ask systemd, as one who may: `sudo journalctl -o cat CONTAINER_ID_FULL={id}`"
    ))
}

fn unreadable(container: &Container) -> anyhow::Error {
    let text = format!(
        "{}: its log driver is {}, which keeps nothing",
        cannot_read(container),
        container.config.log.driver.name()
    );
    fail(Kind::Unsupported, text)
}
