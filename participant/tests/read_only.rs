//! Branches that are taken for read-only ones, and are committed on their own word when they are prepared:
//! nothing that anybody wrote may stand on that. Against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

mod support;

use support::World;
use votum_proto::v1::vote::Kind as Vote;

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";

/// A cursor WITH HOLD is run to its end within COMMIT, which comes before the decision.
#[tokio::test]
async fn what_a_held_cursor_would_write_within_commit_is_not_written() {
    let world = World::with(|config| config.sessions = 1).await;
    let before = world.number(BALANCE).await;
    let function = format!(
        "CREATE FUNCTION takes() RETURNS int8 LANGUAGE sql AS $$ {UPDATE}; SELECT 1::int8 $$;
         GRANT EXECUTE ON FUNCTION takes() TO PUBLIC"
    );
    world.direct().await.batch_execute(&function).await.unwrap();
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("DECLARE c CURSOR WITH HOLD FOR SELECT takes()").await;
    coordinator.prepare(&branch).await;
    let vote = coordinator.vote(1).await;
    assert!(matches!(vote, Vote::ReadOnly(_)), "{vote:?}");
    assert_eq!(world.number(BALANCE).await, before);
}

/// The agent's own statements can be run by whoever knows their names: none of them ends a transaction.
#[tokio::test]
async fn no_statement_of_the_agents_own_commits_for_a_client() {
    let world = World::with(|config| config.sessions = 1).await;
    let before = world.number(BALANCE).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("SELECT 1").await;
    coordinator.prepare(&branch).await;
    let vote = coordinator.vote(1).await;
    assert!(matches!(vote, Vote::ReadOnly(_)), "{vote:?}");

    let mut branch = world.branch(&coordinator, 2);
    let ends = "SELECT name FROM pg_prepared_statements
                 WHERE name LIKE 'votum%' AND statement ~* '^ *(commit|end|rollback|abort|prepare)'";
    assert_eq!(branch.ok(ends).await.count, 0);
    branch.ok(UPDATE).await;
    branch.fails("EXECUTE votum_commit").await;
    coordinator.rollback(2, false, 0, 0).await;
    coordinator.branch_end(2).await;
    assert_eq!(world.number(BALANCE).await, before);
}

/// Behind a DO, nobody sees that the agent's question has got another answer.
#[tokio::test]
async fn a_branch_that_answers_the_agents_question_itself_is_not_committed_on_its_word() {
    let world = World::with(|config| config.sessions = 1).await;
    let before = world.number(BALANCE).await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    branch.ok("SELECT 1").await;
    let takes_its_place = "DO $$ BEGIN
        EXECUTE 'DEALLOCATE votum_identity';
        EXECUTE 'PREPARE votum_identity AS SELECT transaction_timestamp(), NULL::xid8, current_user';
        END $$";
    branch.ok(takes_its_place).await;
    branch.ok(UPDATE).await;
    let xid8 = coordinator.prepared(&branch).await;
    assert_eq!(world.number(BALANCE).await, before, "decided by nobody");
    coordinator.commit(1, xid8, false).await;
    coordinator.branch_end(1).await;
    assert_eq!(world.number(BALANCE).await, before - 10);
}
