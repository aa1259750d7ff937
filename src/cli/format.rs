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
