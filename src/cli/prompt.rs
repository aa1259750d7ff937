//! Questions to a person at a terminal: on standard error, so that standard output is the result alone.

use std::io::IsTerminal;
use std::io::Read;
use std::os::fd::AsFd;

use anyhow::bail;

use crate::cli::output;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::terminal::Raw;

/// A line longer than any answer.
const LINE_MAX: usize = 4096;

/// Reads a line that is shown as it is typed.
pub fn line(question: &str) -> anyhow::Result<String> {
    wants_terminal()?;
    output::ask(question);
    let mut line = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::stdin().lock(), &mut line)?;
    if read == 0 {
        bail!("there is no answer");
    }
    Ok(line.trim().to_owned())
}

/// Reads a line that is not shown.
pub fn secret(question: &str) -> anyhow::Result<String> {
    wants_terminal()?;
    output::ask(question);
    let stdin = std::io::stdin();
    // Whoever interrupts this gets the terminal back as it was: signals are read as characters.
    let raw = Raw::enter(stdin.as_fd())?;
    let secret = typed(&mut stdin.lock());
    drop(raw);
    output::ask("\n");
    secret
}

/// What is typed up to the end of the line, with the keys of a terminal's line editing (termios(3)).
fn typed(keys: &mut impl Read) -> anyhow::Result<String> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut key = [0];
    loop {
        if keys.read(&mut key)? == 0 || key[0] == 3 || (key[0] == 4 && bytes.is_empty()) {
            bail!("interrupted");
        }
        match key[0] {
            b'\r' | b'\n' | 4 => return Ok(String::from_utf8(bytes)?),
            // Backspace takes a whole character of UTF-8.
            8 | 127 => while bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            21 => bytes.clear(),
            byte if bytes.len() < LINE_MAX => bytes.push(byte),
            _ => {}
        }
    }
}

/// Which one of several.
pub fn choose(question: &str, choices: &[String]) -> anyhow::Result<usize> {
    let mut text = format!("{question}\n");
    for (index, choice) in choices.iter().enumerate() {
        text.extend(["  ", &(index + 1).to_string(), "  ", choice, "\n"]);
    }
    output::ask(&text);
    loop {
        let answer = line(&format!("Number from 1 to {}: ", choices.len()))?;
        match answer.parse::<usize>() {
            Ok(number) if (1..=choices.len()).contains(&number) => return Ok(number - 1),
            _ => {}
        }
    }
}

fn wants_terminal() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    let text = "cannot ask for a user name and a password: standard input is no terminal";
    Err(fail(Kind::Usage, text)).hint("give --username and --password-stdin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line_can_be_edited() {
        let line = |keys: &str| typed(&mut keys.as_bytes());
        assert_eq!(line("secret\r").unwrap(), "secret");
        assert_eq!(line("sex\u{7f}cret\n").unwrap(), "secret");
        assert_eq!(line("sä\u{7f}ecret\n").unwrap(), "secret");
        assert_eq!(line("wrong\u{15}right\r").unwrap(), "right");
        assert_eq!(line("\u{7f}\u{7f}x\r").unwrap(), "x");
        assert!(line("sec\u{3}ret\r").is_err());
        assert!(line("\u{4}").is_err() && line("").is_err());
    }
}
