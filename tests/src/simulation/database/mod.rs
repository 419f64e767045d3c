//! A database as an agent sees one, behaving as PostgreSQL does with two-phase commit.
//!
//! | file | what happens there |
//! |---|---|
//! | `server` | what is remembered, and what a crash or a failover takes away |
//! | `connection` | the way there and back, and the ways it breaks |
//! | `commands` | what a server process does, with PostgreSQL's errors |
//! | `one_phase` | commit markers, tombstones, and COMMIT |
//! | `statement` | the language of the statements |
//! | `session` | the agent's interface over all that |

mod commands;
mod connection;
mod one_phase;
mod server;
mod session;
mod statement;

pub use self::commands::end_prepared;
pub use self::connection::{Host, Manners, ROLE, SqlError};
pub use self::server::{Change, Ended, Holder, Lost, Prepared, Server, State, Wal};
pub use self::session::Behind;
pub use self::statement::Doing;
