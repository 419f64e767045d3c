//! Many calls over one stream (`votum.v1.Calls`): what the two ends of it share, and the serving end.

mod serve;

use tonic::{Code, Status};

pub use self::serve::{Answer, CallsService, Handler, Line, Part};
use crate::error;
use crate::v1;

/// The longest call to an agent: a statement with its parameters, in bytes.
pub const MAX_STATEMENT: usize = 16 << 20;
/// The longest call to a coordinator, in bytes.
pub const MAX_REQUEST: usize = 4 << 20;
/// The longest reply, or part of one, in bytes: one row, or the list of its columns.
pub const MAX_REPLY: usize = 64 << 20;
/// A frame takes no more in once it has this many bytes: what waits behind it goes out sooner. Only a single
/// call or reply that is larger makes a larger frame.
pub const FRAME_BYTES: usize = 64 << 10;
/// What a frame has at most beyond its last call or reply, in bytes: what came before that, and heads.
pub const FRAME_MARGIN: usize = FRAME_BYTES + 1024;
/// How many calls of one stream may be unanswered before the server reads no further.
pub const MAX_UNANSWERED: usize = 16_384;

impl v1::CallError {
    /// What travels of a status.
    pub fn of(status: &Status) -> Self {
        Self {
            code: status.code().into(),
            message: status.message().to_owned(),
            detail: error::detail(status),
        }
    }

    /// The status that the method itself would have ended with.
    pub fn into_status(self) -> Status {
        let code = Code::from(self.code);
        match self.detail {
            Some(detail) => error::status(code, self.message, &detail),
            None => Status::new(code, self.message),
        }
    }
}
