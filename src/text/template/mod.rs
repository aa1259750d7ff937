//! `--format` templates: the part of Go's text/template that people use with docker and
//! podman, over JSON values. Parsed once, executed for each row.
//!
//! JSON knows no difference between a struct and a map, Go does: a missing field of a
//! struct is an error, a missing key of a map is `<no value>`. Objects found under one of
//! [`MAP_FIELDS`] are maps, all others structs. Fields are also found when only their
//! case or a `_` differs, since Go's `.Host.CgroupManager` is `cgroupManager` in podman's JSON, and others `lease_range`.

mod exec;
mod funcs;
mod header;
mod lex;
mod parse;
mod print;

use anyhow::Result;
use serde_json::Value;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::table::Table;

/// Names of fields that are maps in Docker's and Podman's types.
const MAP_FIELDS: [&str; 17] = [
    "Annotations",
    "Attributes",
    "BuildArgs",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "GraphOptions",
    "IPAMOptions",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// The one method with an argument: `.Label "key"`, in docker and podman.
const LABEL: &str = "Label";

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
    table: bool,
}

/// Where in the source something stands, in bytes.
type Position = usize;

#[derive(Debug)]
enum Node {
    Text(String),
    Action(Pipe),
    If {
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// `$a, $b := command | command`.
#[derive(Debug)]
struct Pipe {
    at: Position,
    variables: Vec<String>,
    /// `=` instead of `:=`: the variable exists already.
    assigns: bool,
    commands: Vec<Command>,
}

/// A function or an operand with arguments behind it.
#[derive(Debug)]
struct Command {
    words: Vec<Operand>,
}

#[derive(Debug)]
struct Operand {
    at: Position,
    kind: OperandKind,
    /// `.A.B` behind it.
    fields: Vec<String>,
}

#[derive(Debug)]
enum OperandKind {
    Dot,
    Variable(String),
    Function(funcs::Function),
    Literal(Value),
    Nil,
    Group(Box<Pipe>),
}

/// What is wrong, where, and what a person may do.
#[derive(Debug)]
struct Fault {
    at: Position,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(at: Position, message: impl Into<String>) -> Fault {
        Fault {
            at,
            message: message.into(),
            hint: None,
        }
    }
}

impl Template {
    /// Parses a `--format` value. A leading `table ` asks for columns; `\t` and `\n` outside
    /// of actions are a tab and a newline, and in a table a space is a tab, as in podman.
    pub fn parse(source: &str) -> Result<Template> {
        let table = source.starts_with("table ");
        let nodes = lex::lex(source, table)
            .and_then(parse::parse)
            .map_err(|fault| to_error(source, fault))?;
        Ok(Template {
            source: source.to_owned(),
            nodes,
            table,
        })
    }

    /// Executes the template for one value. No newline is added.
    pub fn execute(&self, data: &Value) -> Result<String> {
        exec::execute(&self.nodes, data).map_err(|fault| to_error(&self.source, fault))
    }

    /// Executes the template for each row, one line each; a table gets its heading and its
    /// columns. `headers` names those columns that are not called as their field is
    /// (`("ID", "CONTAINER ID")`). A template that is a range over `.` gets all rows at once.
    pub fn render(&self, rows: &[Value], headers: &[(&str, &str)]) -> Result<String> {
        if self.ranges_over_rows() {
            return self.render_all(rows.to_vec());
        }
        let lines = rows.iter().map(|row| self.execute(row));
        Ok(self.join(&lines.collect::<Result<Vec<_>>>()?, Some(headers)))
    }

    /// What a range over `.` makes of all rows.
    pub fn render_all(&self, rows: Vec<Value>) -> Result<String> {
        let mut text = self.execute(&Value::Array(rows))?;
        self.end_line(&mut text);
        Ok(text)
    }

    /// The rows that [`Template::execute`] has made, as [`Template::render`] puts them together. Without `headers` a
    /// table has no heading (`--noheading`).
    pub fn join(&self, lines: &[String], headers: Option<&[(&str, &str)]>) -> String {
        if !self.table {
            let mut text = String::new();
            for line in lines {
                text.push_str(line);
                self.end_line(&mut text);
            }
            return text;
        }
        let mut table = match headers {
            Some(headers) => {
                let heading = header::heading(&self.nodes, headers);
                Table::with_heading(heading.trim_end_matches('\n').split('\t'))
            }
            None => Table::default(),
        };
        for line in lines {
            table.row(line.trim_end_matches('\n').split('\t'));
        }
        table.render()
    }

    /// A line ends where the template says so, or else after each row.
    fn end_line(&self, text: &mut String) {
        if !matches!(self.nodes.last(), Some(Node::Text(last)) if last.ends_with('\n')) {
            text.push('\n');
        }
    }

    pub fn ranges_over_rows(&self) -> bool {
        if self.table {
            return false;
        }
        let Some(Node::Range { over, .. }) = self.nodes.first() else {
            return false;
        };
        let [command] = over.commands.as_slice() else {
            return false;
        };
        let [word] = command.words.as_slice() else {
            return false;
        };
        matches!(word.kind, OperandKind::Dot) && word.fields.is_empty()
    }
}

/// `template 1:12: no field "Foo" …`: line and column count from one.
fn to_error(source: &str, fault: Fault) -> anyhow::Error {
    let mut at = fault.at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |index| index + 1);
    let column = before[start..].chars().count() + 1;
    let err = fail(
        Kind::Usage,
        format!("template {line}:{column}: {}", fault.message),
    );
    match fault.hint {
        Some(hint) => err.hint(hint),
        None => err,
    }
}

#[cfg(test)]
mod tests;
