//! Keys that detach a person from a container: their names as Docker and Podman write them, and the
//! search for them in what is typed.

/// The default of Docker and Podman.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// The bytes that the keys give one after the other; none turn detaching off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

/// `a,ctrl-x`: single characters, and ctrl- with a letter or one of `@ [ \ ] ^ _`.
pub fn parse(text: &str) -> Result<Keys, String> {
    if text.is_empty() {
        return Ok(Keys::default());
    }
    let bytes: Option<Vec<u8>> = text.split(',').map(key).collect();
    let expected = "expected keys as ctrl-p,ctrl-q: single characters, or ctrl- with a letter or one of @ [ \\ ] ^ _";
    bytes.map(Keys).ok_or_else(|| expected.to_owned())
}

fn key(name: &str) -> Option<u8> {
    match (name.as_bytes(), name.strip_prefix("ctrl-")) {
        ([byte], _) => Some(*byte),
        (_, Some(key)) => match key.as_bytes() {
            // ASCII: a control character is the character 64 after it without its high bits.
            [byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(byte & 0x1f),
            _ => None,
        },
        (b"DEL", None) => Some(0x7f),
        _ => None,
    }
}

/// Looks for the keys in what is typed, which comes in pieces.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    /// How many of the keys were typed last; they are held back.
    typed: usize,
}

impl Watch {
    pub fn for_keys(keys: Keys) -> Watch {
        Watch {
            keys: keys.0,
            typed: 0,
        }
    }

    /// What of the input goes on, and whether all keys were typed.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len() + self.typed);
        if self.keys.is_empty() {
            passed.extend_from_slice(input);
            return (passed, false);
        }
        for byte in input {
            let mut held = self.keys[..self.typed].to_vec();
            held.push(*byte);
            // What cannot be the beginning of the keys goes on.
            while !self.keys.starts_with(&held) {
                passed.push(held.remove(0));
            }
            self.typed = held.len();
            if self.typed == self.keys.len() {
                self.typed = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_characters_and_control_characters() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("a", b"a"),
            ("Z,1,~", b"Z1~"),
            (DEFAULT, b"\x10\x11"),
            (
                "ctrl-@,ctrl-a,ctrl-z,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
                b"\0\x01\x1a\x1b\x1c\x1d\x1e\x1f",
            ),
            ("DEL", b"\x7f"),
        ] {
            assert_eq!(parse(text), Ok(Keys(bytes.to_vec())), "{text}");
        }
        for text in [",", "a,", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-pp", "ab", "é"] {
            let err = parse(text).unwrap_err();
            assert!(err.starts_with("expected keys as ctrl-p,ctrl-q"), "{text}");
        }
    }

    fn watch(keys: &str) -> Watch {
        Watch::for_keys(parse(keys).unwrap())
    }

    #[test]
    fn the_keys_may_come_in_pieces_and_others_pass() {
        let mut keys = watch(DEFAULT);
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.filter(b"y"), (b"\x10y".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11z"), (b"".to_vec(), true));
    }

    #[test]
    fn a_beginning_that_fails_may_hold_the_true_one() {
        let mut keys = watch("a,a,b");
        assert_eq!(keys.filter(b"aaa"), (b"a".to_vec(), false));
        assert_eq!(keys.filter(b"b"), (b"".to_vec(), true));
        let mut keys = watch("a,b,a,c");
        assert_eq!(keys.filter(b"abab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"ac"), (b"".to_vec(), true));
    }

    #[test]
    fn one_key_is_enough_and_no_key_is_never_found() {
        assert_eq!(watch("d").filter(b"abcdef"), (b"abc".to_vec(), true));
        let all = b"\x10\x11".to_vec();
        assert_eq!(watch("").filter(&all), (all.clone(), false));
    }
}
