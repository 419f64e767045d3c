//! The shapes in which an application can have Votum carry out a transaction.
//!
//! This is the one place to add another: a file beside `hosted.rs` that implements [`Way`] and its
//! [`Carrier`](crate::carrier::Carrier), and below a variant, its name and its arm in [`Shape::open`].

mod hosted;

use std::fmt;

use clap::ValueEnum;

use crate::arguments::Wait;
use crate::carrier::{Setting, Way};

/// In which shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Shape {
    /// The agents run the statements: Begin, a statement at every bank at once, Commit.
    Hosted,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hosted => "hosted",
        })
    }
}

impl Shape {
    /// Its way, with commits that wait for `wait`.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub(crate) async fn open(self, setting: &Setting, wait: Wait) -> anyhow::Result<Box<dyn Way>> {
        Ok(match self {
            Self::Hosted => Box::new(hosted::Hosted::connect(setting, wait).await?),
        })
    }
}
