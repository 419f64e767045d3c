//! What an application uses to run one transaction over several PostgreSQL databases: all of it happens, or
//! none.
//!
//! ```no_run
//! use votum_client::{Outcome, Votum};
//!
//! # async fn example() -> Result<(), votum_client::Error> {
//! let votum = Votum::connect("http://127.0.0.1:7400").await?;
//! let tx = votum.begin().await?;
//! let sql = "UPDATE account SET balance = balance + $1 WHERE id = $2";
//! tx.execute("bank_a", sql, &[(-5).into(), 1.into()]).await?;
//! tx.execute("bank_b", sql, &[5.into(), 1.into()]).await?;
//! match tx.commit().await? {
//!     Outcome::Committed(_) | Outcome::ReadOnly => println!("moved"),
//!     Outcome::Aborted(abort) => println!("nothing happened: {abort}"),
//!     Outcome::Unknown { gtid, .. } => println!("ask again about {gtid}"),
//! }
//! # Ok(()) }
//! ```
//!
//! [`Votum`] holds the connections, to the coordinator and to the agents beside the databases; clone it
//! freely. [`Votum::begin`] opens a [`Transaction`]; [`Votum::run`] runs one again after a serialization
//! failure or a deadlock. Statements at different participants may run at the same time. Where an application has a
//! connection of its own to a database, it may work there by itself: [`Begin::attach`]. The feature `tokio-postgres`
//! prepares that for it.
//!
//! What breaks on the way is repeated inside, and only where that is safe: a statement is sent again under
//! its own ordinal, which the agent answers from memory; it is never run a second time. A Commit is repeated
//! until its outcome is known or [`Options::outcome_budget`] has passed: then the outcome is
//! [`Outcome::Unknown`], and the transaction may have committed.
//!
//! A tokio runtime must run around everything, also where a [`Transaction`] is dropped without a commit: its
//! rollback is sent in the background.
//!
//! With the feature `embedded`, coordinator and agents can live in the application's own process instead:
//! `Votum::embedded`, in the module `embedded`.

mod attached;
mod begin;
mod branch;
mod calls;
mod channels;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod export;
mod one_shot;
mod outcome;
mod retry;
mod row;
mod spares;
mod transaction;
mod value;
mod votum;

pub use attached::Attached;
pub use begin::{Begin, Isolation, Ran};
pub use error::{Error, Refusal, SqlError};
pub use export::Export;
pub use one_shot::{FailedStatement, OneShot, StatementResult, Transacted};
pub use outcome::{Abort, AbortKind, Committed, Found, HeuristicBranch, HeuristicKind, Outcome, Status};
pub use row::{Column, ColumnIndex, Row};
pub use transaction::Transaction;
pub use value::{FromValue, Value};
pub use votum::{Options, Votum, Wait};
#[doc(no_inline)]
pub use votum_proto::runtime::Seams;

#[cfg(test)]
mod tests;
