//! The example in Python, run as its page says: a client in another language moves money.

use std::path::Path;

use tokio::process::Command;
use votum_tests::scene::{A, B, Scene};

async fn output(command: &mut Command) -> anyhow::Result<(bool, String)> {
    let output = command.output().await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(said)?))
}

#[tokio::test]
async fn a_transfer_in_python_over_the_plain_contract_is_committed_or_leaves_nothing() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let scene = Scene::usual().await?;
    for bank in [A, B] {
        let account = "CREATE TABLE account (id int PRIMARY KEY, balance int CHECK (balance >= 0));
                       INSERT INTO account VALUES (1, 100)";
        scene.set_up(bank, account).await?;
    }
    let (made, python) = output(&mut Command::new(root.join("tests/scripts/python-env"))).await?;
    anyhow::ensure!(made, "no Python environment: {python}");
    let python = python.lines().last().unwrap();
    for (amount, commits, balances) in [("30", true, [70, 130]), ("1000", false, [70, 130])] {
        let coordinator = scene.world.address().to_string();
        let mut transfer = Command::new(python);
        transfer.arg(root.join("docs/examples/python/transfer.py"));
        transfer.args(["--coordinator", &coordinator, "--from", A, "--to", B, "--amount", amount]);
        let (succeeded, said) = output(&mut transfer).await?;
        assert_eq!(succeeded, commits, "{said}");
        let outcome = if commits { "outcome: committed" } else { "outcome: aborted" };
        assert!(said.contains("gtid: ") && said.contains(outcome), "{said}");
        let gtid = said.lines().find_map(|line| line.strip_prefix("gtid: ")).unwrap();
        let status = scene.teller.votum().transaction(gtid).await?.status;
        assert_eq!(matches!(status, votum_client::Status::Committed(_)), commits, "{status:?}");
        for (bank, balance) in [A, B].into_iter().zip(balances) {
            assert_eq!(
                scene.number(bank, "SELECT balance::int8 FROM account").await?,
                balance,
                "{bank}: {said}"
            );
        }
    }
    scene.close().await
}
