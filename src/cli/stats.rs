//! `rbox stats`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::cli::choose;
use crate::cli::format;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::stats;
use crate::engine::stats::Sample;
use crate::text::duration;
use crate::text::size;

/// Show what containers use of the machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox stats
  rbox stats --no-stream --format json web
  rbox stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.OOMKills}}'")]
pub struct Args {
    /// Those that do not run, too
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Seconds from one look to the next
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Leave on the screen what was there
    #[arg(long)]
    no_reset: bool,

    /// Look once
    #[arg(long)]
    no_stream: bool,

    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Names or ids; none is all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const DEFAULT: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}\t{{.CPUTime}}\t{{.AvgCPU}}";

const HEADERS: [(&str, &str); 14] = [
    ("AvgCPU", "AVG CPU %"),
    ("BlockIO", "BLOCK IO"),
    ("CPU", "CPU %"),
    ("CPUPerc", "CPU %"),
    ("CPUTime", "CPU TIME"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("NetIO", "NET IO"),
    ("OOMKills", "OOM KILLS"),
    ("PIDS", "PIDS"),
    ("PIDs", "PIDS"),
    ("PidsRefused", "PIDS REFUSED"),
    ("ThrottledPeriods", "THROTTLED"),
];

/// Between two looks for how busy a container is just now.
const BLINK: Duration = Duration::from_millis(200);

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let clears = !args.no_stream
        && !args.no_reset
        && args.format.as_deref() != Some("json")
        && std::io::stdout().is_terminal();
    let mut last = HashMap::new();
    look(engine, &args, &mut last)?;
    std::thread::sleep(BLINK);
    loop {
        let seen = look(engine, &args, &mut last)?;
        let text = text(&args, &seen)?;
        if clears {
            output::redraw(&text)?;
        } else {
            output::print(&text)?;
        }
        if args.no_stream {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

/// A container, and what it uses if it runs: how much of a CPU just now, and all else.
struct Seen {
    container: Container,
    used: Option<(f64, Sample)>,
}

fn look(
    engine: &Engine,
    args: &Args,
    last: &mut HashMap<String, Sample>,
) -> anyhow::Result<Vec<Seen>> {
    let containers = if args.containers.is_empty() {
        let mut all = choose::list(engine)?;
        if args.latest {
            all.drain(..all.len().saturating_sub(1));
        }
        all
    } else {
        let found = args.containers.iter();
        let found = found.map(|name| Container::find(&engine.dirs, name));
        found.collect::<anyhow::Result<_>>()?
    };
    let shows_all = args.all || args.latest || !args.containers.is_empty();
    let mut seen = Vec::new();
    for container in containers {
        let sample = match container.status()? {
            // It may end meanwhile.
            Status::Running(state) => stats::sample(&container, &state).ok(),
            _ => None,
        };
        if sample.is_none() && !shows_all {
            continue;
        }
        let used = sample.map(|sample| {
            let before = last.insert(container.config.id.clone(), sample);
            (percent_of_cpu(before.as_ref(), &sample), sample)
        });
        seen.push(Seen { container, used });
    }
    Ok(seen)
}

/// 100 is one CPU.
fn percent_of_cpu(before: Option<&Sample>, now: &Sample) -> f64 {
    let (used, time) = match before.filter(|before| before.cpu <= now.cpu) {
        Some(before) => (
            now.cpu.saturating_sub(before.cpu),
            now.up.saturating_sub(before.up),
        ),
        None => (now.cpu, now.up),
    };
    share(used.as_secs_f64(), time.as_secs_f64())
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        part / whole * 100.0
    } else {
        0.0
    }
}

fn text(args: &Args, seen: &[Seen]) -> anyhow::Result<String> {
    let whole = args.no_trunc;
    if args.format.as_deref() == Some("json") {
        let rows: Vec<Value> = seen.iter().map(|one| json_row(one, whole)).collect();
        return Ok(serde_json::to_string_pretty(&rows)? + "\n");
    }
    let rows: Vec<Value> = seen.iter().map(|one| row(one, whole)).collect();
    format::rows(&rows, args.format.as_deref().unwrap_or(DEFAULT), &HEADERS)
}

fn id(container: &Container, whole: bool) -> &str {
    if whole {
        &container.config.id
    } else {
        container.config.short_id()
    }
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn both(one: u64, other: u64) -> String {
    let human = |bytes| size::human_with(bytes, 4, "");
    format!("{} / {}", human(one), human(other))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two digits of a percentage are shown"
)]
fn memory_percent(sample: &Sample) -> f64 {
    share(sample.memory as f64, sample.memory_limit as f64)
}

/// The names that templates of Docker and Podman use.
fn row(seen: &Seen, whole: bool) -> Value {
    let mut row = json!({
        "ID": id(&seen.container, whole),
        "Container": id(&seen.container, whole),
        "ContainerID": seen.container.config.id,
        "Name": seen.container.name,
    });
    let used = match &seen.used {
        Some((cpu, sample)) => fields(*cpu, sample),
        None => nothing(),
    };
    if let (Value::Object(row), Value::Object(used)) = (&mut row, used) {
        row.extend(used);
    }
    row
}

/// The same fields of a container that does not run.
fn nothing() -> Value {
    let zero = Sample::default();
    let mut fields = fields(0.0, &zero);
    for field in fields.as_object_mut().into_iter().flatten() {
        *field.1 = json!("--");
    }
    fields
}

fn fields(cpu: f64, sample: &Sample) -> Value {
    let average = share(sample.cpu.as_secs_f64(), sample.up.as_secs_f64());
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "CPUPerc": percent(cpu),
        "CPU": percent(cpu),
        "AvgCPU": percent(average),
        "CPUTime": duration::go(sample.cpu),
        "CPUNano": nanos(sample.cpu),
        "CPUSystemNano": nanos(sample.system),
        "UpTime": duration::go(sample.up),
        "Up": duration::go(sample.up),
        "Duration": nanos(sample.up),
        "MemUsage": both(sample.memory, sample.memory_limit),
        "MemUsageBytes": both_binary(sample.memory, sample.memory_limit),
        "MemLimit": sample.memory_limit,
        "MemPerc": percent(memory_percent(sample)),
        "NetIO": both(sample.received, sample.sent),
        "NetInput": sample.received,
        "NetOutput": sample.sent,
        "BlockIO": both(sample.read, sample.written),
        "BlockInput": sample.read,
        "BlockOutput": sample.written,
        "PIDs": sample.pids,
        "PIDS": sample.pids,
        "PidsLimit": sample.pids_limit,
        "OOMKills": sample.limited.oom_kills,
        "PidsRefused": sample.limited.pids_refused,
        "ThrottledPeriods": sample.limited.throttled_periods,
        "ThrottledMicroseconds": sample.limited.throttled_microseconds,
    })
}

/// Podman's names, and beside them how often limits were met.
fn json_row(seen: &Seen, whole: bool) -> Value {
    let row = row(seen, whole);
    let mut found = json!({});
    for (name, field) in [
        ("id", "ID"),
        ("name", "Name"),
        ("cpu_time", "CPUTime"),
        ("cpu_percent", "CPUPerc"),
        ("avg_cpu", "AvgCPU"),
        ("mem_usage", "MemUsage"),
        ("mem_percent", "MemPerc"),
        ("net_io", "NetIO"),
        ("block_io", "BlockIO"),
    ] {
        found[name] = row[field].clone();
    }
    // A string, as Podman has it.
    found["pids"] = match &row["PIDs"] {
        Value::Number(number) => json!(number.to_string()),
        other => other.clone(),
    };
    if let Some((_, sample)) = &seen.used {
        found["oom_kills"] = json!(sample.limited.oom_kills);
        found["pids_refused"] = json!(sample.limited.pids_refused);
        found["throttled_periods"] = json!(sample.limited.throttled_periods);
        found["throttled_microseconds"] = json!(sample.limited.throttled_microseconds);
    }
    found
}

/// In powers of 1024: `3.906KiB / 15GiB`.
fn both_binary(one: u64, other: u64) -> String {
    format!("{} / {}", size::binary(one), size::binary(other))
}
