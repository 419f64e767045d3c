//! What a session says to the server before it waits for an answer.

use std::error::Error;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};

use crate::postgres::values::Parameter;

/// A request that has no form on the wire: a text with a zero byte, more than 65,535 parameters, 2 GiB.
pub(in crate::postgres) struct Unsendable(pub(in crate::postgres) Box<dyn Error + Send + Sync>);

impl From<std::io::Error> for Unsendable {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

impl From<BindError> for Unsendable {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Conversion(error) => Self(error),
            BindError::Serialization(error) => Self(error.into()),
        }
    }
}

/// How long most trips are at most, in bytes.
const USUAL: usize = 1 << 10;

/// In which form a command's rows are wanted.
#[derive(Clone, Copy)]
pub(in crate::postgres) enum Form {
    Text = 0,
    Binary = 1,
}

/// The messages of one trip, in the order in which they are carried out. The last is a Sync, which whoever
/// sends the trip puts behind it.
pub(in crate::postgres) struct Trip {
    pub(super) bytes: BytesMut,
}

impl Default for Trip {
    fn default() -> Self {
        Self { bytes: BytesMut::with_capacity(USUAL) }
    }
}

impl Trip {
    /// How many bytes it has.
    #[cfg(test)]
    pub(in crate::postgres) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has the server parse a statement under a name; the empty name is taken over by the next one.
    pub(in crate::postgres) fn parse(
        &mut self,
        name: &str,
        text: &str,
        types: &[u32],
    ) -> Result<(), Unsendable> {
        Ok(frontend::parse(name, text, types.iter().copied(), &mut self.bytes)?)
    }

    /// Asks for the parameters and columns of a statement.
    pub(in crate::postgres) fn describe_statement(&mut self, name: &str) -> Result<(), Unsendable> {
        Ok(frontend::describe(b'S', name, &mut self.bytes)?)
    }

    /// Forgets a statement. It need not exist.
    pub(in crate::postgres) fn close_statement(&mut self, name: &str) -> Result<(), Unsendable> {
        Ok(frontend::close(b'S', name, &mut self.bytes)?)
    }

    /// Gives a parsed statement its parameters.
    pub(in crate::postgres) fn bind(
        &mut self,
        name: &str,
        parameters: &[Parameter<'_>],
        rows: Form,
    ) -> Result<(), Unsendable> {
        let formats = parameters.iter().map(|parameter| parameter.form() as i16);
        let write = |parameter: &Parameter<'_>, out: &mut BytesMut| {
            Ok(if parameter.write(out) { IsNull::No } else { IsNull::Yes })
        };
        Ok(frontend::bind("", name, formats, parameters, write, [rows as i16], &mut self.bytes)?)
    }

    /// As `bind`, with one text for parameters that an own statement has.
    pub(in crate::postgres) fn bind_own(
        &mut self,
        name: &str,
        parameter: Option<&str>,
        rows: Form,
    ) -> Result<(), Unsendable> {
        let write = |text: &str, out: &mut BytesMut| {
            out.extend_from_slice(text.as_bytes());
            Ok(IsNull::No)
        };
        Ok(frontend::bind("", name, [Form::Text as i16], parameter, write, [rows as i16], &mut self.bytes)?)
    }

    /// Asks for the columns of what was just bound.
    pub(in crate::postgres) fn describe_bound(&mut self) -> Result<(), Unsendable> {
        Ok(frontend::describe(b'P', "", &mut self.bytes)?)
    }

    /// Runs what was just bound, to its end.
    pub(in crate::postgres) fn execute(&mut self) -> Result<(), Unsendable> {
        Ok(frontend::execute("", 0, &mut self.bytes)?)
    }
}
