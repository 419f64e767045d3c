//! Waiting for events on real servers: asked again and again, at most for [`DEADLINE`].

use std::time::Duration;

use anyhow::Context as _;
use votum_proto::runtime::Seams;

/// How long a test waits for what must happen. It bounds a failure; no test rests on it being short.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// What a question found.
pub enum Found<T> {
    /// It happened.
    Yes(T),
    /// Not yet: what is seen instead, for the message if it never happens.
    NotYet(String),
}

/// Asks until the answer is `Yes`.
///
/// # Errors
/// The question's own error at once; past [`DEADLINE`] a sentence with `what`, and what was seen last.
pub async fn eventually<T>(
    what: &str,
    question: impl AsyncFnMut() -> anyhow::Result<Found<T>>,
) -> anyhow::Result<T> {
    within(DEADLINE, what, question).await
}

/// As [`eventually`], with a bound of its own.
///
/// # Errors
/// As [`eventually`].
pub async fn within<T>(
    limit: Duration,
    what: &str,
    mut question: impl AsyncFnMut() -> anyhow::Result<Found<T>>,
) -> anyhow::Result<T> {
    let clock = Seams::production().clock;
    let begun = clock.now();
    let mut seen = String::from("no answer at all");
    loop {
        let left = limit.saturating_sub(clock.now().since(begun));
        // A question that hangs must not outlast the deadline either.
        let Ok(answer) = clock.timeout(left, question()).await else { break };
        match answer.with_context(|| format!("while waiting until {what}"))? {
            Found::Yes(value) => return Ok(value),
            Found::NotYet(instead) => seen = instead,
        }
        // One that never waits is answered however little time is left.
        if left.is_zero() {
            break;
        }
        clock.sleep(PAUSE).await;
    }
    anyhow::bail!("waited {limit:?} until {what}; seen last: {seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_is_answered_at_once_ends_at_the_deadline_too() {
        let mut asked = 0;
        let waiting = within(Duration::from_millis(50), "it happens", async || {
            asked += 1;
            anyhow::ensure!(asked < 1000, "asked on and on");
            Ok::<_, anyhow::Error>(Found::<()>::NotYet("nothing".into()))
        });
        let complaint = waiting.await.unwrap_err().to_string();
        assert_eq!(complaint, "waited 50ms until it happens; seen last: nothing");
    }
}
