//! The servers that a participant's connection string names, and which of them the agent works with: the
//! primary, of the database system that it began with, on the newest timeline that it has seen.
//!
//! No connection is kept that leads to another system, and with several hosts none that does not lead to the
//! primary. Where there is one host, the agent's own connections wait there for a standby to be promoted: what a
//! server says of itself is part of every answer, and judged there too.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_postgres::Config;
use votum_proto::runtime::Clock;

use super::connect::CONNECT_LIMIT;
use super::connection;
use super::hosted::no_answer;
use crate::database::{Aftermath, DatabaseError, Policy, ServerFacts};

/// How long opening a connection to one of several servers may take.
const HOST_LIMIT: Duration = Duration::from_secs(5);

/// The servers of one participant. Clones share what was learned of them.
#[derive(Clone)]
pub(super) struct Hosts {
    each: Vec<Arc<Config>>,
    learned: Arc<Learned>,
}

/// What was learned of the servers.
#[derive(Default)]
struct Learned {
    /// The system identifier of the first one that the agent worked with.
    system: OnceLock<u64>,
    /// The newest timeline that it worked on; 0 before that.
    timeline: AtomicU32,
    /// Which server is tried first: the last one that served, or the one behind the last that did not.
    first: AtomicUsize,
}

/// Where a connection leads: its timeline, or 0 where that was not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timeline(u32);

/// A server that was let in, or not asked.
pub(super) struct Reached<T> {
    pub(super) opened: T,
    pub(super) timeline: Timeline,
}

/// What the opening of a connection came to, and what the server says of itself; `None` where it was not asked.
pub(super) type Opening<T> = Result<(T, Option<ServerFacts>), DatabaseError>;

impl Hosts {
    /// Those of a connection string.
    pub(super) fn new(config: &Config) -> Self {
        let each = connection::each_host(config).into_iter().map(Arc::new).collect();
        Self { each, learned: Arc::default() }
    }

    /// Whether the connection string names more than one.
    pub(super) fn are_several(&self) -> bool {
        self.each.len() > 1
    }

    /// Has connections call themselves `name`.
    pub(super) fn call(&mut self, name: &str) {
        for config in &mut self.each {
            Arc::make_mut(config).application_name(name);
        }
    }

    /// Has sessions begin with `role`, written as an option of a connection is.
    pub(super) fn take_the_part_of(&mut self, role: &str) {
        for config in &mut self.each {
            let config = Arc::make_mut(config);
            let own = config.get_options().map_or_else(String::new, |own| format!("{own} "));
            config.options(format!("{own}-c role={role}"));
        }
    }

    /// Whether nothing newer was seen than the server to which a connection leads.
    pub(super) fn is_current(&self, timeline: Timeline) -> bool {
        !self.are_several() || timeline.0 == 0 || timeline.0 >= self.learned.timeline.load(Ordering::Acquire)
    }

    /// Opens a connection to the server that the agent is to work with, in bounded time for each that is tried.
    pub(super) async fn reach<'a, T>(
        &self,
        clock: &dyn Clock,
        open: impl Fn(Arc<Config>) -> BoxFuture<'a, Opening<T>>,
    ) -> Result<Reached<T>, DatabaseError> {
        let limit = if self.are_several() { HOST_LIMIT } else { CONNECT_LIMIT };
        let begin = self.learned.first.load(Ordering::Relaxed);
        let mut refused = Vec::new();
        // Before anything is known of them all are asked: one may be a former primary that nobody has stopped.
        let is_new = self.are_several() && self.learned.timeline.load(Ordering::Acquire) == 0;
        let mut newest: Option<(usize, Reached<T>)> = None;
        for place in (begin..).take(self.each.len()).map(|place| place % self.each.len()) {
            let Some(config) = self.each.get(place) else { break };
            // Whoever gives up meanwhile goes on behind this one the next time.
            self.learned.first.store((place + 1) % self.each.len(), Ordering::Relaxed);
            let opened = match clock.timeout(limit, open(Arc::clone(config))).await {
                Ok(opened) => opened.and_then(|(opened, facts)| {
                    let timeline = facts.map_or(Ok(Timeline::default()), |facts| self.judge(&facts))?;
                    Ok(Reached { opened, timeline })
                }),
                Err(_) => Err(no_answer(limit)),
            };
            match opened {
                Ok(reached) if is_new => {
                    let newer =
                        newest.as_ref().is_none_or(|(_, known)| reached.timeline.0 > known.timeline.0);
                    if newer {
                        newest = Some((place, reached));
                    }
                }
                Ok(reached) => {
                    self.learned.first.store(place, Ordering::Relaxed);
                    return Ok(reached);
                }
                Err(error) => refused.push((connection::address(config), error)),
            }
        }
        let Some((place, reached)) = newest else { return Err(none_serves(refused)) };
        self.learned.first.store(place, Ordering::Relaxed);
        Ok(reached)
    }

    /// Holds what a server says of itself against what is known of the participant (R11).
    fn judge(&self, facts: &ServerFacts) -> Result<Timeline, DatabaseError> {
        if facts.in_recovery {
            return Err(refused(
                Policy::Retry,
                "the server is in recovery: it is a standby, or still replaying".into(),
            ));
        }
        let known = *self.learned.system.get_or_init(|| facts.system_identifier);
        if known != facts.system_identifier {
            return Err(refused(
                Policy::Refuse,
                format!(
                    "the server is another one: its system identifier is {}, and this agent began with {known}; \
                     correct the connection, or restart the agent if the database has been moved there",
                    facts.system_identifier
                ),
            ));
        }
        let newest = self.learned.timeline.fetch_max(facts.timeline, Ordering::AcqRel);
        if self.are_several() && facts.timeline < newest {
            return Err(refused(
                Policy::Refuse,
                format!(
                    "the server is on timeline {}, and this agent has worked on timeline {newest}: it is a former \
                     primary, and has to be stopped, or made a standby; restart the agent if a backup was \
                     restored there",
                    facts.timeline
                ),
            ));
        }
        Ok(Timeline(facts.timeline))
    }
}

/// The servers' refusals as one. A person is needed as soon as one of them needs a person.
fn none_serves(mut refused: Vec<(String, DatabaseError)>) -> DatabaseError {
    if refused.len() == 1
        && let Some((_, only)) = refused.pop()
    {
        return only;
    }
    let alarming = refused.iter().map(|(_, error)| error.policy).find(|policy| policy.alarms());
    let reasons: Vec<String> = refused.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    self::refused(
        alarming.unwrap_or(Policy::Retry),
        format!("none of the servers is the participant's primary: {}", reasons.join("; ")),
    )
}

fn refused(policy: Policy, message: String) -> DatabaseError {
    DatabaseError {
        policy,
        aftermath: Aftermath::Broken,
        sqlstate: String::new(),
        message,
        retryable: true,
        sql: None,
    }
}

#[cfg(test)]
mod tests {
    use votum_proto::runtime::Seams;

    use super::*;

    const STANDBY: ServerFacts = ServerFacts { system_identifier: 7, timeline: 0, in_recovery: true };

    fn primary(timeline: u32) -> ServerFacts {
        ServerFacts { system_identifier: 7, timeline, in_recovery: false }
    }

    /// Who is reached, as the servers `a`, `b`, … answer; `None` is not there.
    async fn reach(hosts: &Hosts, answers: &[Option<ServerFacts>]) -> Result<String, DatabaseError> {
        let clock = Seams::production().clock;
        let open = |config: Arc<Config>| -> BoxFuture<'_, Opening<String>> {
            let name = connection::address(&config);
            let place = usize::from(name.as_bytes()[0] - b'a');
            let answer = match answers[place] {
                Some(facts) => Ok((name, Some(facts))),
                None => Err(refused(Policy::Retry, "it is not there".into())),
            };
            Box::pin(std::future::ready(answer))
        };
        hosts.reach(&*clock, open).await.map(|reached| reached.opened)
    }

    fn hosts(connection: &str) -> Hosts {
        Hosts::new(&connection.parse().unwrap())
    }

    #[tokio::test]
    async fn the_primary_is_reached_wherever_it_stands_and_tried_first_from_then_on() {
        let hosts = hosts("host=a,b,c user=u dbname=d port=1,2,3");
        assert_eq!(reach(&hosts, &[None, Some(STANDBY), Some(primary(1))]).await.unwrap(), "c:3");
        // Another one that serves, too: who serves is kept.
        assert_eq!(reach(&hosts, &[Some(primary(1)), None, Some(primary(1))]).await.unwrap(), "c:3");
        assert_eq!(reach(&hosts, &[Some(STANDBY), Some(primary(2)), None]).await.unwrap(), "b:2");
    }

    /// One that stands first may be a former primary that nobody has stopped.
    #[tokio::test]
    async fn an_agent_that_knows_nothing_yet_takes_the_newest_timeline() {
        for (answers, expected) in [
            ([Some(primary(1)), Some(primary(2)), Some(STANDBY)], "b:5432"),
            ([Some(primary(3)), Some(primary(2)), None], "a:5432"),
            ([Some(STANDBY), Some(primary(1)), Some(primary(2))], "c:5432"),
        ] {
            let hosts = hosts("host=a,b,c user=u dbname=d");
            assert_eq!(reach(&hosts, &answers).await.unwrap(), expected);
            assert_eq!(reach(&hosts, &answers).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn who_does_not_serve_is_named_with_the_reason() {
        let hosts = hosts("host=a,b,c user=u dbname=d");
        assert!(reach(&hosts, &[Some(primary(3)), None, None]).await.is_ok());
        let stranger = ServerFacts { system_identifier: 8, ..primary(9) };
        let error = reach(&hosts, &[Some(STANDBY), Some(stranger), Some(primary(2))]).await.unwrap_err();
        for part in [
            "a:5432: the server is in recovery",
            "b:5432: the server is another one",
            "c:5432: the server is on timeline 2",
        ] {
            assert!(error.message.contains(part), "{part} is not in: {error}");
        }
        assert_eq!(error.policy, Policy::Refuse);
        let error = reach(&hosts, &[Some(STANDBY), None, None]).await.unwrap_err();
        assert_eq!(error.policy, Policy::Retry, "a failover under way needs nobody");
    }

    #[tokio::test]
    async fn connections_to_a_former_primary_serve_nobody_once_the_newer_one_was_seen() {
        let clock = Seams::production().clock;
        let open = |timeline: u32| {
            move |_| -> BoxFuture<'static, Opening<()>> {
                Box::pin(std::future::ready(Ok(((), Some(primary(timeline))))))
            }
        };
        for (connection, current) in [("host=a,b user=u dbname=d", false), ("host=a user=u dbname=d", true)] {
            let hosts = hosts(connection);
            let old = hosts.reach(&*clock, open(1)).await.ok().unwrap().timeline;
            assert!(hosts.is_current(old));
            assert!(hosts.reach(&*clock, open(2)).await.is_ok());
            assert_eq!(hosts.is_current(old), current, "{connection}");
        }
    }

    #[tokio::test]
    async fn whoever_gave_up_at_a_silent_server_begins_behind_it_the_next_time() {
        let hosts = hosts("host=a,b user=u dbname=d");
        let clock = Seams::production().clock;
        let silent = |_| -> BoxFuture<'static, Opening<String>> { Box::pin(std::future::pending()) };
        let waiting = Box::pin(hosts.reach(&*clock, silent));
        assert!(futures::poll!(waiting).is_pending());
        assert_eq!(hosts.learned.first.load(Ordering::Relaxed), 1);
    }
}
