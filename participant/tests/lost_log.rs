//! What databases hold of a coordinator whose log is gone, read from a real server; and the ending of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use votum_participant::postgres::lost_log::{Action, Listed, Markers, Place, Run, Settled, places};
use votum_participant::{AgentConfig, ParticipantConfig};
use votum_proto::names::{CoordinatorId, Gid, Gtid};
use votum_proto::runtime::Seams;
use votum_tests::postgres::{Options, ROLE, Server};

const GID: &str = "votum_acme_7_3f9ac2_1042_0_2";
const GTID: &str = "acme-7-3f9ac2-1042";
const MARKERS: &str = "
    CREATE SCHEMA votum;
    CREATE TABLE votum.marker (coordinator_id text, epoch bigint, incarnation integer, seq bigint, branch integer,
        committed boolean, PRIMARY KEY (coordinator_id, epoch, incarnation, seq, branch));";
const GRANT: &str = "GRANT USAGE ON SCHEMA votum TO votum; GRANT SELECT ON votum.marker TO votum";

fn acme() -> CoordinatorId {
    "acme".parse().unwrap()
}

fn gtid() -> Gtid {
    GTID.parse().unwrap()
}

fn gid() -> Gid {
    GID.parse().unwrap()
}

async fn server() -> Server {
    let server = Server::start(Options::default()).await.unwrap();
    for database in ["bank", "shop"] {
        server.create_database(database).await.unwrap();
        by_hand(&server, database, "CREATE TABLE work (n int)").await;
    }
    server
}

fn place(server: &Server) -> Place {
    let seams = Seams::production();
    let participant = ParticipantConfig::new("bank".parse().unwrap(), server.connection("bank", ROLE));
    let config = AgentConfig::embedded(vec![participant]);
    places(&config, "agent.toml", &Run::new(&seams), &seams).unwrap().remove(0)
}

async fn by_hand(server: &Server, database: &str, statements: &str) {
    server.client_as(database, ROLE).await.unwrap().batch_execute(statements).await.unwrap();
}

async fn prepare(server: &Server, database: &str, gid: &str) {
    let work = format!("BEGIN; INSERT INTO work VALUES (1); PREPARE TRANSACTION '{gid}'");
    by_hand(server, database, &work).await;
}

async fn listed(place: &Place) -> Listed {
    place.list(&acme(), None).await.unwrap()
}

#[tokio::test]
async fn everything_under_the_coordinators_name_is_listed_wherever_on_the_server_it_is() {
    let server = server().await;
    let place = place(&server);
    let half = "votum_acme_half";
    for (database, gid) in [
        ("bank", GID),
        ("bank", half),
        ("bank", "other"),
        ("bank", "votum_acmes_1"),
        ("shop", "votum_acme_7_3f9ac2_1042_1_2"),
    ] {
        prepare(&server, database, gid).await;
    }
    let superuser = server.client("bank").await.unwrap();
    superuser.batch_execute("BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'votum_acme_x'").await.unwrap();
    let found = listed(&place).await;
    let rows: Vec<_> = found
        .prepared
        .iter()
        .map(|seen| (seen.gid.as_str(), seen.database.as_str(), seen.owner_is_ours))
        .collect();
    let expected = [
        (GID, "bank", true),
        (half, "bank", true),
        ("votum_acme_7_3f9ac2_1042_1_2", "shop", true),
        ("votum_acme_x", "bank", false),
    ];
    assert_eq!(rows, expected);
    assert_eq!(found.identity.database, "bank");
    let only = place.list(&acme(), Some(&gtid())).await.unwrap();
    assert_eq!(only.prepared.len(), 2);
}

#[tokio::test]
async fn sessions_of_agents_and_of_other_runs_are_seen_and_its_own_are_not() {
    let server = server().await;
    let (place, other) = (place(&server), place(&server));
    assert_eq!(listed(&place).await.sessions, []);
    let agent = server.client_as("bank", ROLE).await.unwrap();
    agent.batch_execute("SET application_name = 'votum-participant bank'").await.unwrap();
    let elsewhere = server.client_as("shop", ROLE).await.unwrap();
    elsewhere.batch_execute("SET application_name = 'votum-participant shop'").await.unwrap();
    listed(&other).await;
    let names: Vec<String> =
        listed(&place).await.sessions.into_iter().map(|session| session.application_name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().any(|name| name == "votum-participant bank"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("votumctl lost-log ")), "{names:?}");
}

#[tokio::test]
async fn markers_are_read_of_the_transactions_that_are_asked_about_and_their_lack_is_told_apart() {
    let server = server().await;
    let place = place(&server);
    let of =
        BTreeSet::from([gtid(), "acme-7-3f9ac2-1043".parse().unwrap(), "acme-8-000001-7".parse().unwrap()]);
    assert_eq!(place.markers(&of).await.unwrap(), Markers::NoTable);
    let superuser = server.client("bank").await.unwrap();
    superuser.batch_execute(MARKERS).await.unwrap();
    assert_eq!(place.markers(&of).await.unwrap(), Markers::Denied);
    superuser.batch_execute(GRANT).await.unwrap();
    assert_eq!(place.markers(&of).await.unwrap(), Markers::Read(Vec::new()));
    let incarnation = 0x003f_9ac2;
    let rows = format!(
        "INSERT INTO votum.marker VALUES ('acme', 7, {incarnation}, 1042, 0, true), ('acme', 8, 1, 7, 1, false), \
         ('acme', 7, 1, 1043, 0, true), ('other', 7, {incarnation}, 1042, 1, true), \
         ('acme', 7, {incarnation}, 1044, 0, true)"
    );
    superuser.batch_execute(&rows).await.unwrap();
    let Markers::Read(found) = place.markers(&of).await.unwrap() else { panic!("not read") };
    let found: Vec<_> = found.iter().map(|one| (one.gtid.to_string(), one.branch, one.committed)).collect();
    assert_eq!(found, [(GTID.to_owned(), 0, true), ("acme-8-000001-7".to_owned(), 1, false)]);
    let many: BTreeSet<Gtid> =
        (1..1_500).map(|seq| format!("acme-7-3f9ac2-{seq}").parse().unwrap()).collect();
    let Markers::Read(found) = place.markers(&many).await.unwrap() else { panic!("not read") };
    assert_eq!(found.iter().map(|one| one.gtid.seq).collect::<Vec<_>>(), [1042, 1044]);
}

#[tokio::test]
async fn a_branch_is_ended_only_where_server_name_and_transaction_id_are_those_that_were_seen() {
    let server = server().await;
    let place = place(&server);
    prepare(&server, "bank", GID).await;
    let seen = listed(&place).await;
    let (xid, system) = (seen.prepared[0].xid, seen.identity.system_identifier);
    let settle = async |xid, system| place.settle(&gid(), xid, system, None, Action::Commit).await;
    assert!(settle(xid, system + 1).await.is_err());
    assert_eq!(settle(xid + 1, system).await.unwrap(), Settled::OtherWork(xid));
    assert_eq!(listed(&place).await.prepared.len(), 1);
    assert_eq!(settle(xid, system).await.unwrap(), Settled::Done);
    assert_eq!(settle(xid, system).await.unwrap(), Settled::NotThere);
    prepare(&server, "bank", GID).await;
    let again = listed(&place).await.prepared[0].xid;
    assert_eq!(settle(xid, system).await.unwrap(), Settled::OtherWork(again));
    let rolled_back = place.settle(&gid(), again, system, None, Action::RollBack).await.unwrap();
    assert_eq!(rolled_back, Settled::Done);
    let rows =
        server.client("bank").await.unwrap().query_one("SELECT count(*) FROM work", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1, "one was committed, the other rolled back");
}

#[tokio::test]
async fn a_standby_is_not_read_for_it_does_not_show_what_is_prepared() {
    let server = server().await;
    prepare(&server, "bank", GID).await;
    server.stand_by().await.unwrap();
    let place = place(&server);
    let error = place.list(&acme(), None).await.unwrap_err();
    assert!(error.message.contains("standby"), "{error}");
}
