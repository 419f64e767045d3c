//! The coordinator alone: callers and agents of the benchmark's own at the driver's interface, in one process,
//! with the real log forced on a real disk. No network, no database.

mod agents;
mod arguments;
mod callers;
mod history;
mod place;
mod report;
mod resident;
mod steady;
mod undelivered;

pub(crate) use self::arguments::Alone;

/// Measures what was asked for, and prints it.
///
/// # Errors
/// When something does not work, or a transaction ended otherwise than its agents voted.
pub(crate) async fn measure(arguments: &Alone) -> anyhow::Result<()> {
    if let Some(transactions) = arguments.behind {
        return history::measure(arguments, transactions).await;
    }
    match arguments.undelivered {
        Some(transactions) => undelivered::measure(arguments, transactions).await,
        None => steady::measure(arguments).await,
    }
}
