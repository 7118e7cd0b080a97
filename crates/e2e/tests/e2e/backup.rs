//! Backup and restore as docs/operations/run.md says: a copy of the data directory of a stopped manager, started elsewhere.

use anyhow::{Context, Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::folder::Folder;
use e2e::kubeop::Setup;
use e2e::scenario;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_directory_goes_on_where_it_stood() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, mut manager) = (plane?, manager?);
    let api = manager.api(None)?;
    let cluster = scenario::register(&api, "backup", &plane.kubeconfig_text()?).await?;
    let tenant = scenario::tenant(&api, &cluster, &scenario::unique("backup")).await?;
    let before = api.get(&format!("/v1/tenants/{tenant}")).await?.expect(200)?;

    manager.kill();
    let copy = Folder::new("backup")?;
    for entry in fs::read_dir(manager.data()).context("the data directory")? {
        let entry = entry.context("the data directory")?;
        fs::copy(entry.path(), copy.path().join(entry.file_name())).context("copying")?;
    }
    drop(manager);

    let folder = copy.path().display().to_string();
    let restored = Setup::new("manager").with("KUBEOP_DATA_DIR", &folder).start().await?;
    let api = restored.api(None)?;
    let after = api.get(&format!("/v1/tenants/{tenant}")).await?.expect(200)?;
    ensure!(after.json["id"] == before.json["id"] && after.json["name"] == before.json["name"], "{}", after.text);
    // The stored kubeconfig can be read, and the cluster is still ours.
    let seen = api.get(&format!("/v1/clusters/{cluster}/status")).await?.expect(200)?;
    ensure!(seen.json["reachable"] == true, "{}", seen.text);
    let again = api.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &serde_json::json!({})).await?;
    again.expect(200)?;
    Ok(())
}
