//! PostgreSQL's wire protocol, version 3, as far as it is needed to name what passes.

use std::collections::{BTreeMap, VecDeque};

use super::message::Message;
use super::piece::{Pending, Piece, number};

/// The first message of a connection has no type; these are the codes of those that are not a startup.
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What the server owes an answer for, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// The startup: answered by the first ReadyForQuery.
    Startup,
    /// A simple query, of one or several statements: a tag for each, then ReadyForQuery.
    Query(Option<Message>),
    /// An Execute: one tag.
    Execute(Option<Message>),
    /// A Sync: ReadyForQuery.
    Sync,
}

/// What one connection has said, both ways.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    started: bool,
    statements: BTreeMap<Vec<u8>, Option<Message>>,
    bound: Option<Message>,
    owed: VecDeque<Owed>,
}

impl Conversation {
    /// Cuts the next message out of what the client sent.
    pub(super) fn onward(&mut self, pending: &mut Pending) -> Option<Piece> {
        if !self.started {
            let length = number(pending.bytes(), 0..4)?;
            let code = number(pending.bytes(), 4..8)?;
            let bytes = pending.take(length)?;
            let name = match u32::try_from(code) {
                Ok(CANCEL) => Some(Message::Cancel),
                Ok(SSL | GSS) => None,
                _ => {
                    self.started = true;
                    self.owed.push_back(Owed::Startup);
                    Some(Message::Connect)
                }
            };
            return Some(Piece::new(bytes, name));
        }
        let bytes = pending.take(number(pending.bytes(), 1..5)? + 1)?;
        let (kind, body) = (bytes.first().copied(), bytes.get(5..).unwrap_or_default());
        let name = match kind {
            Some(b'Q') => {
                let name = request(&text(body));
                self.owed.push_back(Owed::Query(name));
                name
            }
            Some(b'P') => {
                let mut strings = body.split(|byte| *byte == 0);
                let statement = strings.next().unwrap_or_default().to_vec();
                let sql = strings.next().unwrap_or_default();
                self.statements.insert(statement, request(&String::from_utf8_lossy(sql)));
                None
            }
            Some(b'B') => {
                let statement = body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                self.bound = self.statements.get(statement).copied().flatten();
                self.bound
            }
            Some(b'E') => {
                self.owed.push_back(Owed::Execute(self.bound));
                None
            }
            Some(b'S') => {
                self.owed.push_back(Owed::Sync);
                None
            }
            _ => None,
        };
        Some(Piece::new(bytes, name))
    }

    /// Cuts the next message out of what the server sent.
    pub(super) fn back(&mut self, pending: &mut Pending) -> Option<Piece> {
        let bytes = pending.take(number(pending.bytes(), 1..5)? + 1)?;
        let (kind, body) = (bytes.first().copied(), bytes.get(5..).unwrap_or_default());
        let name = match kind {
            Some(b'C') => self.completed(&text(body)),
            Some(b'I' | b's') => {
                self.completed("");
                None
            }
            Some(b'Z') => self.ready(),
            _ => None,
        };
        Some(Piece::new(bytes, name))
    }

    /// A command tag: it names the answer where it says enough, else the request does.
    fn completed(&mut self, tag: &str) -> Option<Message> {
        let asked = match self.owed.front() {
            Some(Owed::Execute(asked)) => {
                let asked = *asked;
                self.owed.pop_front();
                asked
            }
            Some(Owed::Query(asked)) => *asked,
            Some(Owed::Startup | Owed::Sync) | None => None,
        };
        match tag {
            "BEGIN" => Some(Message::SqlBegun),
            "PREPARE TRANSACTION" => Some(Message::SqlPrepared),
            "COMMIT PREPARED" => Some(Message::SqlCommitPreparedDone),
            "ROLLBACK PREPARED" => Some(Message::SqlRollbackPreparedDone),
            "COMMIT" => Some(Message::SqlCommitted),
            "ROLLBACK" => Some(Message::SqlRolledBack),
            "DISCARD ALL" | "DISCARD SEQUENCES" => Some(Message::SqlResetDone),
            _ => asked.and_then(answer),
        }
    }

    /// ReadyForQuery: everything up to the Sync or query that it answers is over, also what an error skipped.
    fn ready(&mut self) -> Option<Message> {
        while let Some(owed) = self.owed.pop_front() {
            match owed {
                Owed::Startup => return Some(Message::Connected),
                Owed::Query(_) | Owed::Sync => return None,
                Owed::Execute(_) => {}
            }
        }
        None
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// What a request is, by its text. The tests' own statements are the clients'.
fn request(sql: &str) -> Option<Message> {
    let sql = sql.trim();
    let holds = |word: &str| sql.contains(word);
    Some(if holds("PREPARE TRANSACTION '") {
        Message::SqlPrepare
    } else if sql.starts_with("COMMIT PREPARED '") {
        Message::SqlCommitPrepared
    } else if sql.starts_with("ROLLBACK PREPARED '") {
        Message::SqlRollbackPrepared
    } else if sql.starts_with("BEGIN") || sql.starts_with("START TRANSACTION") {
        Message::SqlBegin
    } else if holds("pg_terminate_backend") {
        Message::SqlTerminate
    } else if holds("pg_xact_status") {
        Message::SqlOutcome
    } else if holds("pg_logical_emit_message") {
        Message::SqlConfirm
    } else if holds("pg_prepared_xacts") {
        if holds("p.gid = $1") { Message::SqlFind } else { Message::SqlList }
    } else if sql == "ROLLBACK" {
        Message::SqlRollback
    } else if sql.ends_with("COMMIT") {
        Message::SqlCommit
    } else if holds("DISCARD ALL") || holds("DISCARD SEQUENCES") {
        Message::SqlReset
    } else if holds("accounts") || holds("journal") {
        Message::SqlStatement
    } else {
        return None;
    })
}

/// What answers a request whose tag says too little.
fn answer(request: Message) -> Option<Message> {
    let answers = [
        (Message::SqlStatement, Message::SqlStatementDone),
        (Message::SqlList, Message::SqlListed),
        (Message::SqlFind, Message::SqlFound),
        (Message::SqlOutcome, Message::SqlOutcomeTold),
        (Message::SqlConfirm, Message::SqlConfirmed),
        (Message::SqlTerminate, Message::SqlTerminated),
    ];
    answers.iter().find(|(asked, _)| *asked == request).map(|(_, answer)| *answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn names(mut cut: impl FnMut(&mut Pending) -> Option<Piece>, bytes: &[u8]) -> Vec<Message> {
        let mut pending = Pending::default();
        let mut names = Vec::new();
        // Byte by byte: nothing depends on how the bytes arrive.
        for byte in bytes {
            pending.add(&[*byte]);
            while let Some(piece) = cut(&mut pending) {
                names.extend(piece.names);
            }
        }
        assert!(pending.bytes().is_empty());
        names
    }

    #[test]
    fn requests_are_named_by_their_text_and_answers_by_their_tags() {
        let mut conversation = Conversation::default();
        let startup = [&12_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"\0\0\0\0"].concat();
        let asked = [
            startup,
            message(b'P', b"s1\0UPDATE accounts SET balance = 0\0\0\0"),
            message(b'B', b"\0s1\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'Q', b"RESET SESSION AUTHORIZATION; SAVEPOINT g; PREPARE TRANSACTION 'g'\0"),
            message(b'S', b""),
            message(b'B', b"\0s1\0\0\0\0\0\0\0"),
        ]
        .concat();
        use Message::{Connect, Connected, SqlPrepare, SqlPrepared, SqlStatement, SqlStatementDone};
        let found = names(|pending| conversation.onward(pending), &asked);
        assert_eq!(found, [Connect, SqlStatement, SqlPrepare, SqlStatement]);
        let answered = [
            message(b'R', &[0; 4]),
            message(b'Z', b"I"),
            message(b'C', b"UPDATE 1\0"),
            message(b'C', b"RESET\0"),
            message(b'C', b"SAVEPOINT\0"),
            message(b'C', b"PREPARE TRANSACTION\0"),
            message(b'Z', b"I"),
        ]
        .concat();
        let found = names(|pending| conversation.back(pending), &answered);
        assert_eq!(found, [Connected, SqlStatementDone, SqlPrepared]);
    }

    #[test]
    fn a_cancel_request_is_a_connection_of_its_own() {
        let mut conversation = Conversation::default();
        let cancel = [&16_u32.to_be_bytes()[..], &CANCEL.to_be_bytes(), &[0; 8]].concat();
        assert_eq!(names(|pending| conversation.onward(pending), &cancel), [Message::Cancel]);
    }
}
