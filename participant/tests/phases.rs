//! Prepare, vote and phase 2 over an exchange, against a real PostgreSQL.

mod support;

use support::World;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::gone::XidStatus;
use votum_proto::v1::vote::Kind as Vote;

const UPDATE: &str = "UPDATE account SET balance = balance - 10 WHERE id = 1";
const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";
const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

#[tokio::test]
async fn a_branch_is_executed_prepared_and_committed() {
    let world = World::new().await;
    let mut coordinator = world.coordinator().await;
    let mut branch = world.branch(&coordinator, 1);
    assert_eq!(branch.ok(UPDATE).await.count, 1);
    assert_eq!(world.number(BALANCE).await, 100);
    coordinator.prepare(&branch).await;
    let yes = coordinator.vote_yes(1).await;
    assert_eq!(world.number(PREPARED).await, 1);
    assert!(yes.xid8 > 0 && yes.timeline == 1 && yes.system_identifier > 0 && !yes.marker);
    coordinator.commit(1, yes.xid8, false).await;
    assert!(matches!(coordinator.branch_end(1).await, End::Done(_)));
    assert_eq!(world.number(BALANCE).await, 90);
    assert_eq!(world.number(PREPARED).await, 0);
}
