//! Instructions of a Dockerfile that change what an image says of itself: `commit --change`.

use anyhow::Result;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::error::Kind;
use crate::error::fail;

/// Applies one instruction to the `config` of an image config.
pub fn apply(config: &mut Map<String, Value>, instruction: &str) -> Result<()> {
    let wrong = |expected: &str| {
        fail(
            Kind::Usage,
            format!("--change=\"{instruction}\": expected {expected}"),
        )
    };
    let text = instruction.trim();
    let (word, value) = text
        .split_once([' ', '\t', '='])
        .ok_or_else(|| wrong("INSTRUCTION VALUE"))?;
    let value = value.trim();
    match word.to_ascii_uppercase().as_str() {
        "CMD" => {
            config.insert("Cmd".into(), command(value));
        }
        "ENTRYPOINT" => {
            config.insert("Entrypoint".into(), command(value));
        }
        "ENV" => {
            for (key, value) in pairs(value).ok_or_else(|| wrong("ENV KEY=VALUE"))? {
                set_variable(config, &key, &value);
            }
        }
        "EXPOSE" => {
            for port in value.split_whitespace() {
                let full = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                let (number, protocol) = full.split_once('/').unwrap_or_default();
                if number.parse::<u16>().is_err() || !matches!(protocol, "tcp" | "udp" | "sctp") {
                    return Err(wrong("EXPOSE PORT[/PROTOCOL]"));
                }
                add_key(config, "ExposedPorts", &full);
            }
        }
        "LABEL" => {
            for (key, value) in pairs(value).ok_or_else(|| wrong("LABEL KEY=VALUE"))? {
                object(config, "Labels").insert(key, json!(value));
            }
        }
        "ONBUILD" => list(config, "OnBuild").push(json!(value)),
        "STOPSIGNAL" => {
            crate::text::signal::parse(value).map_err(|_| wrong("STOPSIGNAL SIGNAL"))?;
            config.insert("StopSignal".into(), json!(value));
        }
        "USER" => {
            config.insert("User".into(), json!(value));
        }
        "VOLUME" => {
            let words = exec_form(value)
                .unwrap_or_else(|| value.split_whitespace().map(str::to_owned).collect());
            for path in words {
                add_key(config, "Volumes", &path);
            }
        }
        "WORKDIR" => {
            config.insert("WorkingDir".into(), json!(value));
        }
        _ => {
            return Err(wrong(
                "one of the instructions CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR",
            ));
        }
    }
    Ok(())
}

/// Adds a member to one of Docker's sets: `{"80/tcp": {}}`.
pub fn add_key(config: &mut Map<String, Value>, set: &str, key: &str) {
    object(config, set).insert(key.to_owned(), json!({}));
}

pub fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let all = list(config, "Env");
    let lead = format!("{key}=");
    all.retain(|one| !one.as_str().is_some_and(|one| one.starts_with(&lead)));
    all.push(json!(format!("{key}={value}")));
}

/// The object of this name, in place of whatever else has it.
fn object<'a>(config: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one")
}

fn list<'a>(config: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let value = config.entry(name).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it was made one")
}

/// `["a", "b"]` is what it says; anything else is for the shell.
fn command(value: &str) -> Value {
    match exec_form(value) {
        Some(words) => json!(words),
        None if value.is_empty() => json!([]),
        None => json!(["/bin/sh", "-c", value]),
    }
}

fn exec_form(value: &str) -> Option<Vec<String>> {
    serde_json::from_str(value).ok()
}

/// `a=1 b="2 3"`, or `a 1`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split_whitespace().next()?;
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let words = words(text)?;
    let pair = |word: String| {
        let (key, value) = word.split_once('=')?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    words.into_iter().map(pair).collect()
}

/// Words as a shell splits them: quotes and backslashes.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut config = Map::new();
        config.insert("Env".into(), json!(["A=old", "B=b"]));
        for instruction in [
            "CMD [\"a\", \"b c\"]",
            "ENTRYPOINT=run me",
            "env A=\"new one\" C='x y'",
            "ENV D has words",
            "EXPOSE 80 53/udp",
            "LABEL one=1 two=\"\\\"2\\\"\"",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGQUIT",
            "USER 1:2",
            "VOLUME [\"/a b\"]",
            "VOLUME /c /d",
            "WORKDIR=/w",
        ] {
            apply(&mut config, instruction).unwrap();
        }
        assert_eq!(
            Value::Object(config),
            json!({
                "Cmd": ["a", "b c"],
                "Entrypoint": ["/bin/sh", "-c", "run me"],
                "Env": ["B=b", "A=new one", "C=x y", "D=has words"],
                "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
                "Labels": { "one": "1", "two": "\"2\"" },
                "OnBuild": ["RUN x"],
                "StopSignal": "SIGQUIT",
                "User": "1:2",
                "Volumes": { "/a b": {}, "/c": {}, "/d": {} },
                "WorkingDir": "/w",
            })
        );
    }

    #[test]
    fn wrong_instructions_are_one_line_each() {
        for (instruction, expected) in [
            ("CMD", "INSTRUCTION VALUE"),
            ("RUN x", "one of the instructions CMD, "),
            ("ENV A=\"x", "ENV KEY=VALUE"),
            ("LABEL =x", "LABEL KEY=VALUE"),
            ("EXPOSE http", "EXPOSE PORT[/PROTOCOL]"),
            ("STOPSIGNAL no", "STOPSIGNAL SIGNAL"),
        ] {
            let err = apply(&mut Map::new(), instruction).unwrap_err();
            let text = crate::error::message(&err);
            let start = format!("--change={instruction:?}: expected {expected}");
            let start = start.replace("\\\"", "\"");
            assert!(text.starts_with(&start), "{text}");
        }
    }
}
