//! The functions of templates: Go's own, and those that docker and podman add.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::exec::Val;
use super::print;

/// Longest `pad`; more is a slip.
const MAX_PAD: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    And,
    Eq,
    Ge,
    Gt,
    Index,
    Join,
    Json,
    Le,
    Len,
    Lower,
    Lt,
    Ne,
    Not,
    Or,
    Pad,
    Print,
    Printf,
    Println,
    Slice,
    Split,
    Title,
    Truncate,
    Upper,
}

/// Names, and how many arguments at least and at most.
const FUNCTIONS: [(&str, Function, usize, usize); 23] = [
    ("and", Function::And, 1, usize::MAX),
    ("eq", Function::Eq, 2, usize::MAX),
    ("ge", Function::Ge, 2, 2),
    ("gt", Function::Gt, 2, 2),
    ("index", Function::Index, 1, usize::MAX),
    ("join", Function::Join, 2, 2),
    ("json", Function::Json, 1, 1),
    ("le", Function::Le, 2, 2),
    ("len", Function::Len, 1, 1),
    ("lower", Function::Lower, 1, 1),
    ("lt", Function::Lt, 2, 2),
    ("ne", Function::Ne, 2, 2),
    ("not", Function::Not, 1, 1),
    ("or", Function::Or, 1, usize::MAX),
    ("pad", Function::Pad, 3, 3),
    ("print", Function::Print, 0, usize::MAX),
    ("printf", Function::Printf, 1, usize::MAX),
    ("println", Function::Println, 0, usize::MAX),
    ("slice", Function::Slice, 1, 3),
    ("split", Function::Split, 2, 2),
    ("title", Function::Title, 1, 1),
    ("truncate", Function::Truncate, 2, 2),
    ("upper", Function::Upper, 1, 1),
];

impl Function {
    pub fn by_name(name: &str) -> Option<Function> {
        let found = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        found.map(|(_, function, ..)| *function)
    }

    pub fn name(self) -> &'static str {
        let found = FUNCTIONS.iter().find(|(_, function, ..)| *function == self);
        found.map_or("", |(name, ..)| name)
    }

    pub fn names() -> String {
        let names: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
        names.join(", ")
    }

    fn check_count(self, count: usize) -> Result<(), String> {
        let found = FUNCTIONS.iter().find(|(_, function, ..)| *function == self);
        let Some((_, _, least, most)) = found else {
            return Ok(());
        };
        if count < *least {
            return Err(format!("wants {least} arguments, got {count}"));
        }
        if count > *most {
            return Err(format!("wants at most {most} arguments, got {count}"));
        }
        Ok(())
    }
}

/// Calls a function. `and` and `or` decide what is evaluated and are the executor's.
pub(super) fn call(function: Function, args: Vec<Val<'_>>) -> Result<Val<'_>, String> {
    function.check_count(args.len())?;
    let value: Value = match function {
        Function::And | Function::Or => return Err("needs a value".to_owned()),
        Function::Index => return index(args),
        Function::Slice => slice(&args)?,
        Function::Eq => equals_any(&args)?.into(),
        Function::Ne => (!equals(&args[0].value, &args[1].value)?).into(),
        Function::Lt => order(&args)?.is_lt().into(),
        Function::Le => order(&args)?.is_le().into(),
        Function::Gt => order(&args)?.is_gt().into(),
        Function::Ge => order(&args)?.is_ge().into(),
        Function::Not => (!args[0].truth()).into(),
        Function::Len => len(&args[0].value)?.into(),
        Function::Json => args[0].value.to_string().into(),
        Function::Lower => text(&args[0])?.to_lowercase().into(),
        Function::Upper => text(&args[0])?.to_uppercase().into(),
        Function::Title => title(text(&args[0])?).into(),
        Function::Join => join(&args)?.into(),
        Function::Split => split(text(&args[0])?, text(&args[1])?),
        Function::Pad => pad(&args)?.into(),
        Function::Truncate => text(&args[0])?
            .chars()
            .take(count(&args[1])?)
            .collect::<String>()
            .into(),
        Function::Print => print::print(&args, false).into(),
        Function::Println => print::print(&args, true).into(),
        Function::Printf => print::printf(text(&args[0])?, &args[1..]).into(),
    };
    Ok(Val::owned(value))
}

fn text<'a>(arg: &'a Val<'_>) -> Result<&'a str, String> {
    arg.value
        .as_str()
        .ok_or_else(|| format!("wants a string, got {}", print::kind(&arg.value)))
}

fn count(arg: &Val<'_>) -> Result<usize, String> {
    let number = arg.value.as_u64().and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| format!("wants a count, got {}", print::value(&arg.value, arg.map)))
}

/// `index .List 0`, `index .Labels "key"`, and deeper with more arguments.
fn index(args: Vec<Val<'_>>) -> Result<Val<'_>, String> {
    let mut args = args.into_iter();
    let mut value = args.next().ok_or("wants a list or map")?;
    for key in args {
        value = match (&*value.value, &*key.value) {
            (Value::Array(list), Value::Number(_)) => {
                let position = count(&key)?;
                let length = list.len();
                value
                    .part(|list| list.get(position))
                    .ok_or_else(|| format!("{position} is out of range, there are {length}"))?
            }
            (Value::String(text), Value::Number(_)) => {
                let byte = text.as_bytes().get(count(&key)?);
                Val::owned(*byte.ok_or("out of range")?)
            }
            (Value::Object(_), Value::String(name)) => value
                .part(|object| object.get(name))
                .unwrap_or_else(|| Val::owned(Value::Null)),
            (Value::Null, Value::String(_)) => Val::owned(Value::Null),
            (value, key) => {
                return Err(format!("{} has no index {key}", print::kind(value)));
            }
        };
    }
    Ok(value)
}

fn slice(args: &[Val<'_>]) -> Result<Value, String> {
    let length = len(&args[0].value)?;
    let start = args.get(1).map_or(Ok(0), count)?;
    let end = args.get(2).map_or(Ok(length), count)?;
    if start > end || end > length {
        return Err(format!("{start}:{end} is out of range, there are {length}"));
    }
    match &*args[0].value {
        Value::Array(list) => Ok(list[start..end].to_vec().into()),
        Value::String(text) => match text.get(start..end) {
            Some(part) => Ok(part.into()),
            None => Err(format!("{start}:{end} cuts a character")),
        },
        other => Err(format!(
            "wants a list or string, got {}",
            print::kind(other)
        )),
    }
}

fn len(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        // An empty list or map of Go is null in JSON.
        Value::Null => Ok(0),
        other => Err(format!(
            "wants a list, map or string, got {}",
            print::kind(other)
        )),
    }
}

/// `eq a b c`: whether a is one of the others.
fn equals_any(args: &[Val<'_>]) -> Result<bool, String> {
    for other in &args[1..] {
        if equals(&args[0].value, &other.value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equals(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Ok(compare(a, b)?.is_eq()),
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        _ => Err(incomparable(a, b)),
    }
}

fn order(args: &[Val<'_>]) -> Result<Ordering, String> {
    compare(&args[0].value, &args[1].value)
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    let wrong = || incomparable(a, b);
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => {
            let integer =
                |n: &serde_json::Number| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from));
            if let (Some(x), Some(y)) = (integer(x), integer(y)) {
                return Ok(x.cmp(&y));
            }
            let pair = x.as_f64().zip(y.as_f64());
            pair.and_then(|(x, y)| x.partial_cmp(&y)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn incomparable(a: &Value, b: &Value) -> String {
    format!("cannot compare {} with {}", print::kind(a), print::kind(b))
}

/// Go's strings.Title: the first letter of each word.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

fn join(args: &[Val<'_>]) -> Result<String, String> {
    let separator = text(&args[1])?;
    match &*args[0].value {
        Value::Null => Ok(String::new()),
        Value::Array(list) => {
            let items: Vec<Cow<'_, str>> = list
                .iter()
                .map(|item| match item {
                    Value::String(text) => Cow::Borrowed(text.as_str()),
                    other => Cow::Owned(print::value(other, false)),
                })
                .collect();
            Ok(items.join(separator))
        }
        other => Err(format!(
            "wants a list and a string, got {}",
            print::kind(other)
        )),
    }
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).collect()
}

/// Spaces before and behind, but not around nothing.
fn pad(args: &[Val<'_>]) -> Result<String, String> {
    let text = text(&args[0])?;
    if text.is_empty() {
        return Ok(String::new());
    }
    let spaces = |arg| Ok::<_, String>(" ".repeat(count(arg)?.min(MAX_PAD)));
    Ok(spaces(&args[1])? + text + &spaces(&args[2])?)
}
