//! The columns of ps(1): processes as the host sees them, in the forms of procps.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::top::columns;
use crate::cli::top::columns::Column;
use crate::cli::top::columns::Value;
use crate::cli::top::columns::View;
use crate::engine::processes::Process;

/// Its names, the first of which is the usual one, and its heading.
type Known = (&'static [&'static str], &'static str, Value);

pub const COLUMNS: [Known; 37] = [
    (&["addr"], "ADDR", |_, _| "-".into()),
    (&["args", "cmd", "command"], "COMMAND", |_, one| {
        one.command.clone()
    }),
    (&["c"], "C", |view, one| {
        format!("{:.0}", columns::percent_of_cpu(&view.clock, one).floor())
    }),
    (&["comm", "ucmd", "ucomm"], "COMMAND", |_, one| {
        one.line("Name:").into()
    }),
    (&["pcpu", "%cpu"], "%CPU", |view, one| {
        format!("{:.1}", columns::percent_of_cpu(&view.clock, one))
    }),
    (&["pmem", "%mem"], "%MEM", |view, one| {
        let tenths = columns::resident(one) * 1000 / view.clock.memory.max(1);
        format!("{}.{}", tenths / 10, tenths % 10)
    }),
    (&["etime"], "ELAPSED", |view, one| {
        elapsed(view.clock.age(one))
    }),
    (&["etimes"], "ELAPSED", |view, one| {
        view.clock.age(one).as_secs().to_string()
    }),
    (&["f", "flag", "flags"], "F", |_, one| {
        // Linux: PF_FORKNOEXEC and PF_SUPERPRIV, as procps has it.
        ((one.stat.number(9) >> 6) & 7).to_string()
    }),
    (&["gid", "egid"], "GID", |_, one| {
        columns::effective(one, "Gid:").to_string()
    }),
    (&["group", "egroup"], "GROUP", |view, one| {
        view.host.group(columns::effective(one, "Gid:"))
    }),
    (&["label", "context"], "LABEL", |_, one| columns::label(one)),
    (&["lstart"], "STARTED", |view, one| {
        let started = view.clock.started(one).to_zoned(view.clock.zone.clone());
        started.strftime("%a %b %e %H:%M:%S %Y").to_string()
    }),
    (&["nice", "ni"], "NI", |_, one| one.stat.text(19).into()),
    (&["nlwp", "thcount"], "NLWP", |_, one| {
        one.stat.text(20).into()
    }),
    (&["pgid", "pgrp"], "PGID", |_, one| one.stat.text(5).into()),
    (&["pid", "tgid"], "PID", |_, one| one.pid.to_string()),
    (&["ppid"], "PPID", |_, one| one.stat.text(4).into()),
    (&["pri"], "PRI", |_, one| {
        // procps counts 39 for what the kernel calls 0.
        (39 - one.stat.text(18).parse::<i64>().unwrap_or(0)).to_string()
    }),
    (&["long-pri"], "PRI", |_, one| {
        (60 + one.stat.text(18).parse::<i64>().unwrap_or(0)).to_string()
    }),
    (&["psr"], "PSR", |_, one| one.stat.text(39).into()),
    (&["rgid"], "RGID", |_, one| {
        columns::real(one, "Gid:").to_string()
    }),
    (&["rgroup"], "RGROUP", |view, one| {
        view.host.group(columns::real(one, "Gid:"))
    }),
    (&["rss", "rssize", "rsz"], "RSS", |_, one| {
        columns::resident(one).to_string()
    }),
    (&["ruid"], "RUID", |_, one| {
        columns::real(one, "Uid:").to_string()
    }),
    (&["ruser"], "RUSER", |view, one| {
        view.host.user(columns::real(one, "Uid:"))
    }),
    (&["s", "state"], "S", |_, one| one.stat.text(3).into()),
    (&["sid", "sess", "session"], "SID", |_, one| {
        one.stat.text(6).into()
    }),
    (
        &["start_time", "stime", "start", "bsdstart"],
        "STIME",
        |view, one| start(view, view.clock.started(one)),
    ),
    (&["stat"], "STAT", |_, one| state(one)),
    (&["sz"], "SZ", |_, one| {
        (columns::virtual_size(one) / 4).to_string()
    }),
    (&["time", "cputime"], "TIME", |_, one| {
        clock(columns::cpu_time(one))
    }),
    (&["bsdtime"], "TIME", |_, one| {
        let seconds = columns::cpu_time(one).as_secs();
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }),
    (&["tty", "tt", "tname"], "TTY", |_, one| columns::tty(one)),
    (&["uid", "euid"], "UID", |_, one| {
        columns::effective(one, "Uid:").to_string()
    }),
    (&["user", "euser", "uname"], "USER", |view, one| {
        view.host.user(columns::effective(one, "Uid:"))
    }),
    (&["vsz", "vsize"], "VSZ", |_, one| {
        columns::virtual_size(one).to_string()
    }),
];

/// A column, with another heading than its own where one is given.
pub fn find(name: &str, heading: Option<&str>) -> Option<Column> {
    let (_, own, value) = COLUMNS.iter().find(|(names, ..)| names.contains(&name))?;
    let own = match name {
        "cmd" => "CMD",
        "start" | "bsdstart" => "START",
        _ => own,
    };
    Some(Column {
        heading: heading.unwrap_or(own).to_owned(),
        value: *value,
    })
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 3600 {
        return format!("{:02}:{:02}", seconds / 60, seconds % 60);
    }
    clock(time)
}

/// `[DD-]HH:MM:SS`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}-{rest}")
    } else {
        rest
    }
}

/// The time of today, else the day, else the year.
fn start(view: &View, started: Timestamp) -> String {
    let zone = &view.clock.zone;
    let (started, now) = (
        started.to_zoned(zone.clone()),
        view.clock.now.to_zoned(zone.clone()),
    );
    let form = if started.date() == now.date() {
        "%H:%M"
    } else if started.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    started.strftime(form).to_string()
}

/// The letter of its state and what procps adds to it.
fn state(process: &Process) -> String {
    let stat = &process.stat;
    let mut text = stat.text(3).to_owned();
    let nice: i64 = stat.text(19).parse().unwrap_or(0);
    let locked = process.line("VmLck:");
    for (holds, letter) in [
        (nice < 0, '<'),
        (nice > 0, 'N'),
        (!locked.is_empty() && !locked.starts_with("0 "), 'L'),
        (stat.text(6) == process.pid.to_string(), 's'),
        (stat.number(20) > 1, 'l'),
        (stat.text(5) == stat.text(8), '+'),
    ] {
        if holds {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_procps_writes_them() {
        for (seconds, short, long) in [
            (5, "00:05", "00:00:05"),
            (3599, "59:59", "00:59:59"),
            (3600, "01:00:00", "01:00:00"),
            (90_061, "1-01:01:01", "1-01:01:01"),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!(
                (elapsed(time).as_str(), clock(time).as_str()),
                (short, long)
            );
        }
    }
}
