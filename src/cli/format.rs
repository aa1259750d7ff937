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
    let list = List::parse(format, table, headers, heading)?;
    let lines = values.iter().map(|value| list.line(value.clone()));
    list.text(lines.collect::<Result<_>>()?)
}

/// The form of a list whose lines are made one by one, on several threads maybe.
pub struct List<'a> {
    /// `None` is JSON.
    template: Option<Template>,
    headers: Option<&'a [(&'a str, &'a str)]>,
}

/// What is made of a value: most forms need no more of it than their text.
pub enum Line {
    Text(String),
    Value(Value),
}

impl<'a> List<'a> {
    pub fn parse(
        format: Option<&str>,
        table: &str,
        headers: &'a [(&'a str, &'a str)],
        heading: bool,
    ) -> Result<List<'a>> {
        let template = match format {
            Some("json") => None,
            format => Some(Template::parse(format.unwrap_or(table))?),
        };
        Ok(List {
            template,
            headers: heading.then_some(headers),
        })
    }

    pub fn line(&self, value: Value) -> Result<Line> {
        Ok(match &self.template {
            Some(template) if !template.ranges_over_rows() => Line::Text(template.execute(&value)?),
            _ => Line::Value(value),
        })
    }

    pub fn text(&self, lines: Vec<Line>) -> Result<String> {
        let (mut texts, mut values) = (Vec::new(), Vec::new());
        for line in lines {
            match line {
                Line::Text(text) => texts.push(text),
                Line::Value(value) => values.push(value),
            }
        }
        match &self.template {
            None => Ok(serde_json::to_string_pretty(&values)? + "\n"),
            Some(template) if template.ranges_over_rows() => template.render_all(values),
            Some(template) => Ok(template.join(&texts, self.headers)),
        }
    }
}
