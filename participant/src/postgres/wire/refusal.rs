//! What the server says in an error or a notice.

use std::io;

use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::fallible_iterator::FallibleIterator as _;
use votum_proto::v1;

/// An error or a notice of the server.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Refusal {
    /// All that it said.
    pub(in crate::postgres) sql: v1::SqlError,
    /// FATAL or PANIC: the session ends with it.
    pub(in crate::postgres) fatal: bool,
    /// The severity in English, whatever the server's language.
    severity: String,
    /// The function of the server that raised it.
    routine: Option<String>,
}

impl Refusal {
    pub(super) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut read = Self::default();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => read.sql.severity = value,
                b'V' => read.severity = value,
                b'C' => read.sql.sqlstate = value,
                b'M' => read.sql.message = value,
                b'D' => read.sql.detail = value,
                b'H' => read.sql.hint = value,
                b'P' => read.sql.position = value.parse().unwrap_or(0),
                b's' => read.sql.schema = value,
                b't' => read.sql.table = value,
                b'c' => read.sql.column = value,
                b'n' => read.sql.constraint = value,
                b'R' => read.routine = Some(value),
                _ => {}
            }
        }
        // Without a code nobody can tell what became of the command.
        if read.sql.sqlstate.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an error without a code"));
        }
        read.fatal = matches!(read.severity.as_str(), "FATAL" | "PANIC");
        Ok(read)
    }

    /// Whether this notice says that a wait for a synchronous standby was cancelled. That warning has no
    /// SQLSTATE of its own, and its text may be translated; the routine that raised it tells it from a RAISE
    /// WARNING of the application.
    pub(super) fn is_unreplicated(&self) -> bool {
        let warning = self.severity != "NOTICE" && self.sql.sqlstate.starts_with("01");
        warning && self.routine.as_ref().is_none_or(|routine| routine.starts_with("SyncRep"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn read(fields: &[u8]) -> io::Result<Refusal> {
        let length = u32::try_from(fields.len() + 4).unwrap();
        let bytes = [b"N", &length.to_be_bytes()[..], fields].concat();
        let message = Message::parse(&mut BytesMut::from(&bytes[..])).unwrap();
        let Some(Message::NoticeResponse(body)) = message else { panic!("not a notice") };
        Refusal::read(body.fields())
    }

    #[test]
    fn the_warning_of_a_cancelled_wait_is_told_from_one_of_the_application() {
        let waited = b"SWARNUNG\0VWARNING\0C01000\0Mtranslated\0RSyncRepWaitForLSN\0\0";
        assert!(read(waited).unwrap().is_unreplicated());
        let raised = b"SWARNING\0VWARNING\0C01000\0Mcanceling wait\0Rexec_stmt_raise\0\0";
        assert!(!read(raised).unwrap().is_unreplicated());
        let notice = b"SNOTICE\0VNOTICE\0C01000\0Mnothing\0\0";
        assert!(!read(notice).unwrap().is_unreplicated());
    }

    #[test]
    fn what_does_not_have_the_form_of_an_error_is_not_one() {
        for fields in [&b"\0"[..], b"MSomething\0\0", b"C40001\0", b"C40001", b""] {
            assert!(read(fields).is_err(), "{fields:?}");
        }
        let error = read(b"SFATAL\0VFATAL\0C57P01\0Mgone\xff\0P7\0\0").unwrap();
        assert!(error.fatal);
        assert_eq!((error.sql.sqlstate.as_str(), error.sql.position), ("57P01", 7));
    }
}
