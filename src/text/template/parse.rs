//! Pieces to nodes: actions are nested as their `end`s say, pipelines are checked.

use serde_json::Value;

use super::Command;
use super::Fault;
use super::LABEL;
use super::Node;
use super::Operand;
use super::OperandKind;
use super::Pipe;
use super::Position;
use super::funcs::Function;
use super::lex::Piece;
use super::lex::Token;
use super::lex::TokenKind;

/// Actions and parentheses nest this deep; the parser calls itself for each.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        scopes: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
    };
    let (nodes, end) = parser.block()?;
    match end {
        End::OfTemplate => Ok(nodes),
        End::Closed(at) => Err(Fault::new(at, "{{end}} without its beginning")),
        End::Else(at, _) => Err(Fault::new(at, "{{else}} without its {{if}}")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Variables that exist here.
    scopes: Vec<String>,
    loops: usize,
    depth: usize,
}

/// What ended a list of nodes.
enum End {
    OfTemplate,
    Closed(Position),
    Else(Position, Tokens),
}

/// Tokens of one action, read from the front.
struct Tokens {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Where the last one stood, for messages.
    at: Position,
}

impl Tokens {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.next()?;
        self.at = token.at;
        Some(token)
    }

    fn peek(&mut self) -> Option<&TokenKind> {
        self.tokens.peek().map(|token| &token.kind)
    }

    fn word(&mut self) -> Option<String> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == Some(kind);
        if found {
            self.next();
        }
        found
    }

    fn expect_end(&mut self) -> Result<(), Fault> {
        match self.next() {
            Some(token) => Err(Fault::new(token.at, "expected }}")),
            None => Ok(()),
        }
    }
}

impl Parser {
    /// Nodes up to `end`, `else` or the end of the template.
    fn block(&mut self) -> Result<(Vec<Node>, End), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(0, "actions nest too deeply"));
        }
        let scope = self.scopes.len();
        let mut nodes = Vec::new();
        let end = loop {
            match self.pieces.next() {
                None => break End::OfTemplate,
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action { at, tokens }) => {
                    let tokens = tokens.into_iter().peekable();
                    match self.action(Tokens { tokens, at })? {
                        Action::Node(node) => nodes.push(node),
                        Action::Ends(end) => break end,
                    }
                }
            }
        };
        self.scopes.truncate(scope);
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, mut tokens: Tokens) -> Result<Action, Fault> {
        let at = tokens.at;
        let keyword = tokens.word().unwrap_or_default();
        let known = matches!(
            keyword.as_str(),
            "if" | "with" | "range" | "end" | "else" | "break" | "continue"
        );
        if known {
            tokens.next();
        }
        match keyword.as_str() {
            "end" => {
                tokens.expect_end()?;
                Ok(Action::Ends(End::Closed(at)))
            }
            "else" => Ok(Action::Ends(End::Else(at, tokens))),
            "if" | "with" => self.branches(&keyword, tokens).map(Action::Node),
            "range" => self.range(tokens).map(Action::Node),
            "break" | "continue" => {
                tokens.expect_end()?;
                if self.loops == 0 {
                    return Err(Fault::new(
                        at,
                        format!("{{{{{keyword}}}}} outside of {{{{range}}}}"),
                    ));
                }
                Ok(Action::Node(match keyword.as_str() {
                    "break" => Node::Break,
                    _ => Node::Continue,
                }))
            }
            "define" | "template" | "block" => Err(Fault::new(
                at,
                format!("{{{{{keyword}}}}} is not supported"),
            )),
            _ => {
                let pipe = self.pipe(&mut tokens, false)?;
                tokens.expect_end()?;
                Ok(Action::Node(Node::Action(pipe)))
            }
        }
    }

    /// `if` and `with`, with their `else if` and `else with`.
    fn branches(&mut self, keyword: &str, mut tokens: Tokens) -> Result<Node, Fault> {
        let opened = tokens.at;
        let scope = self.scopes.len();
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.pipe(&mut tokens, false)?;
            tokens.expect_end()?;
            let (body, end) = self.block()?;
            branches.push((condition, body));
            match end {
                End::OfTemplate => return Err(unclosed(opened, keyword)),
                End::Closed(_) => break,
                End::Else(_, mut rest) => {
                    if rest.word().as_deref() == Some(keyword) {
                        rest.next();
                        tokens = rest;
                        continue;
                    }
                    otherwise = self.otherwise(rest, opened, keyword)?;
                    break;
                }
            }
        }
        self.scopes.truncate(scope);
        Ok(match keyword {
            "if" => Node::If {
                branches,
                otherwise,
            },
            _ => Node::With {
                branches,
                otherwise,
            },
        })
    }

    fn range(&mut self, mut tokens: Tokens) -> Result<Node, Fault> {
        let opened = tokens.at;
        let scope = self.scopes.len();
        let over = self.pipe(&mut tokens, true)?;
        tokens.expect_end()?;
        self.loops += 1;
        let (body, end) = self.block()?;
        self.loops -= 1;
        let otherwise = match end {
            End::OfTemplate => return Err(unclosed(opened, "range")),
            End::Closed(_) => Vec::new(),
            End::Else(_, rest) => self.otherwise(rest, opened, "range")?,
        };
        self.scopes.truncate(scope);
        Ok(Node::Range {
            over,
            body,
            otherwise,
        })
    }

    /// What stands between `else` and `end`.
    fn otherwise(
        &mut self,
        mut tokens: Tokens,
        opened: Position,
        keyword: &str,
    ) -> Result<Vec<Node>, Fault> {
        tokens.expect_end()?;
        match self.block()? {
            (nodes, End::Closed(_)) => Ok(nodes),
            (_, End::Else(at, _)) => Err(Fault::new(at, "a second {{else}}")),
            (_, End::OfTemplate) => Err(unclosed(opened, keyword)),
        }
    }

    fn pipe(&mut self, tokens: &mut Tokens, range: bool) -> Result<Pipe, Fault> {
        let at = tokens.tokens.peek().map_or(tokens.at, |token| token.at);
        let (variables, assigns) = self.declaration(tokens, range)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(tokens)?;
            if let (true, Some(word)) = (!commands.is_empty(), command.words.first())
                && !matches!(word.kind, OperandKind::Function(_))
            {
                return Err(Fault::new(word.at, "expected a function after |"));
            }
            commands.push(command);
            if !tokens.take(&TokenKind::Pipe) {
                break;
            }
        }
        if !assigns {
            self.scopes.extend(variables.iter().cloned());
        }
        Ok(Pipe {
            at,
            variables,
            assigns,
            commands,
        })
    }

    /// `$a :=`, `$a =`, and in a range `$i, $v :=`.
    fn declaration(
        &mut self,
        tokens: &mut Tokens,
        range: bool,
    ) -> Result<(Vec<String>, bool), Fault> {
        let mut ahead = tokens.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token {
            kind: TokenKind::Variable(name),
            ..
        }) = ahead.next()
        {
            names.push(name);
            let kind = ahead.next().map(|token| token.kind);
            match kind {
                Some(TokenKind::Comma) if range && names.len() == 1 => {}
                Some(TokenKind::Declare | TokenKind::Assign) => {
                    let assigns = kind == Some(TokenKind::Assign);
                    if let Some(name) = names
                        .iter()
                        .find(|name| assigns && !self.scopes.contains(name))
                    {
                        return Err(undefined(tokens.at, name));
                    }
                    tokens.tokens = ahead;
                    return Ok((names, assigns));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(&mut self, tokens: &mut Tokens) -> Result<Command, Fault> {
        let mut words: Vec<Operand> = Vec::new();
        while !matches!(
            tokens.peek(),
            None | Some(TokenKind::Pipe | TokenKind::Close)
        ) {
            let spaced = tokens.tokens.peek().is_some_and(|token| token.spaced);
            if let (false, Some(before)) = (spaced, words.last_mut()) {
                Parser::glue(tokens, before)?;
                continue;
            }
            words.push(self.operand(tokens)?);
        }
        match words.as_slice() {
            [] => Err(Fault::new(tokens.at, "a value is missing")),
            [
                Operand {
                    kind: OperandKind::Nil,
                    at,
                    ..
                },
            ] => Err(Fault::new(*at, "nil is not a command")),
            [
                Operand {
                    kind: OperandKind::Function(_),
                    ..
                },
                ..,
            ]
            | [_] => Ok(Command { words }),
            [method, _] if method.fields.last().is_some_and(|name| name == LABEL) => {
                Ok(Command { words })
            }
            [first, ..] => Err(Fault::new(
                first.at,
                "arguments after something that is no function",
            )),
        }
    }

    /// A field right behind an operand belongs to it.
    fn glue(tokens: &mut Tokens, before: &mut Operand) -> Result<(), Fault> {
        let may_have_fields = !matches!(
            before.kind,
            OperandKind::Function(_) | OperandKind::Literal(_) | OperandKind::Nil
        );
        match tokens.next() {
            Some(Token {
                kind: TokenKind::Field(name),
                ..
            }) if may_have_fields => {
                before.fields.push(name);
                Ok(())
            }
            Some(token) => Err(Fault::new(token.at, "expected a space here")),
            None => Ok(()),
        }
    }

    fn operand(&mut self, tokens: &mut Tokens) -> Result<Operand, Fault> {
        let Some(token) = tokens.next() else {
            return Err(Fault::new(tokens.at, "a value is missing"));
        };
        let at = token.at;
        let mut fields = Vec::new();
        let kind = match token.kind {
            TokenKind::Dot => OperandKind::Dot,
            TokenKind::Field(name) => {
                fields.push(name);
                OperandKind::Dot
            }
            TokenKind::Variable(name) if self.scopes.contains(&name) => OperandKind::Variable(name),
            TokenKind::Variable(name) => return Err(undefined(at, &name)),
            TokenKind::Text(text) => OperandKind::Literal(Value::String(text)),
            TokenKind::Number(number) => OperandKind::Literal(Value::Number(number)),
            TokenKind::Word(word) => word_operand(at, &word)?,
            TokenKind::Open => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Fault::new(at, "parentheses nest too deeply"));
                }
                let pipe = self.pipe(tokens, false)?;
                self.depth -= 1;
                if !tokens.take(&TokenKind::Close) {
                    return Err(Fault::new(at, "parenthesis without its closing )"));
                }
                OperandKind::Group(Box::new(pipe))
            }
            TokenKind::Pipe
            | TokenKind::Close
            | TokenKind::Declare
            | TokenKind::Assign
            | TokenKind::Comma => return Err(Fault::new(at, "a value is missing")),
        };
        Ok(Operand { at, kind, fields })
    }
}

enum Action {
    Node(Node),
    Ends(End),
}

fn word_operand(at: Position, word: &str) -> Result<OperandKind, Fault> {
    Ok(match word {
        "true" => OperandKind::Literal(Value::Bool(true)),
        "false" => OperandKind::Literal(Value::Bool(false)),
        "nil" => OperandKind::Nil,
        _ => OperandKind::Function(Function::by_name(word).ok_or_else(|| {
            let hint = format!("use one of {}, or a field as .{word}", Function::names());
            let mut fault = Fault::new(at, format!("no function {word:?}"));
            fault.hint = Some(hint);
            fault
        })?),
    })
}

fn unclosed(at: Position, keyword: &str) -> Fault {
    Fault::new(at, format!("{{{{{keyword}}}}} without its {{{{end}}}}"))
}

fn undefined(at: Position, name: &str) -> Fault {
    Fault::new(at, format!("no variable {name:?}"))
}
