//! `rbox info`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::cli::format;
use crate::engine::Engine;
use crate::engine::info;

/// Show what rbox sees of this machine and of its store
#[derive(Args, Debug)]
pub struct Info {
    /// Print as json or by a Go template
    #[arg(short, long, value_name = "json|TEMPLATE")]
    format: Option<String>,
}

pub fn run(engine: &Engine, args: &Info, out: &mut dyn Write) -> Result<()> {
    let value = serde_json::to_value(info::gather(&engine.dirs)?)?;
    let text = match &args.format {
        Some(format) => format::one(&value, format)?,
        None => yaml(&value),
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// A value as a YAML document, for people.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.extend([&indent, &scalar(&key.as_str().into()), ":"]);
                // A list stands as deep as its key, as podman prints it.
                below(value, depth + usize::from(value.is_object()), text);
            }
        }
        Value::Array(list) => {
            for item in list {
                let start = text.len();
                block(item, depth + 1, text);
                // The first line of an item stands behind the dash.
                let place = start + indent.len();
                text.replace_range(place..place + 2, "- ");
            }
        }
        _ => text.extend([&indent, &scalar(value), "\n"]),
    }
}

/// What follows a key: a scalar on its line, all else on lines of its own.
fn below(value: &Value, depth: usize, text: &mut String) {
    let empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    if empty {
        text.extend([" ", &scalar(value), "\n"]);
        return;
    }
    text.push('\n');
    block(value, depth, text);
}

/// A string is quoted (as JSON, which YAML reads) where it would be read as something else.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-+ ()=".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(' ')
        && text.chars().all(plain);
    let special = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && !special.contains(&text.to_ascii_lowercase().as_str()) {
        return text.clone();
    }
    if text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(plain)
        && text.parse::<f64>().is_err()
    {
        return text.clone();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_podmans_form() {
        let value = json!({
            "host": {
                "cgroupControllers": ["cpu", "memory"],
                "idMappings": {"uidmap": [{"container_id": 0, "size": 1}, {"container_id": 1, "size": 5}]},
                "kernel": "6.18.44-fc",
                "none": [],
                "nothing": null,
            },
            "version": "12",
            "bad": "no",
            "odd": "a: b\n",
            "empty": "",
            "yes": true,
        });
        assert_eq!(
            yaml(&value),
            r#"host:
  cgroupControllers:
  - cpu
  - memory
  idMappings:
    uidmap:
    - container_id: 0
      size: 1
    - container_id: 1
      size: 5
  kernel: 6.18.44-fc
  none: []
  nothing: null
version: "12"
bad: "no"
odd: "a: b\n"
empty: ""
"yes": true
"#
        );
    }
}
