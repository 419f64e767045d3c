//! Moves money between two databases of your own, with no server of Votum's to run.
//!
//! `cargo run -p votum-client --features embedded --example embedded -- ./votum-log \
//!     "host=localhost dbname=bank_a user=votum" "host=localhost dbname=bank_b user=votum" 5`
//!
//! Each database needs `max_prepared_transactions` above 0 and a table
//! `account (id int PRIMARY KEY, balance bigint NOT NULL)`. Kill it whenever you like: the next run settles what
//! it finds.

use votum_client::embedded::Participant;
use votum_client::{Outcome, Votum};

const MOVE: &str = "UPDATE account SET balance = balance + $1 WHERE id = 1 RETURNING balance";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, from, to, amount] = arguments.as_slice() else {
        anyhow::bail!("usage: embedded DIRECTORY FROM TO AMOUNT");
    };
    let amount: i64 = amount.parse()?;
    let participants =
        [Participant::new("from".parse()?, from.as_str()), Participant::new("to".parse()?, to.as_str())];
    let votum = Votum::embedded(directory, participants)
        .coordinator_id("example")
        .initialize_if_empty()
        // While it runs: votumctl --coordinator unix:/tmp/votum-example.sock status
        .operator("unix:/tmp/votum-example.sock")
        .open()
        .await?;

    // Run again, in a new transaction, after a serialization failure or a deadlock.
    let ran = votum
        .run(|tx| async move {
            let left: i64 = tx.query_one("from", MOVE, &[(-amount).into()]).await?.get("balance")?;
            anyhow::ensure!(left >= 0, "not enough money: nothing was moved");
            tx.query_one("to", MOVE, &[amount.into()]).await?;
            Ok(tx.gtid().to_owned())
        })
        .await;
    // Waits for what is on its way, and gives the directory back.
    votum.shutdown().await?;
    let ran = ran?;
    println!("{}: {}", ran.value, ran.outcome);
    match ran.outcome {
        Outcome::Committed(_) | Outcome::ReadOnly => Ok(()),
        Outcome::Aborted(_) => anyhow::bail!("nothing was moved"),
        Outcome::Unknown { gtid, .. } => anyhow::bail!("ask what became of {gtid} before moving it again"),
    }
}
