//! `rbox search`.

use clap::Args as ClapArgs;
use serde_json::Value;
use serde_json::json;

use crate::cli::flags::RegistryFlags;
use crate::cli::format;
use crate::cli::output;
use crate::config::registries::Registries;
use crate::error::Kind;
use crate::error::fail;
use crate::image::registry::search;
use crate::image::registry::search::Found;
use crate::oci::reference;
use crate::oci::reference::Reference;

const LIMIT: usize = 25;
/// As Docker's registry allows it.
const LIMIT_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 44;

/// Look for images in registries
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  rbox search httpd
  rbox search --limit 5 --filter is-official registry.lan:5000/team
  rbox search --list-tags quay.io/podman/hello")]
pub struct Args {
    /// Print stars, and what is official and automated too
    #[arg(long)]
    compatible: bool,

    /// Only those for which this is true: stars=NUMBER, is-official or is-automated[=BOOL]
    #[arg(short, long, value_name = "FILTER", value_parser = Filter::parse)]
    filter: Vec<Filter>,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print that many results of each registry
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    limit: Option<usize>,

    /// Print the tags of a repository
    #[arg(long, conflicts_with_all = ["compatible", "filter"])]
    list_tags: bool,

    /// Print descriptions in full
    #[arg(long)]
    no_trunc: bool,

    #[command(flatten)]
    registry: RegistryFlags,

    /// A word, or REGISTRY/WORD; with --list-tags a repository
    #[arg(value_name = "TERM")]
    term: String,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= LIMIT_MAX);
    number.ok_or_else(|| format!("{text:?} is no number from 0 to {LIMIT_MAX}"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        let bad = || format!("{text:?}: expected stars=NUMBER, is-official or is-automated[=BOOL]");
        let truth = || value.parse::<bool>().map_err(|_| bad());
        match key {
            "stars" => value.parse().map(Self::Stars).map_err(|_| bad()),
            "is-official" => truth().map(Self::Official),
            "is-automated" => truth().map(Self::Automated),
            _ => Err(bad()),
        }
    }

    fn fits(&self, found: &Found) -> bool {
        match self {
            Self::Stars(least) => found.stars >= *least,
            Self::Official(wanted) => found.official == *wanted,
            Self::Automated(wanted) => found.automated == *wanted,
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<u8> {
    let access = args.registry.access()?;
    let registries = Registries::load(access.registries_conf.as_deref())?;
    if args.list_tags {
        return list_tags(&args, &registries);
    }
    let limit = args.limit.filter(|limit| *limit > 0).unwrap_or(LIMIT);
    let (places, term) = match args.term.split_once('/') {
        Some((registry, term)) if reference::is_qualified(&args.term) => {
            (vec![registry.to_owned()], term)
        }
        _ => (registries.search(), args.term.as_str()),
    };
    let mut all = Vec::new();
    let mut failed = None;
    for place in &places {
        match search::search(place, term, limit, &access, &registries) {
            Ok(found) => all.extend(found),
            Err(err) => {
                if let Some(earlier) = failed.replace(err) {
                    output::print_error(&earlier);
                }
            }
        }
    }
    all.retain(|found| args.filter.iter().all(|filter| filter.fits(found)));
    if let Some(err) = failed {
        if all.is_empty() {
            return Err(err.context(format!("cannot search for \"{term}\"")));
        }
        output::print_error(&err);
    }
    print(&args, &all)?;
    Ok(0)
}

fn print(args: &Args, all: &[Found]) -> anyhow::Result<()> {
    let mark = |is: bool| if is { "[OK]" } else { "" };
    let row = |found: &Found| {
        let description = match found.description.char_indices().nth(DESCRIPTION_MAX) {
            Some((end, _)) if !args.no_trunc => format!("{}...", &found.description[..end]),
            _ => found.description.clone(),
        };
        json!({
            "Index": found.registry,
            "Name": found.name,
            "Description": description,
            "Stars": found.stars,
            "Official": mark(found.official),
            "Automated": mark(found.automated),
            "Tag": "",
            "StarCount": found.stars,
            "IsOfficial": mark(found.official),
            "IsAutomated": mark(found.automated),
        })
    };
    let mut rows: Vec<Value> = all.iter().map(row).collect();
    if args.format.as_deref() == Some("json") {
        // Podman's fields; the others are Docker's, for templates.
        for fields in rows.iter_mut().filter_map(Value::as_object_mut) {
            fields.retain(|name, _| !matches!(&**name, "StarCount" | "IsOfficial" | "IsAutomated"));
        }
    }
    let table = if args.compatible {
        "table {{.Name}}\t{{.Description}}\t{{.Stars}}\t{{.Official}}\t{{.Automated}}"
    } else {
        "table {{.Name}}\t{{.Description}}"
    };
    let format = args.format.as_deref();
    output::print(&format::list(&rows, format, table, &[], true)?)
}

fn list_tags(args: &Args, registries: &Registries) -> anyhow::Result<u8> {
    let name = args.term.strip_prefix("docker://").unwrap_or(&args.term);
    let reference: Reference = name.parse()?;
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        let text = format!("\"{name}\" has a tag or a digest, and --list-tags wants a repository");
        return Err(fail(Kind::Usage, text));
    }
    let access = args.registry.access()?;
    let mut tags = search::tags(&reference, &access, registries)?;
    tags.truncate(args.limit.filter(|limit| *limit > 0).unwrap_or(LIMIT));
    let format = args.format.as_deref();
    if format == Some("json") {
        let value = json!([{"Name": reference.name(), "Tags": tags}]);
        output::print_line(&serde_json::to_string_pretty(&value)?)?;
        return Ok(0);
    }
    let rows: Vec<Value> = tags
        .iter()
        .map(|tag| json!({"Name": reference.name(), "Tag": tag}))
        .collect();
    let table = "table {{.Name}}\t{{.Tag}}";
    output::print(&format::list(&rows, format, table, &[], true)?)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        assert_eq!(Filter::parse("stars=3"), Ok(Filter::Stars(3)));
        assert_eq!(Filter::parse("is-official"), Ok(Filter::Official(true)));
        assert_eq!(
            Filter::parse("is-automated=false"),
            Ok(Filter::Automated(false))
        );
        for text in ["stars", "stars=x", "is-official=perhaps", "x=1", ""] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
        assert_eq!(limit("100"), Ok(100));
        assert!(limit("101").is_err() && limit("-1").is_err());
    }
}
