//! `rbox events`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::output;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::store::journal::Event;
use crate::store::journal::Reader;
use crate::text::duration;
use crate::text::template::Template;
use crate::text::time;

/// Show what happens to containers, images, volumes and networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox events                                     what happens from now on
  rbox events --since 1h --stream=false           what happened in the last hour
  rbox events --filter container=web --filter event=died --format '{{.Name}} {{.ContainerExitCode}}'")]
pub struct Args {
    /// Only those that fit: container=, event=, image=, label=, network=, type=, volume=; keys must all fit, and of
    /// several values of a key one
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print whole ids
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true)]
    no_trunc: bool,

    /// Begin with the events since then: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Go on with what happens; with =false stop after what has happened
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true)]
    stream: bool,

    /// Stop at this time, or after so long
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter)?;
    let form = Form::new(args.format.as_deref(), args.no_trunc)?;
    let now = Timestamp::now();
    let zone = time::local_zone();
    let since = args.since.as_deref();
    let since = since.map(|text| time::parse_since(text, now, &zone));
    // As Podman: those that have happened are asked for by a time, or by not waiting for others.
    let since = match since.transpose()? {
        Some(since) => since,
        None if args.stream && args.until.is_none() => now,
        None => Timestamp::MIN,
    };
    let until = args.until.as_deref().map(|text| until(text, now));
    let until = until.transpose()?;
    let mut reader = Reader::open(&engine.dirs, args.stream)?;
    loop {
        reader.read(|event| {
            let in_time = event.time >= since && until.is_none_or(|until| event.time <= until);
            if in_time && filters.fit(&event) {
                output::print_line(&form.line(&event)?)?;
            }
            Ok(())
        })?;
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        let left = match left.map(Duration::try_from) {
            Some(Err(_)) => return Ok(0),
            Some(Ok(left)) if left.is_zero() => return Ok(0),
            Some(Ok(left)) => Some(left),
            None => None,
        };
        if !args.stream {
            return Ok(0);
        }
        reader.wait(left)?;
    }
}

/// A time, or as with Podman how long from now on.
fn until(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(wait) = duration::parse(text)
        && text.parse::<f64>().is_err()
        && let Ok(moment) = now.checked_add(wait)
    {
        return Ok(moment);
    }
    time::parse_since(text, now, &time::local_zone())
}

enum Form {
    People { whole: bool },
    Json,
    Template(Template),
}

impl Form {
    fn new(format: Option<&str>, whole: bool) -> anyhow::Result<Form> {
        Ok(match format {
            None => Form::People { whole },
            Some("json" | "{{json .}}" | "{{ json . }}") => Form::Json,
            Some(format) => Form::Template(Template::parse(format)?),
        })
    }

    fn line(&self, event: &Event) -> anyhow::Result<String> {
        Ok(match self {
            Form::People { whole } => people(event, *whole),
            Form::Json => serde_json::to_string(&fields(event))?,
            Form::Template(template) => {
                let text = template.execute(&fields(event))?;
                text.trim_end_matches('\n').to_owned()
            }
        })
    }
}

/// `2026-01-02 15:04:05.123456789 +0000 UTC container create ID (image=…, name=…)`, as Podman.
fn people(event: &Event, whole: bool) -> String {
    let moment = time::go_string(event.time, &time::local_zone());
    let mut line = format!("{moment} {} {} ", event.kind, event.action);
    let short = event
        .id
        .get(..12)
        .filter(|_| !whole && event.kind != "volume");
    line.push_str(short.unwrap_or(&event.id));
    let mut details = Vec::new();
    match event.kind.as_str() {
        "container" => {
            details.push(format!("image={}", event.image));
            details.push(format!("name={}", event.name));
            details.extend(event.exit_code.map(|code| format!("exitCode={code}")));
        }
        "image" => line.extend([" ", &event.name]),
        // As Podman: of who comes and goes the id is the container's.
        "network" => {
            let driver = event.attributes.get("driver");
            if driver.is_none() {
                details.push(format!("container={}", short.unwrap_or(&event.id)));
            }
            details.push(format!("name={}", event.name));
            details.extend(driver.map(|driver| format!("type={driver}")));
        }
        _ => {}
    }
    if event.kind != "network" {
        let more = event.attributes.iter();
        details.extend(more.map(|(key, value)| format!("{key}={value}")));
    }
    if !details.is_empty() {
        line.extend([" (", &details.join(", "), ")"]);
    }
    line
}

/// Podman's fields, and those that Docker's clients read beside them.
fn fields(event: &Event) -> Value {
    let mut actor = event.attributes.clone();
    actor.insert("name".into(), event.name.clone());
    if !event.image.is_empty() {
        actor.insert("image".into(), event.image.clone());
    }
    if let Some(code) = event.exit_code {
        actor.insert("exitCode".into(), code.to_string());
    }
    let mut value = json!({
        "ID": event.id,
        "Image": event.image,
        "Name": event.name,
        "Status": event.action,
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(0),
        "Type": event.kind,
        "Attributes": event.attributes,
        "Action": dockers(event),
        "Actor": { "ID": event.id, "Attributes": actor },
        "scope": "local",
    });
    if event.kind == "network" {
        value["Network"] = json!(event.name);
    }
    if let Some(code) = event.exit_code {
        value["ContainerExitCode"] = json!(code);
    }
    if event.action == "health_status" {
        for name in OF_HEALTH {
            let known = event.attributes.get(name);
            let streak = known.filter(|_| name == "health_failing_streak");
            match (known, streak.and_then(|text| text.parse::<u32>().ok())) {
                (_, Some(streak)) => value[name] = json!(streak),
                (Some(known), None) => value[name] = json!(known),
                (None, None) => {}
            }
        }
    }
    value
}

/// The names of what is said of a check of health, in an event of Podman's.
const OF_HEALTH: [&str; 3] = ["health_status", "health_failing_streak", "health_log"];

/// What Docker calls it.
fn dockers(event: &Event) -> &str {
    match (event.kind.as_str(), event.action.as_str()) {
        ("container", "health_status") => {
            match event.attributes.get("health_status").map(String::as_str) {
                Some("healthy") => "health_status: healthy",
                Some("unhealthy") => "health_status: unhealthy",
                _ => "health_status: starting",
            }
        }
        ("container", "died") => "die",
        ("container" | "network" | "volume", "remove") => "destroy",
        ("container", "exec") => "exec_start",
        ("container", "exec_died") => "exec_die",
        ("image", "remove") => "delete",
        ("image", "loadfromarchive") => "load",
        (_, action) => action,
    }
}

/// Keys that must all fit, and for each the values of which one must.
#[derive(Debug)]
struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    fn parse(words: &[String]) -> anyhow::Result<Filters> {
        const KEYS: &str = "container, event, image, label, network, status, type, volume";
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .filter(|(key, _)| KEYS.split(", ").any(|known| known == *key))
                .ok_or_else(|| {
                    let text =
                        format!("--filter=\"{word}\": expected KEY=VALUE with one of {KEYS}");
                    fail(Kind::Usage, text)
                })?;
            // Docker has both names for one.
            let key = if key == "status" { "event" } else { key };
            by_key.entry(key.into()).or_default().push(value.into());
        }
        Ok(Filters(by_key))
    }

    fn fit(&self, event: &Event) -> bool {
        self.0
            .iter()
            .all(|(key, values)| values.iter().any(|value| fits(event, key, value)))
    }
}

fn fits(event: &Event, key: &str, value: &str) -> bool {
    let named = |kind: &str| {
        let begins = !value.is_empty() && event.id.starts_with(value);
        event.kind == kind && (event.name == value || begins)
    };
    match key {
        "container" | "network" | "volume" => named(key),
        "event" => event.action == value || dockers(event) == value,
        "image" => named(key) || event.kind == "container" && is_image(&event.image, value),
        "label" => match value.split_once('=') {
            Some((label, text)) => event
                .attributes
                .get(label)
                .is_some_and(|known| known == text),
            None => event.attributes.contains_key(value),
        },
        _ => event.kind == value,
    }
}

/// With or without registry and tag.
fn is_image(name: &str, wanted: &str) -> bool {
    let without_tag = |name: &str| match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before.to_owned(),
        _ => name.to_owned(),
    };
    let ends = |name: &str| name == wanted || name.ends_with(&format!("/{wanted}"));
    !wanted.is_empty() && (ends(name) || ends(&without_tag(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new("container", "died", "abc123", "web");
        event.image = "localhost/site:1".into();
        event.attributes.insert("app".into(), "x".into());
        event.exit_code = Some(3);
        event
    }

    #[test]
    fn keys_are_anded_and_values_ored() {
        let fits = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            Filters::parse(&words).unwrap().fit(&event())
        };
        assert!(fits(&[]));
        assert!(fits(&["container=web"]) && fits(&["container=abc"]) && !fits(&["container=we"]));
        assert!(fits(&["event=start", "event=die"]) && !fits(&["event=start"]));
        assert!(!fits(&["event=died", "type=image"]) && fits(&["event=died", "type=container"]));
        assert!(
            fits(&["image=site"]) && fits(&["image=localhost/site:1"]) && !fits(&["image=ite"])
        );
        assert!(fits(&["label=app"]) && fits(&["label=app=x"]) && !fits(&["label=app=y"]));
        assert!(Filters::parse(&["pod=x".to_owned()]).is_err());
    }

    #[test]
    fn both_names_of_an_event_are_told() {
        let value = fields(&event());
        assert_eq!(
            (&value["Status"], &value["Action"]),
            (&json!("died"), &json!("die"))
        );
        assert_eq!(value["Actor"]["Attributes"]["exitCode"], json!("3"));
        let line = people(&event(), true);
        let expected =
            " container died abc123 (image=localhost/site:1, name=web, exitCode=3, app=x)";
        assert!(line.ends_with(expected), "{line}");
    }
}
