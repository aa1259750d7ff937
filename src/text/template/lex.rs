//! A template's text cut into pieces: text, and actions as tokens.

use super::Fault;
use super::Position;

#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action { at: Position, tokens: Vec<Token> },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub at: Position,
    pub kind: TokenKind,
    /// White space stands before it: `.A .B` are two operands, `.A.B` is one.
    pub spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`, with the dollar
    Variable(String),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Open,
    Close,
    Declare,
    Assign,
    Comma,
}

/// Cuts `source`; in a table it begins behind the word and a space ends a cell.
pub(super) fn lex(source: &str, table: bool) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut at = if table { "table ".len() } else { 0 };
    let mut trim_left = false;
    loop {
        let rest = &source[at..];
        let Some(open) = rest.find("{{") else {
            push_text(&mut pieces, &unescape(rest, table), trim_left, false);
            return Ok(pieces);
        };
        let inside = at + open + 2;
        let trims = begins_with_trim(&source[inside..]);
        let text = unescape(&rest[..open], table);
        push_text(&mut pieces, &text, trim_left, trims);
        let inside = if trims { inside + 1 } else { inside };
        (at, trim_left) = lex_action(source, inside, &mut pieces)?;
    }
}

/// `\t` and `\n` as they are typed in a shell; in a table a space ends a cell.
fn unescape(text: &str, table: bool) -> String {
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    if table {
        return text.replace(' ', "\t");
    }
    text
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_left: bool, trim_right: bool) {
    let text = if trim_left {
        text.trim_start_matches(is_space)
    } else {
        text
    };
    let text = if trim_right {
        text.trim_end_matches(is_space)
    } else {
        text
    };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// `{{- `: the white space behind the minus keeps `{{-3}}` a number.
fn begins_with_trim(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(is_space))
}

/// Where the action that may end here ends, and whether it trims what follows.
fn end_of_action(rest: &str) -> Option<(usize, bool)> {
    if rest.starts_with("}}") {
        return Some((2, false));
    }
    let trimmed = rest.trim_start_matches(is_space);
    let spaces = rest.len() - trimmed.len();
    (spaces > 0 && trimmed.starts_with("-}}")).then_some((spaces + 3, true))
}

/// Reads one action from behind its `{{`; answers where text goes on, and whether trimmed.
fn lex_action(source: &str, start: usize, pieces: &mut Vec<Piece>) -> Result<(usize, bool), Fault> {
    let comment = source[start..].trim_start_matches(is_space);
    if comment.starts_with("/*") {
        return end_of_comment(source, source.len() - comment.len());
    }
    let mut tokens = Vec::new();
    let mut at = start;
    let mut spaced = false;
    loop {
        let rest = &source[at..];
        if let Some((length, trims)) = end_of_action(rest) {
            pieces.push(Piece::Action { at: start, tokens });
            return Ok((at + length, trims));
        }
        let Some(c) = rest.chars().next() else {
            return Err(Fault::new(start, "action without its closing }}"));
        };
        if is_space(c) {
            spaced = true;
            at += 1;
            continue;
        }
        let (kind, length) = token(rest, at)?;
        tokens.push(Token { at, kind, spaced });
        spaced = false;
        at += length;
    }
}

fn end_of_comment(source: &str, start: usize) -> Result<(usize, bool), Fault> {
    let Some(end) = source[start..].find("*/") else {
        return Err(Fault::new(start, "comment without its closing */"));
    };
    let behind = start + end + 2;
    match end_of_action(&source[behind..]) {
        Some((length, trims)) => Ok((behind + length, trims)),
        None => Err(Fault::new(behind, "expected }} right after the comment")),
    }
}

/// One token and its length in bytes.
fn token(rest: &str, at: Position) -> Result<(TokenKind, usize), Fault> {
    let fixed = [
        (":=", TokenKind::Declare),
        ("=", TokenKind::Assign),
        ("|", TokenKind::Pipe),
        ("(", TokenKind::Open),
        (")", TokenKind::Close),
        (",", TokenKind::Comma),
    ];
    for (text, kind) in fixed {
        if rest.starts_with(text) {
            return Ok((kind, text.len()));
        }
    }
    let first = rest.as_bytes()[0];
    let second = rest.as_bytes().get(1).copied().unwrap_or(b' ');
    match first {
        b'"' => quoted(rest, at),
        b'`' => raw(rest, at),
        b'\'' => character(rest, at),
        b'$' => {
            let end = 1 + word_length(&rest[1..]);
            Ok((TokenKind::Variable(rest[..end].to_owned()), end))
        }
        b'.' if !second.is_ascii_digit() => {
            let length = word_length(&rest[1..]);
            if length == 0 {
                return Ok((TokenKind::Dot, 1));
            }
            Ok((TokenKind::Field(rest[1..=length].to_owned()), length + 1))
        }
        b'+' | b'-' | b'.' | b'0'..=b'9' => number(rest, at),
        _ => {
            let length = word_length(rest);
            let c = rest.chars().next().unwrap_or_default();
            if length == 0 {
                return Err(Fault::new(at, format!("unexpected character {c:?}")));
            }
            Ok((TokenKind::Word(rest[..length].to_owned()), length))
        }
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

fn quoted(rest: &str, at: Position) -> Result<(TokenKind, usize), Fault> {
    let mut text = String::new();
    let mut next = 1;
    loop {
        match rest[next..].chars().next() {
            None | Some('\n') => return Err(Fault::new(at, "string without its closing \"")),
            Some('"') => return Ok((TokenKind::Text(text), next + 1)),
            Some('\\') => {
                let (c, length) = escape(&rest[next..])
                    .ok_or_else(|| Fault::new(at + next, "unknown escape in a string"))?;
                text.push(c);
                next += length;
            }
            Some(c) => {
                text.push(c);
                next += c.len_utf8();
            }
        }
    }
}

fn raw(rest: &str, at: Position) -> Result<(TokenKind, usize), Fault> {
    match rest[1..].find('`') {
        Some(end) => Ok((TokenKind::Text(rest[1..=end].to_owned()), end + 2)),
        None => Err(Fault::new(at, "string without its closing `")),
    }
}

/// A character constant is its number, as in Go.
fn character(rest: &str, at: Position) -> Result<(TokenKind, usize), Fault> {
    let wrong = || Fault::new(at, "expected one character between single quotes");
    let (c, length) = match rest[1..].chars().next() {
        Some('\\') => escape(&rest[1..]).ok_or_else(wrong)?,
        Some('\'' | '\n') | None => return Err(wrong()),
        Some(c) => (c, c.len_utf8()),
    };
    if !rest[1 + length..].starts_with('\'') {
        return Err(wrong());
    }
    Ok((TokenKind::Number(u32::from(c).into()), length + 2))
}

/// Go's escapes: the character and how many bytes of the source it takes.
fn escape(rest: &str) -> Option<(char, usize)> {
    let letter = rest.chars().nth(1)?;
    let simple = match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '"' | '\'' => letter,
        'x' => return number_escape(rest, 2, 2, 16),
        'u' => return number_escape(rest, 2, 4, 16),
        'U' => return number_escape(rest, 2, 8, 16),
        '0'..='7' => return number_escape(rest, 1, 3, 8),
        _ => return None,
    };
    Some((simple, 2))
}

fn number_escape(rest: &str, start: usize, digits: usize, base: u32) -> Option<(char, usize)> {
    let text = rest.get(start..start + digits)?;
    if !text.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(text, base).ok()?)?;
    Some((c, start + digits))
}

fn number(rest: &str, at: Position) -> Result<(TokenKind, usize), Fault> {
    let mut length = 0;
    for (index, c) in rest.char_indices() {
        let exponent = index > 0 && matches!(rest.as_bytes()[index - 1], b'e' | b'E');
        let sign = matches!(c, '+' | '-') && (index == 0 || exponent);
        if !sign && !c.is_ascii_alphanumeric() && c != '.' && c != '_' {
            break;
        }
        length = index + c.len_utf8();
    }
    let text = &rest[..length];
    parse_number(&text.replace('_', ""))
        .map(|number| (TokenKind::Number(number), length))
        .ok_or_else(|| Fault::new(at, format!("expected a number, got {text:?}")))
}

fn parse_number(text: &str) -> Option<serde_json::Number> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let negative = text.starts_with('-');
    let based = [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find_map(|(prefix, base)| Some((unsigned.strip_prefix(prefix)?, *base)));
    if let Some((digits, base)) = based {
        let value = i64::from_str_radix(digits, base).ok()?;
        return Some(if negative { -value } else { value }.into());
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().ok().map(Into::into);
    }
    serde_json::Number::from_f64(text.parse().ok()?)
}
