//! Where one command or one answer ends and the next begins, in RESP 2 and 3. Nothing is kept of what flows past but a
//! number, so any length and any nesting costs the same. No I/O.

use thiserror::Error;

/// Bytes that are not of the protocol. What follows can't be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("byte {0:#04x} does not belong there")]
pub struct Malformed(pub u8);

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// The byte that it began with.
    pub kind: u8,
    /// Whether it says nothing and is answered by nothing: an empty line, an array of nothing.
    pub empty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first byte of an element.
    Kind,
    /// In the line of an element. Its number so far, whether it is negative, and whether it has digits.
    Line { kind: u8, number: u64, negative: bool, digits: bool, streamed: bool },
    /// In a line that is not a number.
    Text { kind: u8, empty: bool },
    /// In what follows a line: so many bytes more.
    Bulk(u64),
}

/// Follows one direction of a connection.
#[derive(Debug, Clone)]
pub struct Framing {
    at: At,
    /// Elements that the value at hand still needs.
    open: u64,
    kind: u8,
    empty: bool,
    /// Commands may be a plain line, and are arrays of bulk strings otherwise.
    commands: bool,
}

impl Framing {
    /// Of what a client sends.
    pub fn commands() -> Self {
        Self { at: At::Kind, open: 0, kind: 0, empty: false, commands: true }
    }

    /// Of what a server sends.
    pub fn answers() -> Self {
        Self { commands: false, ..Self::commands() }
    }

    /// Whether it stands between two values.
    pub fn at_boundary(&self) -> bool {
        self.open == 0 && self.at == At::Kind
    }

    /// Takes bytes up to the end of a value, or all of them. How many were taken, and the value if it ended.
    ///
    /// # Errors
    /// When they are not of the protocol.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Malformed> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let (used, ended) = self.step(rest)?;
            taken += used;
            if ended && self.open == 0 {
                return Ok((taken, Some(Value { kind: self.kind, empty: self.empty })));
            }
        }
        Ok((taken, None))
    }

    /// Takes some bytes; whether an element ended with them.
    fn step(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        match self.at {
            At::Kind => self.begin(bytes.first().copied().unwrap_or_default()),
            At::Line { .. } => self.line(bytes),
            At::Text { kind, empty } => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                let empty = empty && text.iter().all(|byte| matches!(byte, b'\r' | b' ' | b'\t'));
                if end.is_some() {
                    self.empty = empty && self.commands;
                    self.at = At::Kind;
                    self.close();
                } else {
                    self.at = At::Text { kind, empty };
                }
                Ok((end.map_or(bytes.len(), |at| at + 1), end.is_some()))
            }
            At::Bulk(left) => {
                let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - used as u64;
                self.at = if left == 0 { At::Kind } else { At::Bulk(left) };
                if left == 0 {
                    self.close();
                }
                Ok((used, left == 0))
            }
        }
    }

    fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    fn begin(&mut self, kind: u8) -> Result<(usize, bool), Malformed> {
        let top = self.open == 0;
        if top {
            (self.kind, self.empty, self.open) = (kind, false, 1);
        }
        let number = At::Line { kind, number: 0, negative: false, digits: false, streamed: false };
        self.at = match (self.commands, kind) {
            (true, b'*') if top => number,
            (true, b'$') if !top => number,
            // A plain line: its first byte is part of it.
            (true, _) if top => {
                self.at = At::Text { kind, empty: true };
                return Ok((0, false));
            }
            (false, b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') => At::Text { kind, empty: false },
            (false, b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'>' | b'|') => number,
            _ => return Err(Malformed(kind)),
        };
        Ok((1, false))
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let At::Line { kind, mut number, mut negative, mut digits, mut streamed } = self.at else {
            return Ok((0, false));
        };
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'0'..=b'9' if !streamed => {
                    let more = number.checked_mul(10).and_then(|all| all.checked_add(u64::from(byte - b'0')));
                    number = more.filter(|all| *all <= i64::MAX as u64).ok_or(Malformed(byte))?;
                    digits = true;
                }
                b'-' if !digits && !negative => negative = true,
                b'+' if !digits && !negative => {}
                // The length of a streamed value comes in pieces. No server sends it; what can't be counted is refused.
                b'?' if !digits && !negative => streamed = true,
                b'\r' => {}
                b'\n' if digits && !streamed => {
                    self.at = At::Kind;
                    let ended = self.measured(kind, if negative { None } else { Some(number) });
                    return Ok((at + 1, ended));
                }
                _ => return Err(Malformed(byte)),
            }
        }
        self.at = At::Line { kind, number, negative, digits, streamed };
        Ok((bytes.len(), false))
    }

    /// The number of a line is known: so many bytes or elements follow. Whether nothing does.
    fn measured(&mut self, kind: u8, number: Option<u64>) -> bool {
        let count = number.unwrap_or(0);
        match kind {
            b'$' | b'=' | b'!' => {
                if number.is_some() {
                    self.at = At::Bulk(count.saturating_add(2));
                    return false;
                }
                self.close();
                true
            }
            b'|' => {
                // Comes before the value that it is about, and is none itself.
                self.open = self.open.saturating_add(count.saturating_mul(2));
                false
            }
            _ => {
                let elements = if kind == b'%' { count.saturating_mul(2) } else { count };
                self.open = self.open.saturating_add(elements);
                self.close();
                self.empty = self.commands && count == 0;
                elements == 0
            }
        }
    }
}

/// The words of a command, as many as `most` and as far as they are there.
pub fn words(command: &[u8], most: usize) -> Vec<&[u8]> {
    let mut words = Vec::new();
    if command.first() != Some(&b'*') {
        let line = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let all = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        return all.take(most).collect();
    }
    let mut rest = after_line(command);
    while let (true, Some(here)) = (words.len() < most, rest) {
        let length = here.strip_prefix(b"$").map(|line| line.split(|byte| *byte == b'\r').next());
        let length =
            length.flatten().and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
        let (Some(length), Some(word)) = (length, after_line(here)) else { break };
        let Some(found) = word.get(..length) else { break };
        words.push(found);
        rest = word.get(length.saturating_add(2)..);
    }
    words
}

fn after_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    bytes.get(end + 1..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a text, each with the byte after it, when it is given in pieces of this length.
    fn ends(mut framing: Framing, text: &[u8], piece: usize) -> Result<Vec<(usize, Value)>, Malformed> {
        let (mut found, mut at) = (Vec::new(), 0);
        for part in text.chunks(piece) {
            let mut rest = part;
            while !rest.is_empty() {
                let (taken, value) = framing.take(rest)?;
                at += taken;
                found.extend(value.map(|value| (at, value)));
                rest = &rest[taken..];
            }
        }
        Ok(found)
    }

    fn kinds(text: &[u8]) -> String {
        let found = ends(Framing::answers(), text, 3).unwrap();
        assert_eq!(found.last().map(|(end, _)| *end), Some(text.len()), "{}", String::from_utf8_lossy(text));
        found.iter().map(|(_, value)| char::from(value.kind)).collect()
    }

    #[test]
    fn answers_of_every_kind_are_told_apart() {
        assert_eq!(kinds(b"+OK\r\n-ERR no\r\n:1\r\n$3\r\na\nb\r\n$-1\r\n*-1\r\n*0\r\n"), "+-:$$**");
        assert_eq!(
            kinds(b"_\r\n,1.5\r\n#t\r\n(12345678901234567890\r\n!3\r\nbad\r\n=7\r\ntxt:abc\r\n"),
            "_,#(!="
        );
        assert_eq!(kinds(b"*2\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n+x\r\n"), "*+");
        assert_eq!(kinds(b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n:2\r\n>2\r\n+message\r\n+x\r\n:3\r\n"), "%>:");
    }

    #[test]
    fn an_attribute_belongs_to_the_answer_after_it() {
        let found =
            ends(Framing::answers(), b"|1\r\n+ttl\r\n:60\r\n*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n:4\r\n", 1);
        assert_eq!(found.unwrap().len(), 2);
    }

    #[test]
    fn commands_are_told_apart_lines_among_them() {
        let text = b"*1\r\n$4\r\nPING\r\nPING\r\n\r\n*0\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n";
        let found = ends(Framing::commands(), text, 2).unwrap();
        let empty: Vec<bool> = found.iter().map(|(_, value)| value.empty).collect();
        assert_eq!(empty, [false, false, true, true, false]);
    }

    #[test]
    fn what_is_no_protocol_is_refused() {
        for bad in
            ["*1\r\n:1\r\n", "*x\r\n", "*99999999999999999999\r\n", "*1\r\n$?\r\n", "*\r\n", "*1\r\n$--1\r\n"]
        {
            assert!(ends(Framing::commands(), bad.as_bytes(), 1).is_err(), "{bad:?}");
        }
        for bad in ["hello\r\n", "*?\r\n", "$1x\r\n", "\0"] {
            assert!(ends(Framing::answers(), bad.as_bytes(), 1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_are_found_as_far_as_they_are_there() {
        let text = |words: Vec<&[u8]>| {
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(text(words(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 5)), ["GET", "k"]);
        assert_eq!(text(words(b"*2\r\n$3\r\nGET\r\n$100\r\nk", 5)), ["GET"]);
        assert_eq!(text(words(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 1)), ["GET"]);
        assert_eq!(text(words(b"  set a  b\r\nget", 5)), ["set", "a", "b"]);
        assert!(words(b"*9\r\n$99999999999999999999\r\n", 5).is_empty() && words(b"", 5).is_empty());
    }

    #[derive(Debug, Clone)]
    enum Reply {
        Line(u8, String),
        Bulk(Option<Vec<u8>>),
        Many(u8, Vec<Reply>),
    }

    impl Reply {
        fn write(&self, into: &mut Vec<u8>) {
            match self {
                Self::Line(kind, text) => {
                    into.push(*kind);
                    into.extend(format!("{text}\r\n").bytes());
                }
                Self::Bulk(None) => into.extend(b"$-1\r\n"),
                Self::Bulk(Some(bytes)) => {
                    into.extend(format!("${}\r\n", bytes.len()).bytes());
                    into.extend(bytes);
                    into.extend(b"\r\n");
                }
                Self::Many(kind, all) => {
                    let length = if *kind == b'%' { all.len() / 2 } else { all.len() };
                    into.push(*kind);
                    into.extend(format!("{length}\r\n").bytes());
                    let used = if *kind == b'%' { length * 2 } else { length };
                    all[..used].iter().for_each(|one| one.write(into));
                }
            }
        }
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            (prop::sample::select(b"+-:_,#(".to_vec()), "[a-z0-9 ]{0,9}")
                .prop_map(|(kind, text)| Reply::Line(kind, text)),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..20)).prop_map(Reply::Bulk),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            (prop::sample::select(b"*~%>".to_vec()), prop::collection::vec(inner, 0..5))
                .prop_map(|(kind, all)| Reply::Many(kind, all))
        })
    }

    proptest! {
        #[test]
        fn answers_end_where_they_were_ended(replies in prop::collection::vec(reply(), 1..8), piece in 1..40usize) {
            let (mut text, mut expected) = (Vec::new(), Vec::new());
            for reply in &replies {
                reply.write(&mut text);
                expected.push(text.len());
            }
            let found = ends(Framing::answers(), &text, piece).unwrap();
            prop_assert_eq!(found.iter().map(|(end, _)| *end).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn commands_end_where_they_were_ended(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..5), 1..8),
            piece in 1..40usize,
        ) {
            let (mut text, mut expected) = (Vec::new(), Vec::new());
            for command in &commands {
                let begin = text.len();
                text.extend(format!("*{}\r\n", command.len()).bytes());
                for word in command {
                    text.extend(format!("${}\r\n", word.len()).bytes());
                    text.extend(word);
                    text.extend(b"\r\n");
                }
                expected.push(text.len());
                let plain: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(words(&text[begin..], 9), plain);
            }
            let found = ends(Framing::commands(), &text, piece).unwrap();
            prop_assert_eq!(found.iter().map(|(end, _)| *end).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..50usize) {
            for framing in [Framing::commands(), Framing::answers()] {
                let _ = ends(framing, &bytes, piece);
            }
            let _ = words(&bytes, 4);
        }
    }
}
