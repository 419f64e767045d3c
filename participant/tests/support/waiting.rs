//! PREPARE that waits.

use votum_tests::eventually::{Found, eventually};

use super::World;

/// The process id of the server process that is in PREPARE and waits.
pub async fn preparing(world: &World, wait: &str) -> i32 {
    let direct = world.server.client(&world.database).await.unwrap();
    let query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = $1 \
                 AND query LIKE '%PREPARE TRANSACTION%' AND state = 'active' AND pid <> pg_backend_pid()";
    eventually("PREPARE waits", async || {
        Ok(match direct.query_opt(query, &[&wait]).await? {
            Some(row) => Found::Yes(row.get(0)),
            None => Found::NotYet("nobody waits".into()),
        })
    })
    .await
    .unwrap()
}
