//! `--format`: `json` or a template, over the same values.

use anyhow::Result;
use serde_json::Value;

use crate::text::template::Template;

/// One value; JSON over several lines.
pub fn one(value: &Value, format: &str) -> Result<String> {
    if format == "json" {
        return Ok(serde_json::to_string_pretty(value)? + "\n");
    }
    Template::parse(format)?.render(std::slice::from_ref(value), &[])
}

/// Many values; `headers` names the columns that are not called as their fields.
pub fn rows(values: &[Value], format: &str, headers: &[(&str, &str)]) -> Result<String> {
    if format == "json" {
        return Ok(serde_json::to_string_pretty(values)? + "\n");
    }
    Template::parse(format)?.render(values, headers)
}

/// A list as a command prints it: its own table, or another form. `headers` is of its own table.
pub fn list(
    values: &[Value],
    format: Option<&str>,
    table: &str,
    headers: &[(&str, &str)],
    heading: bool,
) -> Result<String> {
    match format {
        Some(format) if heading => rows(values, format, headers),
        _ if heading => rows(values, table, headers),
        format => Template::parse(format.unwrap_or(table))?.render_without_heading(values),
    }
}
