//! Shell patterns as Go's path.Match reads them: `*` and `?` match no slash.

use regex::Regex;

/// `None` where the pattern is none.
pub fn parse(pattern: &str) -> Option<Regex> {
    let mut text = String::from("^(?s:");
    let mut rest = pattern.chars();
    while let Some(char) = rest.next() {
        match char {
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '\\' => text.push_str(&regex::escape(rest.next()?.encode_utf8(&mut [0; 4]))),
            '[' => class(&mut rest, &mut text)?,
            plain => text.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push_str(")$");
    Regex::new(&text).ok()
}

/// Characters and ranges up to the closing bracket.
fn class(rest: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    text.push('[');
    let mut first = true;
    loop {
        match rest.next()? {
            ']' if !first => break,
            '^' if first && !text.ends_with('^') => {
                text.push('^');
                continue;
            }
            '-' => text.push('-'),
            '\\' => text.push_str(&regex::escape(rest.next()?.encode_utf8(&mut [0; 4]))),
            plain => {
                if !plain.is_alphanumeric() {
                    text.push('\\');
                }
                text.push(plain);
            }
        }
        first = false;
    }
    text.push(']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, fits) in [
            ("busy*", "busybox", true),
            ("busy*", "busybox/x", false),
            ("*/busybox", "library/busybox", true),
            ("b?x", "box", true),
            ("b[a-o]x", "box", true),
            ("b[^a-o]x", "box", false),
            ("a.c", "abc", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a+", "a+", true),
        ] {
            assert_eq!(parse(pattern).unwrap().is_match(text), fits, "{pattern}");
        }
        assert!(parse("[").is_none());
        assert!(parse("a\\").is_none());
    }
}
