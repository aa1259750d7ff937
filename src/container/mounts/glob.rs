//! File names by a pattern of `*`, `?` and `[…]`, as `--mount type=glob` has them.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// Paths that exist and match, sorted. A name that begins with a dot is matched by a dot only.
pub fn expand(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        let text = part.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            for path in &mut found {
                path.push(part);
            }
            found.retain(|path| path.symlink_metadata().is_ok());
            continue;
        }
        let mut next = Vec::new();
        for dir in &found {
            let Ok(entries) = std::fs::read_dir(dir) else {
                continue;
            };
            for entry in entries {
                let name = entry?.file_name();
                let shown = name.to_string_lossy();
                if (!shown.starts_with('.') || text.starts_with('.')) && matches(&text, &shown) {
                    next.push(dir.join(name));
                }
            }
        }
        next.sort();
        found = next;
    }
    Ok(found)
}

fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where the last star stood, and how much of the name it takes so far.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let one = pattern
            .get(p)
            .filter(|c| **c != '*')
            .and_then(|_| one(&pattern[p..], name[n]));
        if let Some(used) = one {
            (p, n) = (p + used, n + 1);
        } else if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many letters of the pattern match this one letter of the name.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|c| *c == ']')? + 1;
            let (negated, class) = match &rest[..end] {
                ['!' | '^', class @ ..] => (true, class),
                class => (false, class),
            };
            let mut inside = false;
            let mut at = 0;
            while at < class.len() {
                if class.get(at + 1) == Some(&'-') && at + 2 < class.len() {
                    inside |= (class[at]..=class[at + 2]).contains(&letter);
                    at += 3;
                } else {
                    inside |= class[at] == letter;
                    at += 1;
                }
            }
            (inside != negated).then_some(end + 2)
        }
        ['\\', c, ..] => (*c == letter).then_some(2),
        [c, ..] => (*c == letter).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*", "", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
