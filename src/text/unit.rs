//! Words as units of systemd have them (systemd.service(5), systemd.syntax(7)).

use std::fmt::Write as _;

/// A word of a command line. Specifiers and variables in it are taken literally.
pub fn argument(word: &str) -> String {
    quoted(&word.replace('%', "%%").replace('$', "$$"))
}

/// A value of `Environment=` and the like, where no variables are replaced.
pub fn value(word: &str) -> String {
    quoted(&word.replace('%', "%%"))
}

/// A path that is the whole of a line.
pub fn path(path: &std::path::Path) -> String {
    path.display().to_string().replace('%', "%%")
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| {
        !letter.is_whitespace()
            && !letter.is_control()
            && !matches!(letter, '"' | '\'' | '\\' | ';' | '#')
    };
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            letter if letter.is_ascii_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

/// A command line of words that are as units have them, a flag a line.
pub fn command(words: &[String]) -> String {
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let between = match at {
            0 => "",
            _ if word.trim_start_matches('"').starts_with('-') => " \\\n\t",
            _ => " ",
        };
        text.push_str(between);
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_what_they_are() {
        for (word, expected) in [
            ("-p8080:80", "-p8080:80"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("50%", "50%%"),
            ("$HOME", "$$HOME"),
            ("it's \"so\"", "\"it's \\\"so\\\"\""),
            ("a\\b\nc\x1b", "\"a\\\\b\\nc\\x1b\""),
            (";", "\";\""),
        ] {
            assert_eq!(argument(word), expected);
        }
        assert_eq!(value("A=$x %"), "\"A=$x %%\"");
    }

    #[test]
    fn a_flag_begins_a_line() {
        let words =
            ["rbox", "run", "--rm", "-v", "a:b", "\"--env=a b\"", "image"].map(str::to_owned);
        assert_eq!(
            command(&words),
            "rbox run \\\n\t--rm \\\n\t-v a:b \\\n\t\"--env=a b\" image"
        );
    }
}
