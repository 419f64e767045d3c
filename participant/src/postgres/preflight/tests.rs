use std::collections::BTreeSet;
use std::path::Path;

use super::facts::{AttachedRole, Facts, PreparedSeen, Role, Setting};
use super::finding::{Finding, Place, Severity};
use super::questions::{FUNCTIONS, RELATIONS};
use super::remedy::literal;
use super::{CoordinatorSeen, Examined, Subject, judge};
use crate::database::{Aftermath, DatabaseError, Policy, ServerFacts};

fn setting(value: &str, source: &str) -> Setting {
    Setting { value: value.into(), source: source.into() }
}

/// A server with nothing wrong.
fn sound() -> Facts {
    let settings = [
        ("autovacuum_freeze_max_age", "200000000"),
        ("default_transaction_read_only", "off"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("max_connections", "100"),
        ("max_prepared_transactions", "64"),
        ("superuser_reserved_connections", "3"),
        ("synchronous_commit", "on"),
        ("synchronous_standby_names", ""),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), setting(value, "default")));
    Facts {
        version: "17.6".into(),
        major: 17,
        database: "bank".into(),
        database_oid: 16_384,
        role: Role { session: "votum".into(), current: "votum".into(), ..Role::default() },
        settings: settings.into(),
        server: Some(ServerFacts { system_identifier: 7, timeline: 1, in_recovery: false }),
        keeps_witness: Some(true),
        ..Facts::default()
    }
}

fn examined(name: &str, facts: Facts) -> Examined {
    let subject = Subject {
        participant: name.parse().unwrap(),
        file: format!("{name}.toml"),
        coordinators: Vec::new(),
        sessions: 32,
        phase2_connections: 4,
        max_branch_timeout_ms: 600_000,
        address: "db.example:5432".into(),
        user: "votum".into(),
        database: "bank".into(),
    };
    Examined { subject, answer: Ok(facts) }
}

/// What is found of one server that differs from a sound one.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = sound();
    change(&mut facts);
    judge(&[examined("bank", facts)], None)
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code).collect()
}

fn lines(findings: &[Finding]) -> Vec<&str> {
    findings.iter().flat_map(|finding| &finding.remedy.lines).map(String::as_str).collect()
}

#[test]
fn of_a_sound_server_there_is_nothing_to_say() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn versions_from_15_to_18_are_known() {
    for (major, expected) in [
        (14, vec![("VOTUM-2202", Severity::Error)]),
        (15, vec![]),
        (18, vec![]),
        (19, vec![("VOTUM-2203", Severity::Warning)]),
        (0, vec![]),
    ] {
        let findings = found(|facts| facts.major = major);
        let seen: Vec<_> = findings.iter().map(|finding| (finding.code, finding.severity)).collect();
        assert_eq!(seen, expected, "{major}");
    }
}

#[test]
fn a_setting_is_changed_where_the_value_that_holds_was_set() {
    let remedy = |source: &str| {
        let findings = found(|facts| {
            facts.settings.insert("lock_timeout".into(), setting("5000", source));
            facts.settings.insert("fsync".into(), setting("off", source));
        });
        assert_eq!(codes(&findings), ["VOTUM-2211", "VOTUM-2218"], "{source}");
        let [server, role] = <[Finding; 2]>::try_from(findings).unwrap();
        (server.remedy.place, server.remedy.lines, role.remedy.place, role.remedy.lines)
    };
    let system = ["ALTER SYSTEM SET fsync = on".to_owned(), "SELECT pg_reload_conf()".to_owned()];
    for source in ["default", "configuration file", "global", "database", "user"] {
        let (place, server, role_place, role) = remedy(source);
        assert_eq!((place, role_place), (Place::Database, Place::Database), "{source}");
        assert_eq!(
            (server, role[0].as_str()),
            (system.to_vec(), "ALTER ROLE \"votum\" SET lock_timeout = 0")
        );
    }
    assert_eq!(remedy("command line").0, Place::StartCommand);
    assert_eq!(remedy("command line").1, ["-c fsync=on"]);
    assert_eq!(remedy("command line").3, ["ALTER ROLE \"votum\" SET lock_timeout = 0"]);
    assert_eq!(remedy("database user").3, ["ALTER ROLE \"votum\" IN DATABASE \"bank\" SET lock_timeout = 0"]);
    assert_eq!(
        (remedy("client").2, remedy("client").3),
        (Place::AgentFile, vec!["-c lock_timeout=0".into()])
    );
}

#[test]
fn a_commit_that_waits_for_no_standby_matters_where_there_is_one() {
    let alone = |value: &str, standbys: &str| {
        let findings = found(|facts| {
            facts.settings.insert("synchronous_commit".into(), setting(value, "user"));
            facts.settings.insert("synchronous_standby_names".into(), setting(standbys, "default"));
        });
        codes(&findings) == ["VOTUM-2213"]
    };
    assert!(alone("off", "") && alone("off", "*") && alone("local", "*"));
    assert!(!alone("local", "") && !alone("on", "*") && !alone("remote_write", "*"));
}

#[test]
fn participants_of_one_server_share_its_slots_and_connections() {
    let both = |slots: &str, connections: &str| {
        let mut facts = sound();
        facts.settings.insert("max_prepared_transactions".into(), setting(slots, "default"));
        facts.settings.insert("max_connections".into(), setting(connections, "default"));
        let other = Facts { database: "branch".into(), database_oid: 16_385, ..facts.clone() };
        judge(&[examined("a", facts), examined("b", other)], None)
    };
    assert_eq!(both("64", "81"), []);
    let findings = both("63", "80");
    assert_eq!(codes(&findings), ["VOTUM-2206", "VOTUM-2208"]);
    assert!(findings.iter().all(|finding| finding.names() == "a, b"), "{findings:?}");
    let expected =
        ["ALTER SYSTEM SET max_prepared_transactions = 128", "ALTER SYSTEM SET max_connections = 81"];
    assert_eq!(lines(&findings), expected);
}

#[test]
fn participants_of_one_role_share_its_limit_and_each_database_has_its_own() {
    let both = |role: u64, database: u64, other_role: &str| {
        let mut facts = sound();
        facts.role.connections = Some(role);
        facts.database_connections = Some(database);
        let mut other = Facts { database: "branch".into(), database_oid: 16_385, ..facts.clone() };
        other.role.session = other_role.into();
        let findings = judge(&[examined("a", facts), examined("b", other)], None);
        assert!(findings.iter().all(|finding| finding.code == "VOTUM-2209"), "{findings:?}");
        findings.iter().map(|f| (f.names(), f.remedy.lines[0].clone())).collect::<Vec<_>>()
    };
    assert_eq!(both(78, 39, "votum"), []);
    let shared = ("a, b".to_owned(), "ALTER ROLE \"votum\" CONNECTION LIMIT 78".to_owned());
    assert_eq!(both(77, 39, "votum"), [shared]);
    assert_eq!(both(39, 39, "other"), []);
    let databases = ["bank", "branch"].map(|name| format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT 39"));
    let [a, b] = databases;
    assert_eq!(both(78, 38, "votum"), [("a".to_owned(), a), ("b".to_owned(), b)]);
}

#[test]
fn two_servers_share_nothing() {
    let on = |system_identifier: Option<u64>| {
        let mut facts = sound();
        // Enough for one of them.
        facts.settings.insert("max_prepared_transactions".into(), setting("40", "default"));
        facts.settings.insert("max_connections".into(), setting("50", "default"));
        facts.server = system_identifier.map(|system_identifier| ServerFacts {
            system_identifier,
            timeline: 1,
            in_recovery: false,
        });
        facts
    };
    assert_eq!(judge(&[examined("a", on(Some(7))), examined("b", on(Some(8)))], None), []);
    let unknown = judge(&[examined("a", on(None)), examined("b", on(None))], None);
    assert_eq!(unknown, [], "two servers that may not be told are not one");
}

#[test]
fn one_database_under_two_names_is_found_and_one_name_twice() {
    let findings = judge(&[examined("a", sound()), examined("b", sound())], None);
    assert_eq!((codes(&findings), findings[0].names()), (vec!["VOTUM-2241"], "a, b".into()));
    let findings = judge(&[examined("a", sound()), examined("a", sound())], None);
    assert_eq!(codes(&findings), ["VOTUM-2242"]);
}

#[test]
fn names_that_one_side_does_not_know_are_found_on_either() {
    let coordinator = |participants: &[&str]| CoordinatorSeen {
        file: "coordinator.toml".into(),
        coordinator_id: "acme".parse().unwrap(),
        participants: participants.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let mut bank = examined("bank", sound());
    let look = |bank: &Examined, participants: &[&str]| {
        let findings = judge(std::slice::from_ref(bank), Some(&coordinator(participants)));
        findings.iter().map(|finding| (finding.code, finding.names())).collect::<Vec<_>>()
    };
    assert_eq!(look(&bank, &["bank"]), []);
    let both = [("VOTUM-2243", "bnak".to_owned()), ("VOTUM-2244", "bank".to_owned())];
    assert_eq!(look(&bank, &["bnak"]), both);
    bank.subject.coordinators = vec!["other".parse().unwrap()];
    assert_eq!(look(&bank, &["bank"]), [("VOTUM-2245", "bank".to_owned())]);
    bank.subject.coordinators.push("acme".parse().unwrap());
    assert_eq!(look(&bank, &["bank"]), []);
}

#[test]
fn a_server_that_does_not_answer_hides_no_other_finding() {
    let error = DatabaseError {
        policy: Policy::Retry,
        aftermath: Aftermath::Broken,
        sqlstate: "28000".into(),
        message: "no pg_hba.conf entry".into(),
        retryable: true,
        sql: None,
    };
    let silent = Examined { answer: Err(error), ..examined("silent", sound()) };
    let mut slotless = sound();
    slotless.settings.insert("max_prepared_transactions".into(), setting("0", "default"));
    let findings = judge(&[silent, examined("bank", slotless)], None);
    assert_eq!(codes(&findings), ["VOTUM-2201", "VOTUM-2205"]);
    assert_eq!(findings[0].remedy.place, Place::HostBasedAuthentication);
}

fn prepared(gid: &str, age: u64, blocked_sessions: u32) -> PreparedSeen {
    let owner = Some("votum".to_owned());
    PreparedSeen {
        gid: gid.into(),
        database: "bank".into(),
        owner,
        age,
        blocked_sessions,
        ..Default::default()
    }
}

#[test]
fn what_is_prepared_matters_by_what_it_holds_back() {
    const OURS: &str = "votum_acme_7_3f9ac2_1042_0_2";
    for (gid, age, blocked, expected) in [
        ("theirs", 5, 0, Some(("VOTUM-2231", Severity::Note))),
        ("theirs", 5, 1, Some(("VOTUM-2231", Severity::Warning))),
        ("theirs", 19_999_999, 0, Some(("VOTUM-2231", Severity::Note))),
        ("theirs", 20_000_000, 0, Some(("VOTUM-2231", Severity::Warning))),
        ("theirs", 200_000_000, 0, Some(("VOTUM-2231", Severity::Error))),
        (OURS, 5, 0, None),
        (OURS, 5, 1, Some(("VOTUM-2232", Severity::Note))),
        (OURS, 20_000_000, 0, Some(("VOTUM-2232", Severity::Warning))),
        (OURS, 200_000_000, 0, Some(("VOTUM-2232", Severity::Error))),
    ] {
        let findings = found(|facts| facts.prepared.push(prepared(gid, age, blocked)));
        let seen = findings.first().map(|finding| (finding.code, finding.severity));
        assert_eq!(
            (seen, findings.len()),
            (expected, usize::from(expected.is_some())),
            "{gid} {age} {blocked}"
        );
    }
}

#[test]
fn a_branch_of_another_role_is_found_unless_that_role_is_declared() {
    let owned = |owner: Option<&str>, change: fn(&mut Facts)| {
        let findings = found(|facts| {
            let branch = prepared("votum_acme_7_3f9ac2_1042_0_2", 5, 0);
            facts.prepared.push(PreparedSeen { owner: owner.map(str::to_owned), ..branch });
            change(facts);
        });
        codes(&findings).contains(&"VOTUM-2233")
    };
    assert!(owned(Some("app"), |_| {}) && owned(None, |_| {}));
    assert!(!owned(Some("votum"), |_| {}));
    assert!(!owned(Some("app"), |facts| {
        facts.attached.push(AttachedRole { name: "app".into(), exists: true, may_be_taken: true });
    }));
}

#[test]
fn hundreds_of_prepared_transactions_do_not_fill_the_screen() {
    let findings = found(|facts| {
        facts.settings.insert("max_prepared_transactions".into(), setting("1000", "default"));
        facts.prepared.extend((0..300).map(|n| prepared(&format!("theirs {n}"), 5, 0)));
    });
    assert_eq!(findings.len(), 20);
    assert!(findings.iter().any(|finding| finding.seen.ends_with("280 more are prepared in bank")));
}

#[test]
fn names_are_quoted_whatever_is_in_them() {
    assert_eq!(literal("it's"), "'it''s'");
    assert_eq!(literal(r"a\'"), r"E'a\\'''");
    assert_eq!(literal("a\x1b[2J"), r"E'a\u001b[2J'");
    let findings = found(|facts| facts.prepared.push(prepared("a\x1b[2J", 5, 0)));
    assert!(!findings[0].to_string().contains('\x1b'), "{findings:?}");
}

/// Every function and every relation that the agent's statements name is asked about.
#[test]
fn the_privileges_asked_about_are_those_that_the_statements_need() {
    fn read(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("preflight") {
                read(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres"), &mut text);
    let (mut functions, mut relations) = (BTreeSet::new(), BTreeSet::new());
    for (at, _) in text.match_indices("pg_catalog.pg_") {
        let rest = &text[at + "pg_catalog.".len()..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let before = text[..at].trim_end();
        if rest[name.len()..].starts_with('(') {
            functions.insert(name);
        } else if before.ends_with("FROM") || before.ends_with("JOIN") {
            relations.insert(name);
        }
    }
    assert!(
        functions.len() > 10 && relations.len() > 5,
        "the search finds nothing: {functions:?} {relations:?}"
    );
    let through_views =
        ["pg_lock_status", "pg_prepared_xact", "pg_show_all_settings", "pg_stat_get_activity"];
    functions.extend(through_views.map(str::to_owned));
    assert_eq!(functions, FUNCTIONS.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(relations, RELATIONS.iter().map(|name| (*name).to_owned()).collect());
}
