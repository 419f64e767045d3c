//! Prepared transactions of anyone, as preflight sees them on a real server: what they hold back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use votum_participant::postgres::preflight::{Finding, Severity, examine, judge};
use votum_participant::postgres::witness::installation;
use votum_participant::{AgentConfig, ParticipantConfig};
use votum_proto::runtime::Seams;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server};

const OURS: &str = "votum_acme_7_3f9ac2_1042_0_2";

struct Bank {
    server: Server,
    config: AgentConfig,
}

impl Bank {
    async fn new() -> Self {
        // The least that there is, so that a transaction is old after some thousand others.
        let settings = vec![("autovacuum_freeze_max_age".to_owned(), "100000".to_owned())];
        let server = Server::start(Options { settings, ..Options::default() }).await.unwrap();
        server.create_database("bank").await.unwrap();
        let table =
            "CREATE TABLE account (id int PRIMARY KEY, balance bigint); INSERT INTO account VALUES (1, 100)";
        server.client_as("bank", ROLE).await.unwrap().batch_execute(table).await.unwrap();
        let superuser = server.client("bank").await.unwrap();
        superuser.batch_execute(&installation(ROLE)).await.unwrap();
        superuser.batch_execute("ALTER ROLE votum IN DATABASE bank SET search_path = public").await.unwrap();
        let participant = ParticipantConfig::new("bank".parse().unwrap(), server.connection("bank", ROLE));
        Self { config: AgentConfig::embedded(vec![participant]), server }
    }

    async fn prepare(&self, role: &str, gid: &str) {
        let gid = gid.replace('\'', "''");
        let work = format!("BEGIN; UPDATE account SET balance = 1; PREPARE TRANSACTION '{gid}'");
        self.server.client_as("bank", role).await.unwrap().batch_execute(&work).await.unwrap();
    }

    /// Assigns so many transaction ids.
    async fn age(&self, by: u32) {
        let assign = format!(
            "DO $$ BEGIN FOR i IN 1..{by} LOOP BEGIN INSERT INTO account VALUES (-i, 0); DELETE FROM account \
             WHERE id = -i; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
        );
        self.server.client_as("bank", ROLE).await.unwrap().batch_execute(&assign).await.unwrap();
    }

    async fn look(&self) -> Vec<Finding> {
        judge(&examine(&self.config, "agent.toml", &Seams::production()).await.unwrap(), None)
    }

    async fn only(&self) -> Finding {
        let findings = self.look().await;
        <[Finding; 1]>::try_from(findings).map(|[finding]| finding).unwrap_or_else(|all| panic!("{all:#?}"))
    }

    async fn superuser(&self, statement: &str) {
        self.server.client("bank").await.unwrap().batch_execute(statement).await.unwrap();
    }

    /// Looks while a session waits for what is prepared.
    async fn while_waited_for(&self) -> Finding {
        let waiter = self.server.client_as("bank", ROLE).await.unwrap();
        let pid: i32 = waiter.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let waiting = waiter.batch_execute("UPDATE account SET balance = 2 WHERE id = 1");
        let looking = async {
            let found = eventually("somebody waits for it", async || {
                let finding = self.only().await;
                let waits = finding.seen.contains("1 session waits for it");
                Ok(if waits { Found::Yes(finding) } else { Found::NotYet(finding.seen) })
            });
            let found = found.await;
            let cancel = format!("SELECT pg_cancel_backend({pid})");
            self.superuser(&cancel).await;
            found.unwrap()
        };
        let (waited, found) = futures::future::join(waiting, looking).await;
        waited.expect_err("the row was free");
        found
    }
}

#[tokio::test]
async fn what_others_prepared_is_shown_with_what_it_holds_back_until_it_is_ended() {
    let bank = Bank::new().await;
    bank.prepare("postgres", "it's theirs").await;
    let finding = bank.only().await;
    assert_eq!((finding.code, finding.severity), ("VOTUM-2231", Severity::Note));
    assert!(finding.seen.contains("keeps public.account (RowExclusiveLock) locked"), "{finding:?}");
    assert_eq!(bank.while_waited_for().await.severity, Severity::Warning);
    assert_eq!(bank.only().await.severity, Severity::Note);
    bank.age(10_000).await;
    assert_eq!(bank.only().await.severity, Severity::Warning);
    bank.age(90_000).await;
    let finding = bank.only().await;
    assert_eq!(finding.severity, Severity::Error, "{finding:?}");
    let held: u64 = finding
        .seen
        .split("holds back vacuum by ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(held >= 100_000, "{finding:?}");

    assert_eq!(finding.remedy.lines, ["ROLLBACK PREPARED 'it''s theirs'"]);
    bank.superuser(&finding.remedy.lines[0]).await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn whatever_a_name_holds_it_is_shown_harmless_and_ended_by_the_statement_shown() {
    let bank = Bank::new().await;
    bank.superuser(r"BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION E'a\\b \u001b[2J'").await;
    let finding = bank.only().await;
    assert!(!format!("{finding}").contains('\x1b'), "{finding:?}");
    bank.superuser(&finding.remedy.lines[0]).await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn a_branch_is_left_to_its_coordinator_and_found_where_it_stays() {
    let bank = Bank::new().await;
    bank.prepare(ROLE, OURS).await;
    assert_eq!(bank.look().await, [], "a branch that is prepared is no news");
    let finding = bank.while_waited_for().await;
    assert_eq!((finding.code, finding.severity), ("VOTUM-2232", Severity::Note));
    bank.age(10_000).await;
    let finding = bank.only().await;
    assert_eq!((finding.code, finding.severity), ("VOTUM-2232", Severity::Warning));
    assert_eq!(finding.remedy.lines, ["votumctl in-doubt --participant bank"]);
    bank.superuser(&format!("COMMIT PREPARED '{OURS}'")).await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn a_branch_that_the_agent_may_not_end_is_found_and_ended_by_the_statement_shown() {
    let bank = Bank::new().await;
    bank.prepare("postgres", OURS).await;
    let finding = bank.only().await;
    assert_eq!((finding.code, finding.severity), ("VOTUM-2233", Severity::Warning));
    let agent = bank.server.client_as("bank", ROLE).await.unwrap();
    let refused = agent.batch_execute(&finding.remedy.lines[0]).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "the finding is not true");
    bank.superuser(&finding.remedy.lines[0]).await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn what_is_prepared_in_a_database_that_is_no_participants_is_found_too() {
    let bank = Bank::new().await;
    let work = "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'elsewhere'";
    bank.server.client("postgres").await.unwrap().batch_execute(work).await.unwrap();
    let finding = bank.only().await;
    assert_eq!(finding.code, "VOTUM-2231");
    assert!(finding.seen.contains("prepared in postgres") && finding.remedy.advice.contains("that database"));
    let there = bank.server.client("postgres").await.unwrap();
    there.batch_execute(&finding.remedy.lines[0]).await.unwrap();
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn looking_changes_nothing_in_the_database_and_assigns_no_transaction_id() {
    let settings = vec![("autovacuum".to_owned(), "off".to_owned())];
    let server = Server::start(Options { settings, ..Options::default() }).await.unwrap();
    server.create_database("bank").await.unwrap();
    let config = AgentConfig::embedded(vec![ParticipantConfig::new(
        "bank".parse().unwrap(),
        server.connection("bank", ROLE),
    )]);
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    let superuser = server.client("bank").await.unwrap();
    superuser.batch_execute(&installation(ROLE)).await.unwrap();
    superuser.batch_execute("ALTER ROLE votum IN DATABASE bank SET search_path = public").await.unwrap();
    let before: String = superuser.query_one(next, &[]).await.unwrap().get(0);
    let findings = judge(&examine(&config, "agent.toml", &Seams::production()).await.unwrap(), None);
    assert_eq!(findings, []);
    let after: String = superuser.query_one(next, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    let prepared = "SELECT count(*) FROM pg_prepared_xacts";
    assert_eq!(superuser.query_one(prepared, &[]).await.unwrap().get::<_, i64>(0), 0);
}
