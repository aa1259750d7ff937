//! `rbox images`.

pub mod filter;
pub mod row;
mod tree;

use serde_json::Value;

use crate::cli::format;
use crate::cli::images::filter::Filters;
use crate::cli::images::filter::Pattern;
use crate::cli::images::row::Looks;
use crate::cli::images::row::Row;
use crate::cli::output;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::image::names;
use crate::image::names::Named;

/// List images
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a switch")]
#[command(
    after_help = "Without --all, images without a name from which others were made are left out.

Examples:
  rbox images
  rbox images 'docker.io/library/*'
  rbox images --filter dangling=true --quiet
  rbox images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"
)]
pub struct Args {
    /// Images without a name from which others were made too
    #[arg(short, long)]
    all: bool,

    /// Print the digests of manifests
    #[arg(long)]
    digests: bool,

    /// Only those that fit: before=, containers=, dangling=, digest=, id=, intermediate=, label=, manifest=, readonly=, reference=, since=, until=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print all names of each image too
    #[arg(long)]
    history: bool,

    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Print no heading
    #[arg(short = 'n', long)]
    noheading: bool,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Order by this column
    #[arg(long, value_name = "COLUMN", value_enum, default_value = "created")]
    sort: Key,

    /// Print names with the images for platforms that they stand for
    #[arg(long, conflicts_with_all = ["digests", "format", "history", "quiet"])]
    tree: bool,

    /// Only images of this name, or of one that fits this pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Key {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

const HEADERS: [(&str, &str); 1] = [("ID", "IMAGE ID")];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut filters = Filters::parse(engine, &args.filter)?;
    let patterns = args.names.iter().map(|name| {
        let wrong = || fail(Kind::Usage, format!("{name:?} is no pattern for names"));
        Pattern::parse(name).ok_or_else(wrong)
    });
    filters.add_references(patterns.collect::<anyhow::Result<_>>()?);
    let mut damaged = Vec::new();
    let all = names::all_with_lists(&engine.dirs, |err| damaged.push(err))?;
    output::print_damaged(&damaged);
    let table = table(&args);
    let format = args.format.as_deref();
    // As docker: `table` alone is the table.
    let format = format.filter(|format| !["table", ""].contains(format));
    let as_json = format == Some("json");
    let shown = (!as_json).then(|| format.unwrap_or(&table));
    let looks = Looks::new(engine, shown, args.no_trunc, &all)?;
    let images = chosen(engine, &args, &filters, all);
    if args.tree {
        // Those for other platforms may have no name.
        tree::print(engine, &images)?;
        return Ok(0);
    }
    if args.quiet && format.is_none() {
        let ids = images.iter().map(|named| looks.id(&named.image) + "\n");
        output::print(&ids.collect::<String>())?;
        return Ok(0);
    }
    if as_json {
        let values: Vec<Value> = images.iter().map(|named| looks.json(named)).collect();
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
        return Ok(0);
    }
    let mut rows: Vec<Row<'_>> = images.iter().flat_map(rows).collect();
    sort(&mut rows, args.sort);
    let values: Vec<Value> = rows.iter().map(|row| looks.fields(row)).collect();
    let text = format::list(&values, format, &table, &HEADERS, !args.noheading)?;
    output::print(&text)?;
    Ok(0)
}

fn table(args: &Args) -> String {
    let mut table = "table {{.Repository}}\t{{.Tag}}".to_owned();
    if args.digests {
        table.push_str("\t{{.Digest}}");
    }
    table.push_str("\t{{.ID}}\t{{.Created}}\t{{.Size}}");
    if args.history {
        table.push_str("\t{{.History}}");
    }
    table
}

fn first_name(named: &Named) -> Option<String> {
    named
        .names
        .iter()
        .map(|name| name.reference.to_string())
        .min()
}

/// Those to be shown, in order.
fn chosen(engine: &Engine, args: &Args, filters: &Filters, mut all: Vec<Named>) -> Vec<Named> {
    if !args.all && !filters.ask_for_intermediate() {
        let parents = filter::parents(engine, &all);
        let mut is_parent = parents.into_iter();
        all.retain(|named| !(is_parent.next().unwrap_or(false) && named.names.is_empty()));
    }
    let mut images = filters.choose(engine, all);
    images.sort_by(|a, b| {
        let newest = row::created(&b.image).cmp(&row::created(&a.image));
        newest.then_with(|| first_name(a).cmp(&first_name(b)))
    });
    match args.sort {
        Key::Id => images.sort_by(|a, b| a.image.id.cmp(&b.image.id)),
        Key::Size => images.sort_by_key(|named| named.image.size),
        Key::Created | Key::Repository | Key::Tag => {}
    }
    images
}

fn rows(named: &Named) -> Vec<Row<'_>> {
    if named.names.is_empty() {
        return vec![Row { named, name: None }];
    }
    let names = named.names.iter();
    names
        .map(|name| Row {
            named,
            name: Some(name),
        })
        .collect()
}

fn sort(rows: &mut [Row<'_>], key: Key) {
    match key {
        Key::Repository => rows.sort_by_key(|row| (row.repository(), row.tag().to_owned())),
        Key::Tag => rows.sort_by_key(|row| (row.tag().to_owned(), row.repository())),
        Key::Created | Key::Id | Key::Size => {}
    }
}
