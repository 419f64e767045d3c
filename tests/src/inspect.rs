//! A world looked at from outside, as an operator would: what is prepared, what the coordinator answers,
//! what its log lines say.

use anyhow::Context as _;
use tonic::transport::Channel;
use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::operator_client::OperatorClient;
use votum_proto::v1::outcome::Kind;

use crate::eventually::{Found, eventually};
use crate::postgres::ROLE;
use crate::teller::Leg;
use crate::world::{Bank, World};

/// What the agents' role needs at a bank whose tables are not its own.
const GRANT: &str = "GRANT ALL ON ALL TABLES IN SCHEMA public TO";

/// A branch that stands prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The participant.
    pub bank: String,
    /// Its name in `pg_prepared_xacts`.
    pub gid: String,
    /// Its transaction id, 32 bits.
    pub xid: String,
}

/// What the coordinator said once it had settled what earlier lives left (VOTUM-1001).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Branches committed.
    pub committed: u64,
    /// Branches rolled back.
    pub rolled_back: u64,
    /// The whole line.
    pub line: String,
}

impl World {
    /// A transfer that touches every bank and keeps the money: the first pays `amount` to each other.
    pub fn legs(&self, amount: i64) -> Vec<Leg<'_>> {
        let others = i64::try_from(self.banks.len()).unwrap_or(1) - 1;
        let pays = |place: usize| if place == 0 { -amount * others } else { amount };
        self.banks
            .iter()
            .enumerate()
            .map(|(place, bank)| Leg { bank: &bank.name, account: 1, amount: pays(place) })
            .collect()
    }

    /// Every branch of ours that is prepared at a bank whose server runs.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn prepared(&self) -> anyhow::Result<Vec<Prepared>> {
        let mut found = Vec::new();
        for bank in self.banks.iter().filter(|bank| bank.server.is_running()) {
            found.extend(bank.prepared().await?);
        }
        Ok(found)
    }

    /// Waits until exactly `count` branches of ours are prepared.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn until_prepared(&self, count: usize) -> anyhow::Result<Vec<Prepared>> {
        eventually(&format!("{count} branches are prepared"), async || {
            let found = self.prepared().await?;
            Ok(if found.len() == count { Found::Yes(found) } else { Found::NotYet(format!("{found:?}")) })
        })
        .await
    }

    /// Waits until nothing is prepared, and the coordinator waits for no answer either.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn until_idle(&self) -> anyhow::Result<()> {
        self.until_prepared(0).await?;
        let idle = |status: &v1::GetStatusResponse| status.in_flight == 0 && status.undelivered == 0;
        self.until_status("no transaction goes on", idle).await.map(drop)
    }

    /// Waits until the coordinator's status satisfies `holds`.
    ///
    /// # Errors
    /// When it does not in time: with the last status and the end of the coordinator's log.
    pub async fn until_status(
        &self,
        what: &str,
        holds: impl Fn(&v1::GetStatusResponse) -> bool,
    ) -> anyhow::Result<v1::GetStatusResponse> {
        eventually(what, async || match self.status().await {
            Ok(status) if holds(&status) => Ok(Found::Yes(status)),
            Ok(status) => Ok(Found::NotYet(format!("{status:?}\n{}", self.coordinator.log_tail()))),
            Err(error) => Ok(Found::NotYet(format!("{error:#}\n{}", self.coordinator.log_tail()))),
        })
        .await
    }

    /// Waits until an alarm with `code` lasts, and returns it.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn until_alarm(&self, code: &str) -> anyhow::Result<v1::Alarm> {
        let alarm =
            |status: &v1::GetStatusResponse| status.alarms.iter().find(|alarm| alarm.code == code).cloned();
        let status = self.until_status(&format!("alarm {code} is raised"), |s| alarm(s).is_some()).await?;
        alarm(&status).context("the alarm was there a moment ago")
    }

    /// Waits until no alarm with `code` lasts.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn until_no_alarm(&self, code: &str) -> anyhow::Result<()> {
        self.until_status(&format!("alarm {code} is over"), |s| s.alarms.iter().all(|a| a.code != code))
            .await
            .map(drop)
    }

    /// Starts the agent of bank `place` once more, after it was killed or killed itself, and waits until the
    /// coordinator has met the new one.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn restart_agent(&self, place: usize, crash_point: Option<&str>) -> anyhow::Result<()> {
        let bank = self.banks.get(place).context("no such bank")?;
        bank.agent.kill9()?;
        if self.coordinator.is_running()? {
            self.until_disconnected(&bank.name).await?;
        }
        bank.agent.start(crash_point)?;
        if self.coordinator.is_running()? {
            let connected = |status: &v1::GetStatusResponse| is_connected(status, &bank.name);
            self.until_status("the agent is connected again", connected).await?;
        }
        Ok(())
    }

    /// Waits until the coordinator has noticed that a participant's agent is gone.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_disconnected(&self, participant: &str) -> anyhow::Result<()> {
        let noticed = |status: &v1::GetStatusResponse| !is_connected(status, participant);
        self.until_status(&format!("the end of {participant}'s agent is noticed"), noticed).await.map(drop)
    }

    /// The lines VOTUM-1001 of all lives of the coordinator, oldest first.
    ///
    /// # Errors
    /// When its output cannot be read, or such a line is not of its form.
    pub fn settlements(&self) -> anyhow::Result<Vec<Settled>> {
        self.lines("VOTUM-1001")?.into_iter().map(read_settlement).collect()
    }

    /// The lines of the coordinator's output that contain `word`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lines(&self, word: &str) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(self.coordinator.log())?;
        Ok(text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect())
    }

    /// Starts the coordinator, which must not run, and waits for its line about what it has settled.
    ///
    /// # Errors
    /// When it does not come up, or never says so.
    pub async fn restart_and_settle(&self, crash_point: Option<&str>) -> anyhow::Result<Settled> {
        let before = self.settlements()?.len();
        self.start_coordinator(crash_point).await?;
        self.until_settled(before).await
    }

    /// Waits for the first line VOTUM-1001 after `before` of them.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until_settled(&self, before: usize) -> anyhow::Result<Settled> {
        eventually("the coordinator says what it has settled", async || {
            Ok(match self.settlements()?.into_iter().nth(before) {
                Some(settled) => Found::Yes(settled),
                None => Found::NotYet(self.coordinator.log_tail()),
            })
        })
        .await
    }

    /// What operators ask.
    ///
    /// # Errors
    /// When the address cannot be dialled.
    pub fn operator(&self) -> anyhow::Result<OperatorClient<Channel>> {
        Ok(OperatorClient::new(self.address().channel()?))
    }

    /// What became of a transaction: asked once, with the refusal as it came.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn ask(&self, gtid: &str) -> Result<Option<Kind>, tonic::Status> {
        let channel =
            self.address().channel().map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let by = Some(v1::get_transaction_request::By::Gtid(gtid.to_owned()));
        let answer =
            CoordinatorClient::new(channel).get_transaction(v1::GetTransactionRequest { by }).await?;
        Ok(answer.into_inner().outcome.and_then(|outcome| outcome.kind))
    }

    /// Waits until every branch of a committed transaction has been acknowledged.
    ///
    /// # Errors
    /// When it is not committed, or not completed in time.
    pub async fn until_completed(&self, gtid: &str) -> anyhow::Result<v1::Committed> {
        eventually(&format!("{gtid} is completed"), async || match self.ask(gtid).await {
            Ok(Some(Kind::Committed(committed))) if committed.completed => Ok(Found::Yes(committed)),
            Ok(Some(Kind::Aborted(aborted))) => anyhow::bail!("{gtid} is aborted: {aborted:?}"),
            other => Ok(Found::NotYet(format!("{other:?}\n{}", self.coordinator.log_tail()))),
        })
        .await
    }

    /// Waits until a transaction is committed, and `participant` alone owes its acknowledgement.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn until_pending(&self, gtid: &str, participant: &str) -> anyhow::Result<()> {
        eventually(&format!("only {participant} owes an acknowledgement of {gtid}"), async || {
            Ok(match self.ask(gtid).await {
                Ok(Some(Kind::Committed(committed))) if committed.pending == [participant] => Found::Yes(()),
                other => Found::NotYet(format!("{other:?}\n{}", self.coordinator.log_tail())),
            })
        })
        .await
    }
}

impl Bank {
    /// Every branch of ours that is prepared here.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn prepared(&self) -> anyhow::Result<Vec<Prepared>> {
        let ours = r"SELECT gid, transaction::text FROM pg_prepared_xacts
                      WHERE database = current_database() AND gid LIKE 'votum\_%' ORDER BY gid";
        let rows = self.client().await?.query(ours, &[]).await?;
        let prepared = |row: &tokio_postgres::Row| Prepared {
            bank: self.name.clone(),
            gid: row.get(0),
            xid: row.get(1),
        };
        Ok(rows.iter().map(prepared).collect())
    }

    /// Ends the one branch of ours that is prepared here, as an administrator may: `command` is COMMIT or
    /// ROLLBACK.
    ///
    /// # Errors
    /// When there is another number of them, or the server refuses.
    pub async fn end_by_hand(&self, command: &str) -> anyhow::Result<()> {
        let prepared = self.prepared().await?;
        let [branch] = prepared.as_slice() else { anyhow::bail!("not one branch: {prepared:?}") };
        self.by_hand(&format!("{command} PREPARED '{}'", branch.gid)).await
    }

    /// Has a superuser own what the agents' role owned. What is prepared keeps its tables locked: they cannot
    /// be given to another owner meanwhile.
    ///
    /// # Errors
    /// As PostgreSQL has it.
    pub async fn give_tables_away(&self) -> anyhow::Result<()> {
        self.by_hand(&format!("REASSIGN OWNED BY {ROLE} TO postgres; {GRANT} {ROLE}")).await
    }

    /// Drops the agents' role, and makes another one of its name: what the first one prepared is owned by
    /// nobody.
    ///
    /// # Errors
    /// As PostgreSQL has it.
    pub async fn replace_role(&self) -> anyhow::Result<()> {
        let make = format!("CREATE ROLE {ROLE} LOGIN; {GRANT} {ROLE}");
        self.by_hand(&format!("DROP OWNED BY {ROLE}; DROP ROLE {ROLE}; {make}")).await?;
        // Sessions of the role that is gone would still own what it owned.
        self.by_hand(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
    }

    /// Runs statements as a superuser: the hand of an administrator.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn by_hand(&self, sql: &str) -> anyhow::Result<()> {
        self.client()
            .await?
            .batch_execute(sql)
            .await
            .with_context(|| format!("by hand at {}: {sql}", self.name))
    }

    /// Makes the table for commit markers, as an administrator does by `votumctl install`.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn keep_markers(&self) -> anyhow::Result<()> {
        let role = crate::postgres::ROLE;
        self.by_hand(&votum_participant::postgres::marker::installation(role)).await?;
        // The role is called as the schema is, which would come first on its path.
        let path = format!("ALTER ROLE {role} IN DATABASE {} SET search_path = public", self.database);
        self.by_hand(&path).await
    }

    /// The result of a query for one number.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        Ok(self.client().await?.query_one(sql, &[]).await?.try_get(0)?)
    }
}

fn is_connected(status: &v1::GetStatusResponse, participant: &str) -> bool {
    status.participants.iter().any(|known| known.participant == participant && known.connected)
}

fn read_settlement(line: String) -> anyhow::Result<Settled> {
    let number = |after: &str| -> Option<u64> {
        let digits = line.split(after).nth(1)?;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let read = number("left: committed ").zip(number(", rolled back "));
    let (committed, rolled_back) = read.with_context(|| format!("not of its form: {line}"))?;
    Ok(Settled { committed, rolled_back, line })
}
