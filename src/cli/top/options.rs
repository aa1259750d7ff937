//! Options of ps(1) that say what is shown of processes. Which are shown is said already: those of the
//! container.

use crate::cli::top::Shape;
use crate::cli::top::columns::Column;
use crate::cli::top::host;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

const PLAIN: &str = "pid,tty,time,comm=CMD";
const FULL: &str = "user=UID,pid,ppid,c,stime,tty,time,cmd";
const EXTRA_FULL: &str = "user=UID,pid,ppid,c,sz,rss,psr,stime,tty,time,cmd";
const JOBS: &str = "pid,pgid,sid,tty,time,comm=CMD";
const LONG: &str = "f,s,uid,pid,ppid,c,long-pri,ni,addr,sz,tty,time,comm=CMD";
const BSD: &str = "pid,tty,stat,bsdtime,args";
const BSD_USER: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,bsdstart,bsdtime,args";

/// Whether these are options of ps, and not descriptors.
pub fn is_of_ps(words: &[String]) -> bool {
    let Some(first) = words.first() else {
        return false;
    };
    let letters = |word: &str| !word.is_empty() && word.chars().all(|one| "auxwof".contains(one));
    first.starts_with('-') || letters(first)
}

pub fn parse(words: &[String]) -> anyhow::Result<Shape> {
    let mut listed: Vec<Column> = Vec::new();
    let mut preset = None;
    let mut has_heading = true;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                None if matches!(long, "no-headers" | "no-heading" | "no-headings") => {
                    has_heading = false;
                }
                None if long == "format" => list(words.next().unwrap_or(""), &mut listed)?,
                Some(("format", value)) => list(value, &mut listed)?,
                _ => return Err(unknown(word)),
            }
            continue;
        }
        let (is_unix, letters) = match word.strip_prefix('-') {
            Some(letters) => (true, letters),
            None => (false, word),
        };
        for (at, letter) in letters.char_indices() {
            match (is_unix, letter) {
                (_, 'o') => {
                    let rest = &letters[at + 1..];
                    let value = if rest.is_empty() {
                        words.next()
                    } else {
                        Some(rest)
                    };
                    list(value.unwrap_or(""), &mut listed)?;
                    break;
                }
                // Which processes, and how wide: all of the container's, and nothing is cut.
                (true, 'e' | 'A' | 'a' | 'd' | 'x' | 'w') | (false, 'w') => {}
                (true, 'f') => preset = Some(FULL),
                (true, 'F') => preset = Some(EXTRA_FULL),
                (true, 'j') => preset = Some(JOBS),
                (true, 'l') => preset = Some(LONG),
                (false, 'a' | 'x') => preset = preset.or(Some(BSD)),
                (_, 'u') => preset = Some(BSD_USER),
                _ => return Err(unknown(word)),
            }
        }
    }
    if listed.is_empty() {
        list(preset.unwrap_or(PLAIN), &mut listed)?;
    }
    Ok(Shape {
        has_heading: has_heading && listed.iter().any(|column| !column.heading.is_empty()),
        columns: listed,
        is_inside: false,
    })
}

/// `pid,cmd=WHAT`: the last of a list alone may have a heading with commas in it, as POSIX has it.
fn list(text: &str, columns: &mut Vec<Column>) -> anyhow::Result<()> {
    for word in text.split([',', ' ']) {
        let (name, heading) = match word.split_once('=') {
            Some((name, heading)) => (name, Some(heading)),
            None => (word, None),
        };
        let column = host::find(&name.to_ascii_lowercase(), heading).ok_or_else(|| {
            let names = host::COLUMNS.iter().map(|(names, ..)| names[0]);
            let names: Vec<&str> = names.collect();
            let text = format!("no column of ps is called \"{name}\" here");
            fail(Kind::Usage, text).hint(format!("there are {}", names.join(", ")))
        })?;
        columns.push(column);
    }
    Ok(())
}

fn unknown(word: &str) -> anyhow::Error {
    let text = format!("no option of ps is called \"{word}\" here");
    fail(Kind::Usage, text).hint(
        "there are -e, -f, -F, -j, -l, -u, -o LIST, --format LIST, --no-headers, and a, u, x without a hyphen",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match parse(&words) {
            Ok(shape) if shape.has_heading => {
                let all = shape.columns.iter().map(|column| column.heading.as_str());
                all.collect::<Vec<_>>().join(" ")
            }
            Ok(shape) => format!("{} without", shape.columns.len()),
            Err(err) => crate::error::message(&err),
        }
    }

    #[test]
    fn options_choose_the_columns() {
        for (line, expected) in [
            ("-e", "PID TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f -ww", "UID PID PPID C STIME TTY TIME CMD"),
            ("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
            ("-l", "F S UID PID PPID C PRI NI ADDR SZ TTY TIME CMD"),
            ("-j", "PID PGID SID TTY TIME CMD"),
            (
                "aux",
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            ),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-eo pid,cmd", "PID CMD"),
            ("-o pid -o comm=NAME", "PID NAME"),
            ("o pid,%cpu", "PID %CPU"),
            ("-opid,args", "PID COMMAND"),
            ("--format=pid,rss --no-headers", "2 without"),
            ("-o pid=,comm=", "2 without"),
            ("-eo pid,none", "no column of ps is called \"none\" here"),
            ("-o", "no column of ps is called \"\" here"),
            ("-eL", "no option of ps is called \"-eL\" here"),
            (
                "--sort=pid",
                "no option of ps is called \"--sort=pid\" here",
            ),
        ] {
            assert_eq!(headings(line), expected, "{line}");
        }
    }

    #[test]
    fn descriptors_are_no_options() {
        for (word, is_option) in [
            ("-ef", true),
            ("aux", true),
            ("pid", false),
            ("user", false),
        ] {
            assert_eq!(is_of_ps(&[word.to_owned()]), is_option, "{word}");
        }
    }
}
