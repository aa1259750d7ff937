//! Podman's descriptors: processes as their container sees them, and a few as the host does.

use crate::cli::top::columns;
use crate::cli::top::columns::Column;
use crate::cli::top::columns::Value;
use crate::cli::top::columns::View;
use crate::engine::processes::Process;
use crate::engine::top::Inside;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::caps;
use crate::text::duration;

/// Those of a call that names none.
pub const DEFAULT: [&str; 8] = [
    "user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args",
];

/// A descriptor, also by the letter behind a percent sign that POSIX has for `ps -o`.
pub struct Known {
    pub name: &'static str,
    letter: Option<char>,
    heading: &'static str,
    value: Value,
}

const fn known(
    name: &'static str,
    letter: Option<char>,
    heading: &'static str,
    value: Value,
) -> Known {
    Known {
        name,
        letter,
        heading,
        value,
    }
}

pub const COLUMNS: [Known; 30] = [
    known("args", Some('a'), "COMMAND", |_, one| one.command.clone()),
    known("capamb", None, "AMBIENT CAPS", |_, one| {
        capabilities(one, "CapAmb:")
    }),
    known("capbnd", None, "BOUNDING CAPS", |_, one| {
        capabilities(one, "CapBnd:")
    }),
    known("capeff", None, "EFFECTIVE CAPS", |_, one| {
        capabilities(one, "CapEff:")
    }),
    known("capinh", None, "INHERITED CAPS", |_, one| {
        capabilities(one, "CapInh:")
    }),
    known("capprm", None, "PERMITTED CAPS", |_, one| {
        capabilities(one, "CapPrm:")
    }),
    known("comm", Some('c'), "COMMAND", |_, one| {
        one.line("Name:").into()
    }),
    known("etime", Some('t'), "ELAPSED", |view, one| {
        duration::go(view.clock.age(one))
    }),
    known("group", Some('G'), "GROUP", |view, one| {
        group(view, columns::effective(one, "Gid:"))
    }),
    known("groups", None, "GROUPS", |view, one| {
        groups(one, |gid| group(view, gid))
    }),
    known("hgroup", None, "HGROUP", |view, one| {
        view.host.group(columns::effective(one, "Gid:"))
    }),
    known("hgroups", None, "HGROUPS", |view, one| {
        groups(one, |gid| view.host.group(gid))
    }),
    known("hpid", None, "HPID", |_, one| one.pid.to_string()),
    known("huser", None, "HUSER", |view, one| {
        view.host.user(columns::effective(one, "Uid:"))
    }),
    known("label", None, "LABEL", |_, one| columns::label(one)),
    known("nice", Some('n'), "NI", |_, one| one.stat.text(19).into()),
    known("pcpu", Some('C'), "%CPU", |view, one| {
        format!("{:.3}", columns::percent_of_cpu(&view.clock, one))
    }),
    known("pgid", Some('r'), "PGID", |view, one| {
        number(view, one, "NSpgid:")
    }),
    known("pid", Some('p'), "PID", |view, one| {
        number(view, one, "NSpid:")
    }),
    known("ppid", Some('P'), "PPID", |view, one| {
        let parent = one.stat.text(4);
        match &view.inside {
            Some(inside) => inside.pid(parent.parse().unwrap_or(0)).to_string(),
            None => parent.into(),
        }
    }),
    known("rgroup", Some('g'), "RGROUP", |view, one| {
        group(view, columns::real(one, "Gid:"))
    }),
    known("rss", None, "RSS", |_, one| {
        columns::resident(one).to_string()
    }),
    known("ruser", Some('u'), "RUSER", |view, one| {
        user(view, columns::real(one, "Uid:"))
    }),
    known("seccomp", None, "SECCOMP", |_, one| {
        let mode = match one.line("Seccomp:") {
            "0" => "disabled",
            "1" => "strict",
            "2" => "filter",
            other => other,
        };
        mode.into()
    }),
    known("state", None, "STATE", |_, one| one.stat.text(3).into()),
    known("stime", None, "STIME", |view, one| {
        let started = view.clock.started(one).to_zoned(view.clock.zone.clone());
        started.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }),
    known("time", Some('x'), "TIME", |_, one| {
        duration::go(columns::cpu_time(one))
    }),
    known("tty", Some('y'), "TTY", |_, one| columns::tty(one)),
    known("user", Some('U'), "USER", |view, one| {
        user(view, columns::effective(one, "Uid:"))
    }),
    known("vsz", Some('z'), "VSZ", |_, one| {
        columns::virtual_size(one).to_string()
    }),
];

/// The columns of these names or letters.
pub fn find(names: &[&str]) -> anyhow::Result<Vec<Column>> {
    let mut found = Vec::new();
    for name in names {
        let letter = name.strip_prefix('%').and_then(|rest| {
            let mut letters = rest.chars();
            letters.next().filter(|_| letters.as_str().is_empty())
        });
        let column = COLUMNS
            .iter()
            .find(|known| known.name == *name || letter.is_some() && known.letter == letter);
        let column = column.ok_or_else(|| {
            let text = format!("no descriptor is called \"{name}\"");
            fail(Kind::Usage, text).hint(
                "`rbox top --help` lists the descriptors, and which options of ps(1) it knows",
            )
        })?;
        found.push(Column {
            heading: column.heading.into(),
            value: column.value,
        });
    }
    Ok(found)
}

fn user(view: &View, uid: u32) -> String {
    let inside = |inside: &Inside| inside.user(uid);
    view.inside
        .as_ref()
        .map_or_else(|| view.host.user(uid), inside)
}

fn group(view: &View, gid: u32) -> String {
    let inside = |inside: &Inside| inside.group(gid);
    view.inside
        .as_ref()
        .map_or_else(|| view.host.group(gid), inside)
}

fn groups(process: &Process, name: impl Fn(u32) -> String) -> String {
    let gids = process.numbers("Groups:").into_iter();
    gids.map(name).collect::<Vec<_>>().join(",")
}

fn number(view: &View, process: &Process, key: &str) -> String {
    let inside = |inside: &Inside| inside.number(process, key);
    view.inside.as_ref().map_or(0, inside).to_string()
}

/// The names in one of its sets, without `CAP_`.
fn capabilities(process: &Process, key: &str) -> String {
    let set = u64::from_str_radix(process.line(key), 16).unwrap_or(0);
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    let last: u32 = last.trim().parse().unwrap_or(63);
    capability_names(set, last)
}

fn capability_names(set: u64, last: u32) -> String {
    let all = u64::MAX >> (63 - last.min(63));
    match set & all {
        0 => "none".into(),
        set if set == all => "full".into(),
        set => {
            let numbers = (0..=last).filter(|number| set & (1 << number) != 0);
            let names = numbers.map(|number| {
                let name = usize::try_from(number)
                    .ok()
                    .and_then(|at| caps::NAMES.get(at));
                name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
            });
            names.collect::<Vec<_>>().join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_capabilities_are_named() {
        for (set, names) in [
            (0, "none"),
            (0x1ff_ffff_ffff, "full"),
            (0b1001, "CHOWN,FOWNER"),
            (1 << 40, "CHECKPOINT_RESTORE"),
        ] {
            assert_eq!(capability_names(set, 40), names);
        }
        assert_eq!(capability_names(1 << 41, 41), "41");
    }

    #[test]
    fn descriptors_are_found_by_name_and_letter() {
        let found = find(&["hpid", "%C", "args"]).unwrap();
        let headings: Vec<&str> = found.iter().map(|column| column.heading.as_str()).collect();
        assert_eq!(headings, ["HPID", "%CPU", "COMMAND"]);
        for wrong in ["", "%", "%Z", "%CC", "PID", "hpid "] {
            assert!(find(&[wrong]).is_err());
        }
    }
}
