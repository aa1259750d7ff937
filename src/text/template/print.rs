//! How Go prints values: `{{.}}`, `print`, and the verbs of `printf`.

use std::fmt::Write;

use serde_json::Number;
use serde_json::Value;

use super::exec::Val;

/// Go's limit of a width is a million; more than a line of a terminal is a slip.
const MAX_WIDTH: usize = 10_000;

/// `{{.}}`: like [`value`], but nothing at all is `<no value>`.
pub(super) fn plain(val: &Val<'_>) -> String {
    match &*val.value {
        Value::Null => "<no value>".to_owned(),
        value => self::value(value, val.map),
    }
}

/// Go's `%v`. Lists are `[a b]`, maps `map[k:v]` by key, structs `{a b}`.
pub(super) fn value(value: &Value, map: bool) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => self::number(number),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| self::value(item, false)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(object) if map => {
            let mut items: Vec<(&String, &Value)> = object.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            let items: Vec<String> = items
                .iter()
                .map(|(key, item)| format!("{key}:{}", self::value(item, false)))
                .collect();
            format!("map[{}]", items.join(" "))
        }
        Value::Object(object) if object.is_empty() => "map[]".to_owned(),
        Value::Object(object) => {
            let items: Vec<String> = object
                .values()
                .map(|item| self::value(item, false))
                .collect();
            format!("{{{}}}", items.join(" "))
        }
    }
}

fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => general(value, None),
        _ => number.to_string(),
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `print` and `println`: the former puts spaces only between two that are no strings.
pub(super) fn print(args: &[Val<'_>], line: bool) -> String {
    let mut text = String::new();
    for (index, arg) in args.iter().enumerate() {
        let strings = index > 0 && (arg.value.is_string() || args[index - 1].value.is_string());
        if index > 0 && (line || !strings) {
            text.push(' ');
        }
        text.push_str(&value(&arg.value, arg.map));
    }
    if line {
        text.push('\n');
    }
    text
}

/// One `%…` of a format.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's Printf; what does not fit is printed as Go does: `%!d(string=hi)`.
pub(super) fn printf(format: &str, args: &[Val<'_>]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        let (verb, letter, after) = parse_verb(&rest[percent + 1..]);
        rest = after;
        match letter {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match args.next() {
                Some(arg) => out.push_str(&verb.apply(letter, arg)),
                // Writing to a String cannot fail.
                None => write!(out, "%!{letter}(MISSING)").unwrap_or_default(),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = args.map(typed).collect();
    if !extra.is_empty() {
        write!(out, "%!(EXTRA {})", extra.join(", ")).unwrap_or_default();
    }
    out
}

/// Flags, width and precision, the letter, and what is behind it.
fn parse_verb(text: &str) -> (Verb, Option<char>, &str) {
    let mut verb = Verb::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            ' ' => verb.space = true,
            '0' => verb.zero = true,
            '#' => verb.sharp = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    (verb.width, rest) = take_number(rest);
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = take_number(after);
        verb.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    let letter = rest.chars().next();
    let rest = &rest[letter.map_or(0, char::len_utf8)..];
    (verb, letter, rest)
}

fn take_number(text: &str) -> (Option<usize>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.parse().ok().map(|n: usize| n.min(MAX_WIDTH)), rest)
}

impl Verb {
    fn apply(&self, letter: char, arg: &Val<'_>) -> String {
        let text = match (letter, &*arg.value) {
            ('v' | 's', Value::String(text)) => Some(self.cut(text)),
            ('v', Value::Number(number)) => Some(self.signed(&self::number(number))),
            ('v', value) => Some(self::value(value, arg.map)),
            ('t', Value::Bool(value)) => Some(value.to_string()),
            ('s', value @ (Value::Array(_) | Value::Object(_))) => {
                Some(self::value(value, arg.map))
            }
            ('q', Value::String(text)) => Some(quote(&self.cut(text))),
            ('q', Value::Array(list)) => {
                let items: Vec<String> = list
                    .iter()
                    .map(|item| self.apply('q', &Val::owned(item.clone())))
                    .collect();
                Some(format!("[{}]", items.join(" ")))
            }
            ('x' | 'X', Value::String(text)) => Some(hex(text.as_bytes(), letter)),
            (_, Value::Number(number)) => self.number(letter, number),
            _ => None,
        };
        match text {
            Some(text) => self.pad(text, arg.value.is_number()),
            None => format!("%!{letter}({})", typed(arg)),
        }
    }

    fn number(&self, letter: char, number: &Number) -> Option<String> {
        let integer = number
            .as_i64()
            .map(i128::from)
            .or(number.as_u64().map(i128::from));
        let character = || char::from_u32(u32::try_from(integer?).ok()?);
        if let ('e' | 'f' | 'F' | 'g', Some(value)) =
            (letter, number.as_f64().filter(|_| integer.is_none()))
        {
            let text = match letter {
                'e' => exponent(&format!("{value:.*e}", self.precision.unwrap_or(6))),
                'g' => general(value, self.precision),
                _ => format!("{value:.*}", self.precision.unwrap_or(6)),
            };
            return Some(self.signed(&text));
        }
        let integer = integer?;
        let sign = if integer < 0 { "-" } else { "" };
        let digits = integer.unsigned_abs();
        let text = match letter {
            'd' => format!("{sign}{digits}"),
            'x' => format!("{sign}{}{digits:x}", if self.sharp { "0x" } else { "" }),
            'X' => format!("{sign}{}{digits:X}", if self.sharp { "0X" } else { "" }),
            'o' => format!("{sign}{}{digits:o}", if self.sharp { "0" } else { "" }),
            'b' => format!("{sign}{digits:b}"),
            'c' => return Some(character()?.to_string()),
            'q' => return Some(format!("'{}'", character()?.escape_debug())),
            'U' => return Some(format!("U+{digits:04X}")),
            _ => return None,
        };
        Some(self.signed(&text))
    }

    fn signed(&self, text: &str) -> String {
        match text {
            text if text.starts_with('-') => text.to_owned(),
            text if self.plus => format!("+{text}"),
            text if self.space => format!(" {text}"),
            text => text.to_owned(),
        }
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        }
    }

    fn pad(&self, text: String, number: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if self.zero && number {
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - digits.len()];
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }
}

/// `string=hi`, as Go complains.
fn typed(arg: &Val<'_>) -> String {
    let name = match &*arg.value {
        Value::Null => return "<nil>".to_owned(),
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    format!("{name}={}", value(&arg.value, arg.map))
}

fn hex(bytes: &[u8], letter: char) -> String {
    let digit = |byte: &u8| match letter {
        'X' => format!("{byte:02X}"),
        _ => format!("{byte:02x}"),
    };
    bytes.iter().map(digit).collect()
}

/// Go's strconv.Quote.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            // Writing to a String cannot fail.
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)).unwrap_or_default(),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's %g: the shortest digits that give the number back, or so many significant ones;
/// with an exponent below -4, and from 6 or the number of digits asked for on.
fn general(value: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        Some(precision) => format!("{value:.*e}", precision.max(1) - 1),
        None => format!("{value:e}"),
    };
    let Some((digits, power)) = scientific.split_once('e') else {
        return scientific;
    };
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    let power: i32 = power.parse().unwrap_or(0);
    let limit = precision.map_or(6, |precision| i32::try_from(precision.max(1)).unwrap_or(6));
    if power < -4 || power >= limit {
        return exponent(&format!("{digits}e{power}"));
    }
    let shown = digits.chars().filter(char::is_ascii_digit).count();
    let places = i32::try_from(shown).unwrap_or(1) - 1 - power;
    format!("{value:.*}", usize::try_from(places).unwrap_or(0))
}

/// Rust's `1.5e3` as Go's `1.5e+03`.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let power: i32 = power.parse().unwrap_or(0);
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.unsigned_abs())
}
