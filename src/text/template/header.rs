//! The heading of a `table` template: its text, with the name of the column in place of
//! each action.

use super::Command;
use super::Node;
use super::OperandKind;
use super::Pipe;

/// The heading with cells parted by tabs. A column is called what the caller says, or
/// as the last field in its action is (`.CreatedAt` is `CREATED AT`).
pub(super) fn heading(nodes: &[Node], names: &[(&str, &str)]) -> String {
    let parts = nodes.iter().map(|node| match node {
        Node::Text(text) => text.clone(),
        Node::Action(pipe) if !pipe.variables.is_empty() => String::new(),
        Node::Action(pipe) => of_pipe(pipe, names).unwrap_or_default(),
        Node::If { branches, .. } | Node::With { branches, .. } => branches
            .first()
            .map(|(_, body)| heading(body, names))
            .unwrap_or_default(),
        Node::Range { over, body, .. } => {
            let inside = heading(body, names);
            // {{range .Names}}{{.}}{{end}} names its column outside.
            if inside.chars().any(char::is_alphanumeric) {
                inside
            } else {
                of_pipe(over, names).unwrap_or_default()
            }
        }
        Node::Break | Node::Continue => String::new(),
    });
    parts.collect()
}

fn of_pipe(pipe: &Pipe, names: &[(&str, &str)]) -> Option<String> {
    pipe.commands
        .iter()
        .find_map(|command| of_command(command, names))
}

fn of_command(command: &Command, names: &[(&str, &str)]) -> Option<String> {
    let literal = match command.words.as_slice() {
        [word] => match &word.kind {
            OperandKind::Literal(value) => value.as_str().map(str::to_owned),
            _ => None,
        },
        _ => None,
    };
    literal.or_else(|| {
        command.words.iter().find_map(|word| match &word.kind {
            OperandKind::Group(pipe) if word.fields.is_empty() => of_pipe(pipe, names),
            _ => Some(name_of(word.fields.last()?, names)),
        })
    })
}

fn name_of(field: &str, names: &[(&str, &str)]) -> String {
    match names.iter().find(|(name, _)| *name == field) {
        Some((_, column)) => (*column).to_owned(),
        None => words(field).to_uppercase(),
    }
}

/// `CreatedAt` is two words, `ImageID` and `IPAMConfig` are too.
fn words(field: &str) -> String {
    let chars: Vec<char> = field.chars().collect();
    let mut text = String::new();
    for (index, c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| chars[index]);
        let after_lower = before.is_some_and(|before| !before.is_uppercase());
        let before_lower = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && before.is_some() && (after_lower || before_lower) {
            text.push(' ');
        }
        text.push(*c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn names_of_fields_are_cut_into_words() {
        let table = [
            ("ID", "ID"),
            ("CreatedAt", "Created At"),
            ("ImageID", "Image ID"),
            ("IPAMConfig", "IPAM Config"),
            ("size", "size"),
            ("", ""),
        ];
        for (field, text) in table {
            assert_eq!(words(field), text);
        }
    }
}
