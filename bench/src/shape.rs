//! The shapes in which an application can have Votum carry out a transaction.
//!
//! This is the one place to add another: a file beside `hosted.rs` that implements [`Way`] and its
//! [`Carrier`](crate::carrier::Carrier), and below a variant, its name and its arm in [`Shape::open`].

mod attached;
mod embedded;
mod hosted;
mod one_shot;

use std::fmt;

use clap::ValueEnum;
use votum_client::Votum;

use crate::arguments::Wait;
use crate::carrier::{Setting, Way};

/// In which shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Shape {
    /// The agents run the statements: Begin, a statement at every bank at once, Commit.
    Hosted,
    /// The whole transaction goes to the coordinator in one request.
    OneShot,
    /// As one-shot, and the branch at the last bank decides by its own commit. That bank keeps commit markers then,
    /// for everybody who is measured in the same run.
    LastAgent,
    /// The workers do the statements and prepare on connections of their own: Begin, and Commit.
    Attached,
    /// As hosted, with coordinator and agents within the benchmark's process.
    EmbeddedHosted,
    /// As one-shot, with coordinator and agents within the benchmark's process.
    EmbeddedOneShot,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hosted => "hosted",
            Self::OneShot => "one-shot",
            Self::LastAgent => "last-agent",
            Self::Attached => "attached",
            Self::EmbeddedHosted => "emb-hosted",
            Self::EmbeddedOneShot => "emb-shot",
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
            Self::OneShot => Box::new(one_shot::InOneRequest::connect(setting, wait).await?),
            Self::LastAgent => {
                Box::new(one_shot::InOneRequest::connect(setting, wait).await?.with_last_agent())
            }
            Self::Attached => Box::new(attached::Attached::connect(setting, wait).await?),
            Self::EmbeddedHosted => Box::new(embedded::Embedded::hosted(setting, wait).await?),
            Self::EmbeddedOneShot => Box::new(embedded::Embedded::one_shot(setting, wait).await?),
        })
    }
}

/// A client of the coordinator, whose commits wait for `wait`.
async fn connect(setting: &Setting, wait: Wait) -> Result<Votum, votum_client::Error> {
    options(setting, wait).connect(&setting.coordinator).await
}

fn options(setting: &Setting, wait: Wait) -> votum_client::Options {
    let waits_for = match wait {
        Wait::Decided => votum_client::Wait::Decided,
        Wait::Completed => votum_client::Wait::Completed,
    };
    let options = Votum::options().client_name("votum-bench").wait(waits_for);
    match setting.patience {
        Some(patience) => options.retry_budget(patience),
        None => options,
    }
}
