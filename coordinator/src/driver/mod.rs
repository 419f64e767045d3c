//! The only owner of live transactions: feeds events to the protocol, carries out its effects.

pub mod request;
