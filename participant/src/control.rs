//! Finds statements that would end or open a transaction, by their first words. The branch's transaction
//! belongs to the protocol: a COMMIT hidden behind semicolons, odd white space or nested comments would
//! commit half of it and leave the other half to be prepared.

/// Why a statement is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It opens, ends or prepares a transaction.
    TransactionControl,
    /// It moves data in a form for which the reply has no message.
    Copy,
}

/// Judges a statement by its first words; `None` when it may run.
pub(crate) fn refuse(statement: &str) -> Option<Refused> {
    let mut words = Words(statement);
    let first = words.next()?;
    let is = |word: &str, expected: &str| word.eq_ignore_ascii_case(expected);
    let control = ["begin", "start", "commit", "end", "abort"].iter().any(|word| is(first, word))
        || (is(first, "rollback") && !words.rolls_back_to_a_savepoint())
        || (is(first, "prepare") && words.next().is_some_and(|word| is(word, "transaction")));
    if control {
        return Some(Refused::TransactionControl);
    }
    is(first, "copy").then_some(Refused::Copy)
}

/// Whether a statement reads or writes rows and does nothing else: by its first word it can be no command that
/// acts on the session or its transaction, and it names no function that changes the session's settings.
pub(crate) fn is_plain(statement: &str) -> bool {
    const PLAIN: [&str; 7] = ["select", "insert", "update", "delete", "merge", "with", "values"];
    let first = Words(statement).next().unwrap_or_default();
    PLAIN.iter().any(|word| first.eq_ignore_ascii_case(word))
        && !statement.to_ascii_lowercase().contains("set_config")
}

/// The leading words of a statement, without what PostgreSQL's scanner skips.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.skip();
        let length = self
            .0
            .bytes()
            .position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80))
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Skips semicolons, white space and comments. An unterminated comment swallows the rest, as it does in
    /// the server, which then finds nothing to run.
    fn skip(&mut self) {
        loop {
            // PostgreSQL's own white space, and vertical tab, which it took in with version 16.
            self.0 = self.0.trim_start_matches([';', ' ', '\t', '\n', '\r', '\x0c', '\x0b']);
            if let Some(comment) = self.0.strip_prefix("--") {
                let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
                self.0 = comment.get(end..).unwrap_or_default();
            } else if let Some(comment) = self.0.strip_prefix("/*") {
                self.0 = after_block_comment(comment);
            } else {
                return;
            }
        }
    }

    /// After ROLLBACK: `[WORK | TRANSACTION] TO …`.
    fn rolls_back_to_a_savepoint(&mut self) -> bool {
        let mut word = self.next_of_same_statement();
        if word.is_some_and(|w| w.eq_ignore_ascii_case("work") || w.eq_ignore_ascii_case("transaction")) {
            word = self.next_of_same_statement();
        }
        word.is_some_and(|w| w.eq_ignore_ascii_case("to"))
    }

    /// A word that no semicolon separates from the one before.
    fn next_of_same_statement(&mut self) -> Option<&'a str> {
        let before = self.0;
        let word = self.next()?;
        let skipped = before.len().checked_sub(self.0.len() + word.len())?;
        let gap = before.get(..skipped)?;
        // A semicolon within a comment separates nothing, but to refuse it costs nobody anything.
        (!gap.contains(';')).then_some(word)
    }
}

/// What follows a block comment whose opening was consumed. Block comments nest.
fn after_block_comment(text: &str) -> &str {
    let mut depth = 1usize;
    let mut rest = text;
    while let Some(at) = rest.find(['/', '*']) {
        let tail = rest.get(at..).unwrap_or_default();
        if let Some(inner) = tail.strip_prefix("/*") {
            depth += 1;
            rest = inner;
        } else if let Some(outer) = tail.strip_prefix("*/") {
            depth -= 1;
            rest = outer;
            if depth == 0 {
                return rest;
            }
        } else {
            rest = tail.get(1..).unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_control_is_found_however_it_hides() {
        for statement in [
            "BEGIN",
            "begin work",
            "START TRANSACTION",
            "commit",
            "COMMIT AND CHAIN",
            ";COMMIT AND CHAIN",
            ";;/* a /* b */ */ commit and chain",
            "\x0ccommit",
            " \t\r\n\x0b\x0cCoMmIt;",
            "-- a comment\ncommit",
            "-- a comment\rcommit",
            "/**/commit",
            "/* ** // /*/ */ **/end",
            "end",
            "END WORK",
            "abort",
            "ROLLBACK",
            "rollback work",
            "rollback and chain",
            "rollback; to savepoint a",
            "rollback transaction",
            "ROLLBACK PREPARED 'x'",
            "COMMIT PREPARED 'x'",
            "commit/**/prepared 'x'",
            "prepare transaction 'x'",
            "PREPARE/* */TRANSACTION 'x'",
            "commit\0",
        ] {
            assert_eq!(refuse(statement), Some(Refused::TransactionControl), "{statement:?}");
        }
        for statement in ["copy t from stdin", " COPY (select 1) TO STDOUT"] {
            assert_eq!(refuse(statement), Some(Refused::Copy), "{statement:?}");
        }
    }

    #[test]
    fn only_what_reads_and_writes_rows_is_plain() {
        for plain in
            ["select 1", " /* a */ UPDATE t SET a = 1", "With a as (select 1) select * from a", ";insert"]
        {
            assert!(is_plain(plain), "{plain:?}");
        }
        for other in [
            "",
            "set role app",
            "do $$ begin end $$",
            "call p()",
            "execute p",
            "discard all",
            "savepoint a",
            "(select 1)",
            "selected",
            "select pg_catalog.SET_CONFIG('role', 'app', false)",
        ] {
            assert!(!is_plain(other), "{other:?}");
        }
    }

    #[test]
    fn statements_that_only_look_alike_may_run() {
        for statement in [
            "",
            ";",
            "/* commit",
            "-- commit",
            "select 'commit'",
            "update commits set a = 1",
            "committed",
            "SAVEPOINT a",
            "RELEASE SAVEPOINT a",
            "ROLLBACK TO a",
            "rollback/* */to savepoint a",
            "ROLLBACK WORK TO SAVEPOINT a",
            "rollback transaction to a",
            "prepare p as select 1",
            "end_of_day()",
            "beginé",
            "with a as (select 1) select * from a",
            "/* a */ select 1 /* commit */",
            "(select 1)",
        ] {
            assert_eq!(refuse(statement), None, "{statement:?}");
        }
    }
}
