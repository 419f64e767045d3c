//! Moves money between two banks: both accounts change, or neither.
//!
//! `cargo run -p votum-client --example transfer -- http://127.0.0.1:7400 bank_a bank_b 5`

use votum_client::{Outcome, Votum};

const MOVE: &str = "UPDATE account SET balance = balance + $1 WHERE id = 1 RETURNING balance";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [coordinator, from, to, amount] = arguments.as_slice() else {
        anyhow::bail!("usage: transfer COORDINATOR FROM TO AMOUNT");
    };
    let amount: i64 = amount.parse()?;
    let votum = Votum::options().client_name("transfer").connect(coordinator).await?;

    // Run again, in a new transaction, after a serialization failure or a deadlock.
    let ran = votum
        .run(|tx| async move {
            let left: i64 = tx.query_one(from, MOVE, &[(-amount).into()]).await?.get("balance")?;
            anyhow::ensure!(left >= 0, "{from} has not enough money: nothing was moved");
            tx.query_one(to, MOVE, &[amount.into()]).await?;
            Ok(tx.gtid().to_owned())
        })
        .await?;

    println!("{}: {}", ran.value, ran.outcome);
    match ran.outcome {
        Outcome::Committed(_) | Outcome::ReadOnly => Ok(()),
        Outcome::Aborted(_) => anyhow::bail!("nothing was moved"),
        Outcome::Unknown { gtid, .. } => anyhow::bail!("ask what became of {gtid} before moving it again"),
    }
}
