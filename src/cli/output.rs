//! The only place that writes to standard output and standard error.
#![expect(
    clippy::print_stderr,
    reason = "errors and warnings are printed here and nowhere else"
)]

use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;

use crate::error;
use crate::error::Kind;
use crate::text::escape;

/// Writes to stdout. A reader that has gone away ends the program quietly.
///
/// Names and labels come from images and registries: what would steer a terminal is shown, not sent.
pub fn print(text: &str) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() {
        write(escape::lines(text).as_bytes())
    } else {
        write(text.as_bytes())
    }
}

/// Shows a text on a terminal in place of what was there.
pub fn redraw(text: &str) -> anyhow::Result<()> {
    // ECMA-48: home, the lines with what is right of each erased, and then all below.
    let lines = escape::lines(text).replace('\n', "\x1b[K\n");
    write(format!("\x1b[H{lines}\x1b[J").as_bytes())
}

pub fn print_line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => {
            crate::sys::process::exit_now(0)
        }
        result => Ok(result?),
    }
}

/// Empties the terminal's screen; the next line is its first.
pub fn clear_screen() -> anyhow::Result<()> {
    write(b"\x1b[H\x1b[2J")
}

/// Standard output for code that is given where to write.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An error on stderr: one line, and a hint where there is one.
pub fn print_error(err: &anyhow::Error) {
    eprintln!("Error: {}", bounded(&error::message(err)));
    if let Some(hint) = error::hint(err) {
        print_hint(hint);
    }
}

/// The same without a lead, for callers that put their own before it.
pub fn print_plain_error(err: &anyhow::Error) {
    let message = error::message(err);
    let mut text = format!("{}\n", bounded(&message));
    if let Some(hint) = error::hint(err) {
        text = text + "Hint: " + hint + "\n";
    }
    // One write: lines of several processes do not mix.
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// Names that an image or a registry chose may have millions of letters: the middle of such a message is left
/// out.
fn bounded(message: &str) -> String {
    const MOST: usize = 1000;
    let text = escape::line(message);
    match (
        text.char_indices().nth(MOST),
        text.char_indices().nth_back(MOST),
    ) {
        (Some((head, _)), Some((tail, _))) if head < tail => {
            format!("{} … {}", &text[..head], &text[tail..])
        }
        _ => text.into_owned(),
    }
}

pub fn print_hint(hint: &str) {
    eprintln!("Hint: {hint}");
}

/// How far something is, for a log: one line on stderr.
pub fn print_progress(text: &str) {
    let line = format!("{}\n", escape::line(text));
    // One write: lines of several threads do not mix. Who does not listen misses nothing else.
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// A question to a person, whose answer follows on the same line.
pub fn ask(text: &str) {
    std::io::stderr()
        .write_all(escape::lines(text).as_bytes())
        .ok();
}

/// For a person who waits, and not among the errors of a script.
pub fn print_note(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("Note: {}", escape::line(text));
    }
}

/// Something that went wrong and was passed over.
pub fn print_warning(text: &str) {
    eprintln!("Warning: {text}");
}

pub fn print_warning_and_hint(text: &str, hint: &str) {
    print_warning(text);
    print_hint(hint);
}

/// Of each record that cannot be read, in one line; and once what to do.
pub fn print_damaged(damaged: &[anyhow::Error]) {
    for err in damaged {
        print_warning(&error::message(err));
    }
    if let Some(hint) = damaged.iter().find_map(error::hint) {
        print_hint(hint);
    }
}

/// Asks a person; without an answer it is no.
pub fn confirmed(warning: &str) -> anyhow::Result<bool> {
    print(&format!(
        "{warning}Are you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

/// Runs a verb for each name, goes on after a failure, and reports each: the last as the error of
/// the command, the others at once.
pub fn each<T>(names: &[T], verb: impl FnMut(&T) -> anyhow::Result<()>) -> anyhow::Result<u8> {
    each_of(names, verb)
}

/// The same for things that are given away.
pub fn each_of<T>(
    names: impl IntoIterator<Item = T>,
    mut verb: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let mut failed = None;
    for name in names {
        if let Err(err) = verb(name)
            && let Some(earlier) = failed.replace(err)
        {
            print_error(&earlier);
        }
    }
    match failed {
        Some(err) => Err(err),
        None => Ok(0),
    }
}

/// Removes volumes or networks, and reports each failure. The exit status is podman's: 1 for what does not exist,
/// which `force` passes over, 2 for what is in use, 125 for all else and for a mixture.
pub fn each_removed(
    names: &[String],
    force: bool,
    remove: impl Fn(&str) -> anyhow::Result<()>,
) -> u8 {
    let mut status = 0;
    for name in names {
        let Err(err) = remove(name) else {
            continue;
        };
        let this = match error::kind(&err) {
            Some(Kind::NotFound) if force => continue,
            Some(Kind::NotFound) => 1,
            Some(Kind::Conflict) => 2,
            _ => 125,
        };
        print_error(&err);
        status = if status == 0 || status == this {
            this
        } else {
            125
        };
    }
    status
}
