//! Executing a template's nodes over one value.

use std::borrow::Cow;

use serde_json::Value;

use super::Command;
use super::Fault;
use super::LABEL;
use super::MAP_FIELDS;
use super::Node;
use super::Operand;
use super::OperandKind;
use super::Pipe;
use super::funcs;
use super::funcs::Function;
use super::print;

/// A value during execution. `map` tells Go's maps from structs.
#[derive(Clone, Debug)]
pub(super) struct Val<'v> {
    pub value: Cow<'v, Value>,
    pub map: bool,
}

impl<'v> Val<'v> {
    pub fn owned(value: impl Into<Value>) -> Val<'v> {
        Val {
            value: Cow::Owned(value.into()),
            map: false,
        }
    }

    fn borrowed(value: &'v Value) -> Val<'v> {
        Val {
            value: Cow::Borrowed(value),
            map: false,
        }
    }

    /// A part of this value, borrowed where the whole is.
    pub fn part(&self, find: impl Fn(&Value) -> Option<&Value>) -> Option<Val<'v>> {
        let value = match &self.value {
            Cow::Borrowed(value) => Cow::Borrowed(find(value)?),
            Cow::Owned(value) => Cow::Owned(find(value)?.clone()),
        };
        Some(Val { value, map: false })
    }

    /// False, zero, empty and nothing are false; a struct is always true.
    pub fn truth(&self) -> bool {
        match &*self.value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        }
    }
}

/// Longest output: a template may hold a loop, and a width that a person mistyped.
const MAX_OUTPUT: usize = 64 << 20;

pub(super) fn execute(nodes: &[Node], data: &Value) -> Result<String, Fault> {
    let root = Val::borrowed(data);
    let mut run = Run {
        out: String::new(),
        variables: vec![("$".to_owned(), root.clone())],
    };
    run.nodes(nodes, &root)?;
    Ok(run.out)
}

struct Run<'v> {
    out: String,
    variables: Vec<(String, Val<'v>)>,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'v> Run<'v> {
    fn nodes(&mut self, nodes: &[Node], dot: &Val<'v>) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Val<'v>) -> Result<Flow, Fault> {
        match node {
            Node::Text(text) => self.write(text, 0)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.declare(pipe, &value);
                if pipe.variables.is_empty() {
                    self.write(&print::plain(&value), pipe.at)?;
                }
            }
            Node::If {
                branches,
                otherwise,
            } => {
                return self.branches(branches, otherwise, dot, false);
            }
            Node::With {
                branches,
                otherwise,
            } => {
                return self.branches(branches, otherwise, dot, true);
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str, at: usize) -> Result<(), Fault> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return Err(Fault::new(at, "the output is too long"));
        }
        self.out.push_str(text);
        Ok(())
    }

    /// `if` and `with`; the latter moves the dot.
    fn branches(
        &mut self,
        branches: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Val<'v>,
        moves: bool,
    ) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        for (condition, body) in branches {
            let value = self.pipe(condition, dot)?;
            self.declare(condition, &value);
            if value.truth() {
                let flow = self.nodes(body, if moves { &value } else { dot });
                self.variables.truncate(scope);
                return flow;
            }
        }
        let flow = self.nodes(otherwise, dot);
        self.variables.truncate(scope);
        flow
    }

    fn range(
        &mut self,
        over: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Val<'v>,
    ) -> Result<Flow, Fault> {
        let whole = self.pipe(over, dot)?;
        let items = items(&whole, over.at)?;
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, value) in items {
            match over.variables.as_slice() {
                [] => {}
                [only] => self.set(only, &value, over.assigns),
                [first, second, ..] => {
                    self.set(first, &Val::owned(key), over.assigns);
                    self.set(second, &value, over.assigns);
                }
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn declare(&mut self, pipe: &Pipe, value: &Val<'v>) {
        if let [name] = pipe.variables.as_slice() {
            self.set(name, value, pipe.assigns);
        }
    }

    fn set(&mut self, name: &str, value: &Val<'v>, assigns: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        match known {
            Some((_, old)) if assigns => *old = value.clone(),
            _ => self.variables.push((name.to_owned(), value.clone())),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val<'v>) -> Result<Val<'v>, Fault> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        last.ok_or_else(|| Fault::new(pipe.at, "a value is missing"))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Val<'v>,
        last: Option<Val<'v>>,
    ) -> Result<Val<'v>, Fault> {
        let Some((first, rest)) = command.words.split_first() else {
            return Err(Fault::new(0, "a value is missing"));
        };
        let OperandKind::Function(function) = &first.kind else {
            return match rest {
                [word] if first.fields.last().is_some_and(|name| name == LABEL) => {
                    let key = self.operand(word, dot)?;
                    self.label(first, dot, &key)
                }
                _ => self.operand(first, dot),
            };
        };
        if matches!(function, Function::And | Function::Or) {
            return self.until(*function == Function::Or, first, rest, dot, last);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for word in rest {
            args.push(self.operand(word, dot)?);
        }
        args.extend(last);
        funcs::call(*function, args)
            .map_err(|message| Fault::new(first.at, format!("{}: {message}", function.name())))
    }

    /// Docker's and podman's `.Label "key"`: the value of one label, empty where there is none.
    fn label(&self, method: &Operand, dot: &Val<'v>, key: &Val<'v>) -> Result<Val<'v>, Fault> {
        let mut holder = match &method.kind {
            OperandKind::Variable(name) => self.variable(name),
            _ => dot.clone(),
        };
        for index in 0..method.fields.len() - 1 {
            holder = field(&holder, method, index)?;
        }
        let labels = &holder.value["Labels"];
        let value = key.value.as_str().and_then(|key| labels.get(key));
        Ok(Val::owned(value.cloned().unwrap_or("".into())))
    }

    /// `and` and `or`: the first argument that decides; those behind it are not looked at.
    fn until(
        &mut self,
        truth: bool,
        function: &Operand,
        words: &[Operand],
        dot: &Val<'v>,
        last: Option<Val<'v>>,
    ) -> Result<Val<'v>, Fault> {
        let mut value = None;
        for word in words {
            let next = self.operand(word, dot)?;
            if next.truth() == truth {
                return Ok(next);
            }
            value = Some(next);
        }
        last.or(value)
            .ok_or_else(|| Fault::new(function.at, "a value is missing"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Val<'v>) -> Result<Val<'v>, Fault> {
        let mut value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Variable(name) => self.variable(name),
            OperandKind::Literal(value) => Val::owned(value.clone()),
            OperandKind::Nil => Val::owned(Value::Null),
            OperandKind::Group(pipe) => self.pipe(pipe, dot)?,
            OperandKind::Function(function) => {
                funcs::call(*function, Vec::new()).map_err(|message| {
                    Fault::new(operand.at, format!("{}: {message}", function.name()))
                })?
            }
        };
        for index in 0..operand.fields.len() {
            value = field(&value, operand, index)?;
        }
        Ok(value)
    }

    /// The parser has made sure that it exists.
    fn variable(&self, name: &str) -> Val<'v> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or_else(|| Val::owned(Value::Null), |(_, value)| value.clone())
    }
}

/// What a range goes over, each with its key.
fn items<'v>(whole: &Val<'v>, at: usize) -> Result<Vec<(Value, Val<'v>)>, Fault> {
    match &*whole.value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => Ok((0..list.len())
            .filter_map(|index| Some((index.into(), whole.part(|value| value.get(index))?)))
            .collect()),
        Value::Object(map) => {
            let mut keys: Vec<String> = map.keys().cloned().collect();
            if whole.map {
                keys.sort();
            }
            let items = keys.into_iter().filter_map(|key| {
                let value = whole.part(|value| value.get(&key))?;
                Some((key.into(), value))
            });
            Ok(items.collect())
        }
        Value::Number(number) => {
            let count = number.as_u64().unwrap_or(0).min(1_000_000);
            Ok((0..count).map(|n| (n.into(), Val::owned(n))).collect())
        }
        other => Err(Fault::new(
            at,
            format!("range needs a list or map, got {}", print::kind(other)),
        )),
    }
}

/// Field number `index` of an operand, of the value that the fields before it gave.
fn field<'v>(value: &Val<'v>, operand: &Operand, index: usize) -> Result<Val<'v>, Fault> {
    let name = &operand.fields[index];
    let Value::Object(object) = &*value.value else {
        let place = place(operand, index);
        let what = match &*value.value {
            Value::Null => format!("cannot take field {name:?}: {place} is null"),
            other => format!(
                "cannot take field {name:?}: {place} is {}",
                print::kind(other)
            ),
        };
        return Err(Fault::new(operand.at, what));
    };
    let mut key = name.as_str();
    if !object.contains_key(key) {
        if value.map {
            return Ok(Val::owned(Value::Null));
        }
        let mut keys = object.keys();
        match keys.find(|key| is_called(key, name)) {
            Some(other) => key = other,
            None => return Err(no_field(operand, name, &place(operand, index), object)),
        }
    }
    let mut part = value
        .part(|object| object.get(key))
        .unwrap_or_else(|| Val::owned(Value::Null));
    // What lies in a map is a value, even where it has the name of a map.
    part.map = !value.map && MAP_FIELDS.iter().any(|map| map.eq_ignore_ascii_case(name));
    Ok(part)
}

/// Whether a field of Go has this name in JSON: `LeaseRange` is `lease_range` or `leaseRange` there.
fn is_called(key: &str, name: &str) -> bool {
    let bare = |text: &str| -> Vec<u8> {
        let bytes = text.bytes().filter(|byte| *byte != b'_');
        bytes.map(|byte| byte.to_ascii_lowercase()).collect()
    };
    key.eq_ignore_ascii_case(name) || key.contains('_') && bare(key) == bare(name)
}

/// The operand without its last fields, as it is written: `.State.Health`, `$x.Name`.
fn place(operand: &Operand, fields: usize) -> String {
    let mut place = match &operand.kind {
        OperandKind::Variable(name) => name.clone(),
        OperandKind::Dot => String::new(),
        _ => "(…)".to_owned(),
    };
    for name in &operand.fields[..fields] {
        place.push('.');
        place.push_str(name);
    }
    if place.is_empty() {
        place.push('.');
    }
    place
}

fn no_field(
    operand: &Operand,
    name: &str,
    place: &str,
    object: &serde_json::Map<String, Value>,
) -> Fault {
    let mut message = format!("no field {name:?}");
    if place != "." {
        message = format!("{message} in {place}");
    }
    let mut fault = Fault::new(operand.at, message);
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    if !names.is_empty() {
        fault.hint = Some(format!("use one of {}", names.join(", ")));
    }
    fault
}
