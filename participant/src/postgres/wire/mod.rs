//! The wire of hosted sessions: PostgreSQL's protocol, spoken from within the session's own future.
//!
//! A branch runs few short statements, and what they cost beside the server's own work is the number of
//! times that somebody is woken. So a session writes all that it has to say as one *trip*, which ends in one
//! Sync, and reads the answers itself: no task stands between it and its socket, and the server sends once.
//!
//! Two rules of the protocol carry everything that is built on this:
//!
//! * The server answers in order, so that the n-th completion belongs to the n-th command of the trip.
//! * After an error it skips everything up to the Sync. What stands behind a command in a trip runs only if
//!   that command succeeded: no statement without its BEGIN, no reset before its PREPARE.
//!
//! Opening a connection, with TLS and passwords, stays the driver's business ([`handover`]). What a server
//! says is never trusted to have the right form: what cannot be read gives up the connection, and nobody
//! guesses from it what happened.

mod handover;
mod link;
mod refusal;
mod signs;
mod socket;
mod trip;

pub(super) use handover::{NotOpened, Opened, cancel, open};
pub(super) use link::{ENCODING, Failed, Link, Lost, Reply, Tag, Transaction};
pub(super) use refusal::Refusal;
pub(super) use signs::Signs;
use socket::Socket;
pub(super) use trip::{Form, Trip, Unsendable};
