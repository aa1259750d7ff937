//! Environment variables as people write them: `NAME=VALUE`, `NAME` and `NAME*` of the host, files of
//! them, and values that refer to others. What an image says never comes here.

/// The variables that one word of the user's means. `NAME` alone takes the host's value, `NAME*` those
/// of all names that begin so; what the host does not have is left out.
pub fn read(word: &str, host: &[(String, String)]) -> Result<Vec<String>, String> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if name.is_empty() {
        return Err("expected NAME=VALUE or NAME".into());
    }
    if value.is_some() {
        return Ok(vec![word.to_owned()]);
    }
    let wanted = |known: &str| match name.strip_suffix('*') {
        Some(start) => known.starts_with(start),
        None => known == name,
    };
    Ok(host
        .iter()
        .filter(|(known, _)| wanted(known))
        .map(|(known, value)| format!("{known}={value}"))
        .collect())
}

/// The variables of a file as Docker and Podman read it: one a line, `#` begins a comment line, quotes
/// are part of the value. An error has the number of its line.
pub fn read_file(text: &str, host: &[(String, String)]) -> Result<Vec<String>, (usize, String)> {
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| (index + 1, format!("\"{line}\": {why}"));
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            return Err(wrong("expected a name without blanks"));
        }
        if line.contains('\0') {
            return Err(wrong("expected no NUL byte"));
        }
        variables.extend(read(line, host).map_err(|why| wrong(&why))?);
    }
    Ok(variables)
}

/// `text` with `$NAME` and `${NAME}` replaced; what is not known is nothing.
pub fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, further) = match after.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some((name, further)) => (name, further),
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&known(name).unwrap_or_default());
        }
        rest = further;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<(String, String)> {
        [("HOME", "/h"), ("LC_ALL", "C"), ("LC_TIME", "de")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn a_word_is_a_value_or_names_variables_of_the_host() {
        let read = |word| read(word, &host());
        assert_eq!(read("A=b=c"), Ok(vec!["A=b=c".to_owned()]));
        assert_eq!(read("A="), Ok(vec!["A=".to_owned()]));
        assert_eq!(read("HOME"), Ok(vec!["HOME=/h".to_owned()]));
        assert_eq!(read("NONE"), Ok(vec![]));
        assert_eq!(
            read("LC_*"),
            Ok(vec!["LC_ALL=C".to_owned(), "LC_TIME=de".to_owned()])
        );
        for wrong in ["", "=", "=x"] {
            assert_eq!(read(wrong), Err("expected NAME=VALUE or NAME".to_owned()));
        }
    }

    #[test]
    fn a_file_has_one_variable_a_line() {
        let text = "\u{feff}# note\n\n  A=1\r\nB=\"q # x\" \nHOME\nNONE\nLC_A*\n\t# more\nC=\n";
        assert_eq!(
            read_file(text, &host()),
            Ok(["A=1", "B=\"q # x\" ", "HOME=/h", "LC_ALL=C", "C="]
                .map(str::to_owned)
                .to_vec())
        );
        let wrong = |text| read_file(text, &host()).unwrap_err();
        assert_eq!(
            wrong("A=1\n=x"),
            (2, "\"=x\": expected NAME=VALUE or NAME".to_owned())
        );
        assert_eq!(
            wrong("A B=1"),
            (1, "\"A B=1\": expected a name without blanks".to_owned())
        );
    }

    #[test]
    fn values_refer_to_others() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expanded) in [
            ("${A}:$A/x$", "1:1/x$"),
            ("$B${C}-", "-"),
            ("$A_", ""),
            ("$$ ${", "$$ ${"),
        ] {
            assert_eq!(expand(text, known), expanded, "{text}");
        }
    }
}
