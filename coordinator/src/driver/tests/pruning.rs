//! Commit markers go once the log has outlived them.

use super::world::{World, decided_commit, gtid};
use crate::protocol::record::Record;

/// Retention has dropped what the log held up to `dropped` of epoch 6; the oldest that is left is `left`.
async fn remembers(mut world: World, dropped: Option<u64>, left: Option<u64>) -> String {
    *world.log.durable.horizon.lock().unwrap() = dropped.map(|seq| gtid(6, seq));
    if let Some(seq) = left {
        let records = [Record::Decided(decided_commit(6, seq)), Record::Ended { gtid: gtid(6, seq) }];
        world.log.durable.records.lock().unwrap().extend(records);
    }
    world.count();
    world.connect(World::hello()).await;
    let first = world.told().await;
    // Each participant is told the same, behind what it is asked for.
    let first =
        first.split(" prune@b").next().unwrap_or_default().replace("list@a list@b", "").trim().to_owned();
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(world.told().await, "", "once a minute");
    first
}

#[tokio::test]
async fn markers_go_as_far_as_the_log_has_forgotten() {
    assert_eq!(remembers(World::new(), None, Some(3)).await, "", "nothing has been forgotten");
    assert_eq!(remembers(World::new(), Some(5), Some(9)).await, "prune@a above 0 below 6-6");
    assert_eq!(remembers(World::new(), Some(5), None).await, "prune@a above 0 below 6-6");
    // It was begun earlier and kept longer, for a person.
    assert_eq!(remembers(World::new(), Some(5), Some(2)).await, "prune@a above 0 below 6-2");
}

#[tokio::test]
async fn markers_of_what_was_written_off_stay_for_people() {
    assert_eq!(remembers(World::written_off(5), Some(5), None).await, "prune@a above 5 below 6-6");
}
