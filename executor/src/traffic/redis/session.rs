//! What one connection has told its server about itself, and what it still waits for: whether it can go on at another
//! server, and what must be said there first. No I/O.

use std::collections::VecDeque;

use super::framing::{Value, words};

/// Longest command that is remembered to be said again.
const REMEMBERED: usize = 8 << 10;
/// Most of them.
const MOST: usize = 16;
/// As many words of a command as are looked at: enough to find BLOCK in the longest usual XREADGROUP.
const WORDS: usize = 10;

/// What an answer is awaited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Awaited {
    /// So many commands that change nothing about the connection.
    Plain(usize),
    /// One that may be answered at any time.
    Blocking,
    /// One that changes the connection if it succeeds, and what it changes.
    Setting(Vec<u8>, Vec<u8>),
    /// RESET: back to the beginning.
    Reset,
    /// EXEC, DISCARD: no transaction any more.
    TransactionEnd,
    /// UNWATCH.
    Unwatched,
}

/// Why a connection can't go on at another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// It can't be told what belongs to which command: SUBSCRIBE, MONITOR, CLIENT REPLY, or bytes of another protocol.
    Opaque,
    /// A transaction is open, or keys are watched.
    Transaction,
    /// The server keeps something about it that can't be said again.
    State,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Session {
    awaited: VecDeque<Awaited>,
    /// What was said about the connection, by what it is about, in the order in which it must be said again.
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    transaction: bool,
    watching: bool,
    state: bool,
    opaque: bool,
    quits: bool,
}

impl Session {
    /// Notes that a command is sent, or the beginning of one that is too long to be seen whole. One that is empty is answered
    /// by nothing.
    pub fn sent(&mut self, command: &[u8], value: Option<Value>) {
        if self.opaque || value.is_some_and(|value| value.empty) {
            return;
        }
        let all = words(command, WORDS);
        let word = |at: usize| all.get(at).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let (first, second) = (word(0), word(1));
        let setting = |key: Vec<u8>| Awaited::Setting(key, command.to_vec());
        let awaited = match (first.as_slice(), second.as_slice()) {
            (b"AUTH" | b"HELLO" | b"SELECT" | b"READONLY" | b"READWRITE", _) => setting(first),
            (b"CLIENT", b"SETINFO") => setting([second, word(2)].concat()),
            (b"CLIENT", b"SETNAME" | b"NO-EVICT" | b"NO-TOUCH") => setting(second),
            (b"CLIENT", b"TRACKING") => {
                self.state = true;
                Awaited::Plain(1)
            }
            (b"CLIENT", b"REPLY") | (b"MONITOR" | b"SYNC" | b"PSYNC" | b"REPLCONF", _) => {
                return self.give_up();
            }
            (name, _) if name.ends_with(b"SUBSCRIBE") => return self.give_up(),
            (b"MULTI", _) => {
                self.transaction = true;
                Awaited::Plain(1)
            }
            (b"WATCH", _) => {
                self.watching = true;
                Awaited::Plain(1)
            }
            (b"EXEC" | b"DISCARD", _) => Awaited::TransactionEnd,
            (b"UNWATCH", _) if !self.transaction => Awaited::Unwatched,
            (b"RESET", _) => Awaited::Reset,
            (b"QUIT" | b"SHUTDOWN", _) => {
                self.quits = true;
                Awaited::Plain(1)
            }
            (b"XREAD" | b"XREADGROUP", _) if (1..all.len()).any(|at| word(at) == b"BLOCK") => {
                Awaited::Blocking
            }
            (b"WAIT" | b"WAITAOF", _) => Awaited::Blocking,
            // BLPOP, BRPOP, BLMOVE, BZPOPMIN …: all that begin so but the bit and Bloom commands block.
            (name, _) if blocks(name) && !self.transaction => Awaited::Blocking,
            _ => Awaited::Plain(1),
        };
        match (&awaited, self.awaited.back_mut()) {
            (Awaited::Setting(..), _) if self.transaction || value.is_none() => {
                // It takes effect when the transaction does, or was not seen whole: it can't be said again.
                self.state = true;
                self.awaited.push_back(Awaited::Plain(1));
            }
            (Awaited::Plain(_), Some(Awaited::Plain(count))) => *count += 1,
            _ => self.awaited.push_back(awaited),
        }
    }

    /// Bytes came that can't be told apart: it is only passed through from here on.
    pub fn give_up(&mut self) {
        self.opaque = true;
        self.awaited.clear();
    }

    /// Notes an answer. One that nobody waits for is a message.
    pub fn answered(&mut self, value: Value) {
        if self.opaque || value.kind == b'>' {
            return;
        }
        let succeeded = value.kind != b'-' && value.kind != b'!';
        if let Some(Awaited::Plain(count @ 2..)) = self.awaited.front_mut() {
            *count -= 1;
            return;
        }
        match self.awaited.pop_front() {
            Some(Awaited::Setting(key, command)) if succeeded => self.remember(key, command),
            Some(Awaited::Reset) if succeeded => {
                *self =
                    Self { awaited: std::mem::take(&mut self.awaited), quits: self.quits, ..Self::default() };
            }
            Some(Awaited::TransactionEnd) => (self.transaction, self.watching) = (false, false),
            Some(Awaited::Unwatched) => self.watching = false,
            Some(_) => {}
            // An answer to nothing: this is not what we take it for.
            None => self.give_up(),
        }
    }

    fn remember(&mut self, key: Vec<u8>, command: Vec<u8>) {
        self.settings.retain(|(other, _)| *other != key);
        if command.len() > REMEMBERED || self.settings.len() >= MOST {
            self.state = true;
            return;
        }
        self.settings.push((key, command));
    }

    /// Whether an answer is awaited that is worth waiting for, or a transaction is open that may soon end.
    pub fn is_busy(&self) -> bool {
        let soon = |awaited: &Awaited| *awaited != Awaited::Blocking;
        self.transaction || self.watching || self.awaited.iter().any(soon)
    }

    /// Whether a transaction is open: then its commands belong to something that is under way.
    pub fn in_transaction(&self) -> bool {
        self.transaction || self.watching
    }

    /// Whether an answer is awaited.
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Whether it is only passed through.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Whether the client has said that it ends.
    pub fn quits(&self) -> bool {
        self.quits
    }

    /// Why it can't go on at another server, if so. An answer that is awaited is another matter.
    pub fn bound(&self) -> Option<Bound> {
        match self {
            Self { opaque: true, .. } => Some(Bound::Opaque),
            Self { transaction: true, .. } | Self { watching: true, .. } => Some(Bound::Transaction),
            Self { state: true, .. } => Some(Bound::State),
            _ => None,
        }
    }

    /// What must be said at another server first, and how many answers come to it.
    pub fn introduction(&self) -> (Vec<u8>, usize) {
        let said = self.settings.iter().flat_map(|(_, command)| command.iter().copied()).collect();
        (said, self.settings.len())
    }
}

fn blocks(name: &[u8]) -> bool {
    const NAMES: &[&[u8]] =
        &[b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP"];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OK: Value = Value { kind: b'+', empty: false };
    const ERROR: Value = Value { kind: b'-', empty: false };

    fn command(text: &str) -> Vec<u8> {
        let all: Vec<&str> = text.split(' ').collect();
        let mut bytes = format!("*{}\r\n", all.len()).into_bytes();
        all.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
        bytes
    }

    fn session(said: &[(&str, Value)]) -> Session {
        let mut session = Session::default();
        for (text, answer) in said {
            session.sent(&command(text), Some(OK));
            session.answered(*answer);
        }
        session
    }

    fn introduction(said: &[(&str, Value)]) -> (String, usize) {
        let (bytes, answers) = session(said).introduction();
        (String::from_utf8(bytes).unwrap(), answers)
    }

    #[test]
    fn settings_that_hold_are_said_again_in_their_order() {
        let said = [
            ("AUTH secret", OK),
            ("select 3", OK),
            ("SELECT 99", ERROR),
            ("GET k", OK),
            ("CLIENT SETINFO lib-name a", OK),
            ("CLIENT SETINFO lib-ver 1", OK),
            ("CLIENT SETNAME one", OK),
            ("AUTH other", OK),
        ];
        let expected: Vec<u8> = [
            "select 3",
            "CLIENT SETINFO lib-name a",
            "CLIENT SETINFO lib-ver 1",
            "CLIENT SETNAME one",
            "AUTH other",
        ]
        .into_iter()
        .flat_map(command)
        .collect();
        assert_eq!(introduction(&said), (String::from_utf8(expected).unwrap(), 5));
        let reset = [&said[..], &[("RESET", OK)]].concat();
        assert_eq!(introduction(&reset), (String::new(), 0));
    }

    #[test]
    fn what_binds_a_connection_to_its_server() {
        let bound = |said: &[&str]| session(&said.iter().map(|text| (*text, OK)).collect::<Vec<_>>()).bound();
        assert_eq!(bound(&["GET a", "HELLO 3", "SELECT 1"]), None);
        for opaque in
            ["SUBSCRIBE a", "psubscribe a*", "SSUBSCRIBE a", "MONITOR", "CLIENT REPLY OFF", "PSYNC ? -1"]
        {
            assert_eq!(bound(&[opaque]), Some(Bound::Opaque), "{opaque}");
        }
        assert_eq!(bound(&["WATCH a"]), Some(Bound::Transaction));
        assert_eq!(bound(&["WATCH a", "UNWATCH"]), None);
        assert_eq!(bound(&["WATCH a", "MULTI", "GET a"]), Some(Bound::Transaction));
        assert_eq!(bound(&["WATCH a", "MULTI", "GET a", "EXEC"]), None);
        assert_eq!(bound(&["MULTI", "DISCARD"]), None);
        assert_eq!(bound(&["MULTI", "SELECT 4", "EXEC"]), Some(Bound::State));
        assert_eq!(bound(&["CLIENT TRACKING ON"]), Some(Bound::State));
        let long = format!("CLIENT SETNAME {}", "x".repeat(REMEMBERED));
        assert_eq!(bound(&[&long]), Some(Bound::State));
    }

    #[test]
    fn a_blocked_connection_is_not_waited_for() {
        let mut one = Session::default();
        for text in ["BLPOP a 0", "XREAD COUNT 1 BLOCK 0 STREAMS a $", "WAIT 1 0"] {
            one.sent(&command(text), Some(OK));
        }
        assert!(one.awaits() && !one.is_busy());
        one.sent(&command("GET a"), Some(OK));
        assert!(one.is_busy());
        for text in ["BITCOUNT a", "BGSAVE", "XREAD STREAMS a 0"] {
            let mut other = Session::default();
            other.sent(&command(text), Some(OK));
            assert!(other.is_busy(), "{text}");
        }
    }

    #[test]
    fn messages_and_what_is_answered_by_nothing_are_not_counted() {
        let mut one = session(&[("HELLO 3", Value { kind: b'%', empty: false })]);
        one.sent(b"\r\n", Some(Value { kind: b'\r', empty: true }));
        assert!(!one.awaits());
        one.sent(&command("GET a"), Some(OK));
        one.answered(Value { kind: b'>', empty: false });
        assert!(one.awaits());
        one.answered(OK);
        assert!(!one.awaits() && one.bound().is_none());
        one.answered(OK);
        assert_eq!(one.bound(), Some(Bound::Opaque), "it answers what was not asked");
    }

    proptest! {
        /// Commands that each have one answer: after any prefix of them is answered, as many are awaited as are left.
        #[test]
        fn every_answer_is_counted_once(
            which in prop::collection::vec(0..7usize, 1..60),
            answers in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            const SAID: [&str; 7] = ["GET a", "SET a b", "SELECT 2", "BLPOP a 0", "UNWATCH", "AUTH x", "INCR n"];
            let mut session = Session::default();
            for at in &which {
                session.sent(&command(SAID[*at]), Some(OK));
            }
            let answered = answers.len().min(which.len());
            for succeeded in &answers[..answered] {
                session.answered(if *succeeded { OK } else { ERROR });
            }
            let left = session.awaited.iter().map(|one| if let Awaited::Plain(count) = one { *count } else { 1 }).sum::<usize>();
            prop_assert_eq!(left, which.len() - answered);
            prop_assert!(session.bound().is_none());
        }
    }
}
