//! The chart with stock helm: installed over PostgreSQL, asked while it is upgraded, rolled back, uninstalled (`chart.sh`).

use anyhow::{Context, Result, ensure};
use e2e::leftovers;
use e2e::node::Node;
use e2e::postgres::Database;
use e2e::process;
use e2e::proxy::Proxy;
use e2e::{environment, helm::Helm};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_chart_lives_a_whole_life_on_a_node() -> Result<()> {
    let node = Node::take().await?;
    let helm = Helm::find(None)?.context("helm is needed beside a node")?;
    // The manager's pod reaches the test's PostgreSQL through an address that the node has on this machine.
    let database = Database::create().await?;
    let (port, host) = (database.port()?, node.fact("/hostAddress")?.parse::<Ipv4Addr>().context("an address")?);
    let proxy = Proxy::start_at(host, port).await?;
    let url = database.url_at(&host.to_string(), proxy.port())?;

    let root = environment::repository();
    let output = Command::new("bash")
        .arg(root.join("crates/e2e/chart.sh"))
        .arg(node.image())
        .args(["--set", "manager.database.type=postgres", "--set-string"])
        .arg(format!("manager.database.postgres.url={url}"))
        .env("KUBECONFIG", node.kubeconfig()?)
        .env("HELM", helm.program())
        .env("PATH", environment::path()?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(8), output).await.context("chart.sh did not end")??;
    let shown = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "chart.sh failed:\n{}", process::tail(&shown, 80));
    println!("{}", process::tail(&shown, 40));
    leftovers::remove(&node.kubectl()?).await?;
    database.drop_it().await
}
