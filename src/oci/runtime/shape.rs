//! The form of a JSON document: types, ranges, names and required members. The first mistake is told with its place.

use std::fmt;

use serde_json::Value;

/// Texts of the document that an error repeats are cut here.
const LONGEST: usize = 60;

/// What a value has to be.
pub enum Shape {
    Bool,
    Integer(i128, i128),
    Text,
    /// One of some names, and what they are names of.
    Name(&'static str, &'static [&'static str]),
    /// A text of a form of its own, and how that is described.
    Form(&'static str, fn(&str) -> bool),
    List(&'static Shape),
    /// An object with any names.
    Map(&'static Shape),
    Object(&'static [Member]),
}

pub struct Member {
    name: &'static str,
    shape: Shape,
    required: bool,
}

pub const fn must(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        shape,
        required: true,
    }
}

pub const fn may(name: &'static str, shape: Shape) -> Member {
    Member {
        name,
        shape,
        required: false,
    }
}

/// A mistake in a document, and where it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    at: String,
    said: String,
}

impl Mistake {
    pub fn new(at: impl Into<String>, said: impl Into<String>) -> Mistake {
        Mistake {
            at: at.into(),
            said: said.into(),
        }
    }

    /// The same seen from a place above, where `step` leads to it.
    #[must_use]
    pub fn below(mut self, step: &str) -> Mistake {
        let dot = if self.at.is_empty() || self.at.starts_with('[') {
            ""
        } else {
            "."
        };
        self.at = format!("{step}{dot}{}", self.at);
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.said)
    }
}

impl std::error::Error for Mistake {}

/// A text in quotes, on one line and not too long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The path of a member of the object at `above`, which may have any name.
pub fn member(above: &str, name: &str) -> String {
    Mistake::new(step(name), "").below(above).at
}

fn step(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("[{}]", quoted(name))
    }
}

impl Shape {
    /// Checks a value, and takes away what means nothing: unknown members (which "MUST be ignored"), null, and
    /// empty texts where there need be none, which is how Go has it.
    pub fn check(&self, value: &mut Value) -> Result<(), Mistake> {
        match (self, &mut *value) {
            (Shape::Bool, Value::Bool(_)) => Ok(()),
            (Shape::Integer(min, max), Value::Number(number)) => {
                let given = number.as_i64().map(i128::from);
                let given = given.or(number.as_u64().map(i128::from));
                match given {
                    Some(given) if (*min..=*max).contains(&given) => Ok(()),
                    _ => self.mistake(value),
                }
            }
            (Shape::Text, Value::String(text)) => no_nul(text),
            (Shape::Name(what, known), Value::String(text)) => {
                if known.contains(&text.as_str()) {
                    return Ok(());
                }
                let known = known.join(", ");
                let said = format!("unknown {what} {}: expected one of {known}", quoted(text));
                Err(Mistake::new("", said))
            }
            (Shape::Form(_, right), Value::String(text)) => {
                no_nul(text)?;
                if right(text) {
                    return Ok(());
                }
                self.mistake(value)
            }
            (Shape::List(of), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let checked = of.check(item);
                    checked.map_err(|mistake| mistake.below(&format!("[{index}]")))?;
                }
                Ok(())
            }
            (Shape::Map(of), Value::Object(map)) => {
                map.retain(|_, value| !value.is_null());
                for (name, value) in map {
                    no_nul(name)?;
                    let checked = of.check(value);
                    checked.map_err(|mistake| mistake.below(&step(name)))?;
                }
                Ok(())
            }
            (Shape::Object(members), Value::Object(map)) => check_members(members, map),
            _ => self.mistake(value),
        }
    }

    fn mistake(&self, value: &Value) -> Result<(), Mistake> {
        let said = format!("expected {}, found {}", self.expected(), found(value));
        Err(Mistake::new("", said))
    }

    fn expected(&self) -> String {
        match self {
            Shape::Bool => "true or false".into(),
            Shape::Integer(min, max) => format!("an integer from {min} to {max}"),
            Shape::Text | Shape::Name(..) => "a string".into(),
            Shape::Form(described, _) => (*described).into(),
            Shape::List(_) => "a list".into(),
            Shape::Map(_) | Shape::Object(_) => "an object".into(),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Shape::Text | Shape::Name(..) | Shape::Form(..))
    }
}

fn check_members(
    members: &'static [Member],
    map: &mut serde_json::Map<String, Value>,
) -> Result<(), Mistake> {
    map.retain(|name, value| {
        members.iter().any(|member| {
            let means_nothing =
                value.is_null() || (!member.required && member.shape.is_text() && *value == "");
            member.name == name && !means_nothing
        })
    });
    for member in members {
        let checked = match map.get_mut(member.name) {
            Some(value) => member.shape.check(value),
            None if member.required => {
                let said = format!("missing: expected {}", member.shape.expected());
                Err(Mistake::new("", said))
            }
            None => Ok(()),
        };
        checked.map_err(|mistake| mistake.below(member.name))?;
    }
    Ok(())
}

fn no_nul(text: &str) -> Result<(), Mistake> {
    if text.contains('\0') {
        let said = format!(
            "expected a string without NUL bytes, found {}",
            quoted(text)
        );
        return Err(Mistake::new("", said));
    }
    Ok(())
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if number.is_f64() => format!("number {number}"),
        Value::Number(number) => format!("integer {number}"),
        Value::String(text) => format!("string {}", quoted(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        must("list", Shape::List(&Shape::Integer(-1, 5))),
        may("map", Shape::Map(&Shape::Text)),
        may("text", Shape::Text),
    ]);

    fn said(mut value: Value) -> String {
        SHAPE.check(&mut value).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_has_a_place() {
        for (value, want) in [
            (json!(1), "expected an object, found integer 1"),
            (json!({}), "list: missing: expected a list"),
            (json!({"list": null}), "list: missing: expected a list"),
            (
                json!({"list": [0, "x"]}),
                "list[1]: expected an integer from -1 to 5, found string \"x\"",
            ),
            (
                json!({"list": [6]}),
                "list[0]: expected an integer from -1 to 5, found integer 6",
            ),
            (
                json!({"list": [1.0]}),
                "list[0]: expected an integer from -1 to 5, found number 1.0",
            ),
            (
                json!({"list": [], "map": {"a": true}}),
                "map.a: expected a string, found true",
            ),
            (
                json!({"list": [], "map": {"a.b\n": []}}),
                "map[\"a.b\\n\"]: expected a string, found a list",
            ),
            (
                json!({"list": [], "text": "a\0b"}),
                "text: expected a string without NUL bytes, found \"a\\0b\"",
            ),
        ] {
            assert_eq!(said(value), want);
        }
    }

    #[test]
    fn what_means_nothing_is_taken_away() {
        let mut value = json!({"list": [], "text": "", "other": 1, "map": {"a": null, "b": ""}});
        SHAPE.check(&mut value).unwrap();
        assert_eq!(value, json!({"list": [], "map": {"b": ""}}));
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "ä".repeat(1000);
        assert_eq!(quoted(&long), format!("{:?}…", "ä".repeat(60)));
    }
}
