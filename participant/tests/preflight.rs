//! Every finding of preflight on a real server that shows it, and gone once it is mended by the remedy printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use votum_participant::postgres::preflight::{Finding, Place, Severity, examine, judge};
use votum_participant::postgres::{marker, witness::installation};
use votum_participant::{AgentConfig, ParticipantConfig};
use votum_proto::runtime::Seams;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, ROLE, Server, fresh_database, shared};

/// A participant on a real server.
struct Bank {
    server: Arc<Server>,
    database: String,
    role: String,
    config: AgentConfig,
}

impl Bank {
    /// On a server that other tests use too, in a database and as a role of its own.
    async fn on_shared() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let server = shared(0).await.unwrap();
        let role = format!("agent_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server
            .client("postgres")
            .await
            .unwrap()
            .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
            .await
            .unwrap();
        Self::on(server, &role).await
    }

    /// On a server that no other test uses, which can be set up by ALTER SYSTEM.
    async fn alone(settings: &[(&str, &str)]) -> Self {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let server = Server::start(Options { max_prepared_transactions: 0, settings }).await.unwrap();
        Self::on(Arc::new(server), ROLE).await
    }

    async fn on(server: Arc<Server>, role: &str) -> Self {
        let database = fresh_database(&server).await.unwrap();
        let superuser = server.client(&database).await.unwrap();
        superuser.batch_execute(&installation(role)).await.unwrap();
        // One of the roles is called as the schema is.
        let path = format!("ALTER ROLE {role} IN DATABASE {database} SET search_path = public");
        superuser.batch_execute(&path).await.unwrap();
        let participant = ParticipantConfig::new("bank".parse().unwrap(), server.connection(&database, role));
        let config = AgentConfig::embedded(vec![participant]);
        Self { server, database, role: role.to_owned(), config }
    }

    /// As a superuser, each statement by itself.
    async fn run(&self, statements: &[&str]) {
        let superuser = self.server.client(&self.database).await.unwrap();
        for statement in statements {
            let statement = statement.replace("{db}", &self.database).replace("{role}", &self.role);
            superuser
                .batch_execute(&statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }

    async fn restart(&self) {
        self.server.stop().await.unwrap();
        self.server.restart().await.unwrap();
    }

    async fn look(&self) -> Vec<Finding> {
        judge(&examine(&self.config, "agent.toml", &Seams::production()).await.unwrap(), None)
    }

    /// Waits for a finding, and for nothing else than it and those of `beside`.
    async fn until_found(&self, code: &str, severity: Severity, beside: &[&str]) -> Finding {
        let what = format!("{code} is found");
        let found = eventually(&what, async || {
            let findings = self.look().await;
            let others = findings.iter().filter(|f| f.code != code && !beside.contains(&f.code)).count();
            let found = findings.iter().find(|finding| finding.code == code && finding.severity == severity);
            Ok(match found {
                Some(found) if others == 0 => Found::Yes(found.clone()),
                Some(_) | None => Found::NotYet(format!("{findings:#?}")),
            })
        });
        found.await.unwrap()
    }

    async fn until_gone(&self, code: &str) {
        let what = format!("{code} is gone");
        let gone = eventually(&what, async || {
            let findings = self.look().await;
            let still = findings.iter().any(|finding| finding.code == code);
            Ok(if still { Found::NotYet(format!("{findings:#?}")) } else { Found::Yes(()) })
        });
        gone.await.unwrap();
    }

    /// Runs the statements of a remedy, and restarts the server where it says so.
    async fn mend(&self, finding: &Finding) {
        assert_eq!(finding.remedy.place, Place::Database, "{finding:?}");
        assert!(!finding.remedy.lines.is_empty(), "{finding:?}");
        let lines: Vec<&str> = finding.remedy.lines.iter().map(String::as_str).collect();
        self.run(&lines).await;
        if finding.remedy.advice.contains("restart the server") {
            self.restart().await;
        }
    }

    /// `broken` raises the finding, and its remedy alone takes it away.
    async fn raised_and_mended(&self, broken: &[&str], code: &str, severity: Severity, beside: &[&str]) {
        self.run(broken).await;
        let finding = self.until_found(code, severity, beside).await;
        self.mend(&finding).await;
        self.until_gone(code).await;
    }
}

#[tokio::test]
async fn a_sound_server_is_not_found_fault_with() {
    let bank = Bank::on_shared().await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn a_database_that_keeps_nothing_for_its_agent_is_told_of_and_mended_by_votumctl_install() {
    for broken in ["DROP SCHEMA votum CASCADE", "REVOKE USAGE ON SCHEMA votum FROM {role}"] {
        let bank = Bank::on_shared().await;
        bank.run(&[broken]).await;
        let finding = bank.until_found("VOTUM-2226", Severity::Note, &[]).await;
        assert_eq!(finding.remedy.place, Place::Shell);
        let (role, database) = (&bank.role, &bank.database);
        let install = format!("votumctl install --role '{role}' | psql --dbname '{database}'");
        assert_eq!(finding.remedy.lines, [install]);
        // What that command prints.
        bank.run(&[&installation(role)]).await;
        assert_eq!(bank.look().await, [], "{broken}");
    }
}

#[tokio::test]
async fn markers_that_the_role_may_not_keep_are_told_of_and_mended_by_votumctl_install() {
    let bank = Bank::on_shared().await;
    let markers = marker::installation(&bank.role);
    bank.run(&[&markers]).await;
    assert_eq!(bank.look().await, []);
    bank.run(&["REVOKE DELETE ON votum.marker FROM {role}"]).await;
    let finding = bank.until_found("VOTUM-2228", Severity::Warning, &[]).await;
    let (role, database) = (&bank.role, &bank.database);
    let install = format!("votumctl install --role '{role}' --commit-marker | psql --dbname '{database}'");
    assert_eq!(finding.remedy.lines, [install]);
    bank.run(&[&markers]).await;
    assert_eq!(bank.look().await, []);
}

/// As it is for a role that bears the schema's name.
#[tokio::test]
async fn a_search_path_with_the_schema_of_votum_on_it_is_told_of_and_mended() {
    let bank = Bank::on_shared().await;
    let broken = [
        "CREATE SCHEMA \"Odd one\"; GRANT USAGE ON SCHEMA \"Odd one\" TO {role}",
        "ALTER ROLE {role} IN DATABASE {db} SET search_path = votum, \"Odd one\", public",
    ];
    bank.raised_and_mended(&broken, "VOTUM-2227", Severity::Warning, &[]).await;
    let path: String = bank
        .server
        .client_as(&bank.database, &bank.role)
        .await
        .unwrap()
        .query_one("SHOW search_path", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(path, "\"Odd one\", public");
}

#[tokio::test]
async fn settings_of_a_role_are_found_wherever_they_were_set() {
    use Severity::{Error, Note, Warning};
    for (broken, code, severity) in [
        ("ALTER ROLE {role} SET default_transaction_read_only = on", "VOTUM-2214", Error),
        ("ALTER DATABASE {db} SET default_transaction_read_only = on", "VOTUM-2214", Error),
        ("ALTER ROLE {role} IN DATABASE {db} SET default_transaction_read_only = on", "VOTUM-2214", Error),
        ("ALTER ROLE {role} SET synchronous_commit = off", "VOTUM-2213", Warning),
        ("ALTER ROLE {role} IN DATABASE {db} SET idle_session_timeout = '5min'", "VOTUM-2215", Warning),
        ("ALTER DATABASE {db} SET lock_timeout = '5s'", "VOTUM-2218", Note),
    ] {
        let bank = Bank::on_shared().await;
        bank.raised_and_mended(&[broken], code, severity, &[]).await;
        assert_eq!(bank.look().await, [], "{broken}");
    }
}

#[tokio::test]
async fn a_timeout_of_whole_transactions_is_found_where_the_server_has_it() {
    let bank = Bank::on_shared().await;
    let superuser = bank.server.client("postgres").await.unwrap();
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    if superuser.query_one(version, &[]).await.unwrap().get::<_, i32>(0) < 17 {
        return;
    }
    let broken = ["ALTER ROLE {role} SET transaction_timeout = '5s'"];
    bank.raised_and_mended(&broken, "VOTUM-2216", Severity::Warning, &[]).await;
}

#[tokio::test]
async fn what_the_agents_own_connection_sets_is_mended_there() {
    let mut bank = Bank::on_shared().await;
    let connection = bank.config.participants[0].connection.clone();
    bank.config.participants[0].connection = format!("{connection} options='-c lock_timeout=5s'");
    let finding = bank.until_found("VOTUM-2218", Severity::Note, &[]).await;
    assert_eq!(finding.remedy.place, Place::AgentFile);
    let line = &finding.remedy.lines[0];
    bank.config.participants[0].connection = format!("{connection} options='-c lock_timeout=5s {line}'");
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn a_timeout_that_branches_do_not_heed_is_put_where_they_do() {
    for name in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        let mut bank = Bank::on_shared().await;
        bank.run(&[&format!("ALTER ROLE {{role}} SET {name} = '90s'")]).await;
        let finding = bank.until_found("VOTUM-2217", Severity::Note, &[]).await;
        assert_eq!(finding.remedy.lines, ["max_branch_timeout_ms = 90000"]);
        bank.config.max_branch_timeout_ms = 90_000;
        assert_eq!(bank.look().await, []);
    }
}

#[tokio::test]
async fn limits_of_connections_are_found_and_raised() {
    for broken in ["ALTER ROLE {role} CONNECTION LIMIT 38", "ALTER DATABASE {db} CONNECTION LIMIT 38"] {
        let bank = Bank::on_shared().await;
        bank.raised_and_mended(&[broken], "VOTUM-2209", Severity::Warning, &[]).await;
        assert_eq!(bank.look().await, [], "{broken}");
    }
}

#[tokio::test]
async fn what_the_role_is_denied_is_found_and_granted() {
    for broken in [
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_prepared_xact() FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_backend_pid() FROM PUBLIC",
        "REVOKE SELECT ON pg_prepared_xacts FROM PUBLIC",
        "REVOKE SELECT ON pg_settings FROM PUBLIC",
    ] {
        let bank = Bank::on_shared().await;
        // Since PostgreSQL 17 that function takes one more.
        let superuser = bank.server.client(&bank.database).await.unwrap();
        if let Err(error) = superuser.batch_execute(broken).await {
            assert_eq!(error.code().map(|code| code.code()), Some("42883"), "{error:?}");
            superuser
                .batch_execute("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text, boolean) FROM PUBLIC")
                .await
                .unwrap();
        }
        bank.raised_and_mended(&[], "VOTUM-2221", Severity::Error, &[]).await;
        assert_eq!(bank.look().await, [], "{broken}");
    }
}

#[tokio::test]
async fn a_role_that_works_as_another_is_given_what_it_needs_to_find_its_sessions() {
    let bank = Bank::on_shared().await;
    let broken = [
        "CREATE ROLE {role}_owner",
        "GRANT {role}_owner TO {role}",
        "ALTER ROLE {role} IN DATABASE {db} SET role = '{role}_owner'",
        &installation(&format!("{}_owner", bank.role)),
    ];
    bank.raised_and_mended(&broken, "VOTUM-2222", Severity::Error, &["VOTUM-2223"]).await;
    bank.raised_and_mended(&[], "VOTUM-2223", Severity::Warning, &[]).await;
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn a_superuser_is_no_agent() {
    let bank = Bank::on_shared().await;
    let broken = ["ALTER ROLE {role} SUPERUSER"];
    bank.raised_and_mended(&broken, "VOTUM-2224", Severity::Warning, &[]).await;
}

#[tokio::test]
async fn declared_roles_that_the_agent_cannot_become_are_found() {
    let mut bank = Bank::on_shared().await;
    let declared = format!("{} app", bank.role);
    bank.config.participants[0].attached_roles = vec![declared.clone()];
    bank.raised_and_mended(&[], "VOTUM-2225", Severity::Warning, &[]).await;
    let revoke = format!("REVOKE \"{declared}\" FROM {{role}}");
    bank.raised_and_mended(&[&revoke], "VOTUM-2225", Severity::Warning, &[]).await;
    let superuser = bank.server.client("postgres").await.unwrap();
    let without = format!("GRANT \"{declared}\" TO {} WITH SET FALSE", bank.role);
    if superuser.batch_execute(&without).await.is_ok() {
        bank.raised_and_mended(&[], "VOTUM-2225", Severity::Warning, &[]).await;
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_opens_the_door() {
    let bank = Bank::on_shared().await;
    let broken = ["REVOKE CONNECT ON DATABASE {db} FROM PUBLIC"];
    bank.raised_and_mended(&broken, "VOTUM-2201", Severity::Error, &[]).await;
    assert_eq!(bank.look().await, []);

    let mut bank = Bank::on_shared().await;
    bank.config.participants[0].connection =
        bank.server.connection("\"no such\"", &bank.role).replace('"', "'");
    let finding = bank.until_found("VOTUM-2201", Severity::Error, &[]).await;
    bank.mend(&finding).await;
    // A new database keeps nothing yet.
    let codes: Vec<&str> = bank.look().await.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["VOTUM-2226"]);
}

/// Writes a file beside the server, for its own user.
fn put(server: &Server, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let path = server.dir().join(name);
    std::fs::write(&path, content).unwrap();
    let owner = std::fs::metadata(server.dir()).unwrap();
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path
}

#[tokio::test]
async fn a_line_is_missing_that_lets_the_agent_in_and_its_password_is_not_shown() {
    const PASSWORD: &str = "correct horse battery staple";
    let mut bank = Bank::alone(&[("max_prepared_transactions", "64")]).await;
    let hba = bank.server.dir().join("data/pg_hba.conf");
    let before = std::fs::read_to_string(&hba).unwrap();
    let closed = format!("host all guarded 127.0.0.1/32 reject\n{before}");
    std::fs::write(&hba, &closed).unwrap();
    let create = format!("CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'");
    bank.run(&[&create, &installation("guarded"), "SELECT pg_reload_conf()"]).await;
    bank.config.participants[0] = ParticipantConfig {
        password_file: Some(put(&bank.server, "password", PASSWORD)),
        ..ParticipantConfig::new(
            "bank".parse().unwrap(),
            format!("host=127.0.0.1 port={} user=guarded dbname={}", bank.server.port(), bank.database),
        )
    };
    let finding = bank.until_found("VOTUM-2201", Severity::Error, &[]).await;
    assert_eq!(finding.remedy.place, Place::HostBasedAuthentication, "{finding:?}");
    let line = finding.remedy.lines[0].replace("AGENT_ADDRESS", "127.0.0.1");
    std::fs::write(&hba, format!("{line}\n{closed}")).unwrap();
    assert!(finding.remedy.advice.contains("SELECT pg_reload_conf()"));
    bank.run(&["SELECT pg_reload_conf()"]).await;
    bank.until_gone("VOTUM-2201").await;
    assert_eq!(bank.look().await, []);

    std::fs::write(bank.server.dir().join("password"), "incorrect horse").unwrap();
    let finding = bank.until_found("VOTUM-2201", Severity::Error, &[]).await;
    assert!(finding.seen.contains("28P01") && finding.remedy.place == Place::AgentFile, "{finding:?}");
    assert!(!format!("{finding:?} {finding}").contains("incorrect horse"), "{finding:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_found_and_one_that_is_back_is_not() {
    let bank = Bank::alone(&[("max_prepared_transactions", "64")]).await;
    bank.server.stop().await.unwrap();
    let finding = bank.until_found("VOTUM-2201", Severity::Error, &[]).await;
    assert_eq!(finding.remedy.place, Place::Person);
    bank.server.restart().await.unwrap();
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn slots_that_are_missing_too_few_or_taken_are_found_and_raised() {
    let mut bank = Bank::alone(&[]).await;
    bank.raised_and_mended(&[], "VOTUM-2205", Severity::Error, &[]).await;
    assert_eq!(bank.look().await, []);
    bank.run(&["ALTER SYSTEM SET max_prepared_transactions = 5"]).await;
    bank.restart().await;
    bank.raised_and_mended(&[], "VOTUM-2206", Severity::Warning, &[]).await;
    assert_eq!(bank.look().await, []);

    bank.config.sessions = 5;
    bank.run(&["ALTER SYSTEM SET max_prepared_transactions = 5"]).await;
    bank.restart().await;
    let prepare = async |gid: &str| {
        let work = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'");
        bank.server.client("postgres").await.unwrap().batch_execute(&work).await.unwrap();
    };
    for gid in ["one", "two", "three"] {
        prepare(gid).await;
    }
    assert!(bank.look().await.iter().all(|finding| finding.code == "VOTUM-2231"));
    prepare("four").await;
    bank.until_found("VOTUM-2207", Severity::Warning, &["VOTUM-2231"]).await;
    prepare("five").await;
    bank.raised_and_mended(&[], "VOTUM-2207", Severity::Error, &["VOTUM-2231"]).await;
}

#[tokio::test]
async fn connections_that_do_not_suffice_are_found_and_the_start_command_is_named() {
    let mut bank = Bank::on_shared().await;
    bank.config.sessions = 250;
    let finding = bank.until_found("VOTUM-2208", Severity::Warning, &[]).await;
    assert_eq!(finding.remedy.place, Place::StartCommand, "{finding:?}");
    let (name, value) = finding.remedy.lines[0].strip_prefix("-c ").unwrap().split_once('=').unwrap();
    let mut mended = Bank::alone(&[("max_prepared_transactions", "250"), (name, value)]).await;
    mended.config.sessions = 250;
    assert_eq!(mended.look().await, []);
}

#[tokio::test]
async fn a_server_that_does_not_force_its_writes_is_found() {
    let bank = Bank::alone(&[("max_prepared_transactions", "64")]).await;
    for (name, code, severity) in
        [("fsync", "VOTUM-2211", Severity::Error), ("full_page_writes", "VOTUM-2212", Severity::Warning)]
    {
        let broken = [&format!("ALTER SYSTEM SET {name} = off")[..], "SELECT pg_reload_conf()"];
        bank.raised_and_mended(&broken, code, severity, &[]).await;
        assert_eq!(bank.look().await, []);
    }
}

#[tokio::test]
async fn a_standby_is_no_participant() {
    let mut bank = Bank::alone(&[("max_prepared_transactions", "64")]).await;
    bank.server.stand_by().await.unwrap();
    let finding = bank.until_found("VOTUM-2204", Severity::Error, &[]).await;
    assert_eq!(finding.remedy.place, Place::AgentFile);
    let primary = Bank::alone(&[("max_prepared_transactions", "64")]).await;
    let line = finding.remedy.lines[0].strip_prefix("connection = ").unwrap().trim_matches('"');
    let at = format!("{} port={}", primary.server.dir().display(), primary.server.port());
    bank.config.participants[0].connection =
        line.replace("PRIMARY", &at).replace(&bank.database, &primary.database);
    assert_eq!(bank.look().await, []);
}

#[tokio::test]
async fn one_database_under_two_names_is_found_on_a_real_server() {
    let mut bank = Bank::on_shared().await;
    let connection = bank.config.participants[0].connection.clone();
    let again = connection.replace(&bank.server.dir().display().to_string(), "127.0.0.1");
    bank.config.participants.push(ParticipantConfig::new("bank_b".parse().unwrap(), again));
    let finding = bank.until_found("VOTUM-2241", Severity::Error, &[]).await;
    assert_eq!(finding.remedy.lines, ["name = \"bank_b\""]);
    let other = fresh_database(&bank.server).await.unwrap();
    bank.config.participants[1].connection = bank.server.connection(&other, &bank.role);
    let superuser = bank.server.client(&other).await.unwrap();
    superuser.batch_execute(&installation(&bank.role)).await.unwrap();
    assert_eq!(bank.look().await, []);
}
