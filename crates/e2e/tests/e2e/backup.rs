//! Backup and restore as docs/operations/run.md says: what was made after the backup stays on the cluster and is reported, the rest goes on.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::control_plane::ControlPlane;
use e2e::folder::Folder;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::scenario::{self, PATIENCE, unique};
use e2e::wait::{Seen, until};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A manager with keys from its environment, whose backups are of the database alone.
fn on(database: &Database) -> Setup {
    Setup::new("manager")
        .with("KUBEOP_DB_URL", &database.url)
        .with("KUBEOP_DEV_INSECURE", "false")
        .with("KUBEOP_JWT_SIGNING_KEY", &BASE64_STANDARD.encode([7; 32]))
        .with("KUBEOP_KMS_MASTER_KEY", &BASE64_STANDARD.encode([9; 32]))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).context("the data directory")? {
        let entry = entry.context("the data directory")?;
        fs::copy(entry.path(), to.join(entry.file_name())).context("copying")?;
    }
    Ok(())
}

/// What a manager had before its backup.
struct Before {
    cluster: String,
    tenant: String,
    name: String,
}

async fn work(manager: &Kubeop, plane: &ControlPlane) -> Result<Before> {
    let api = manager.api(None)?;
    let cluster = scenario::register(&api, "backup", &plane.kubeconfig_text()?).await?;
    let name = unique("backup");
    let tenant = scenario::tenant(&api, &cluster, &name).await?;
    Ok(Before { cluster, tenant, name })
}

/// Makes a tenant that the backup does not know, and takes away one that it does.
async fn go_on(manager: &Kubeop, plane: &ControlPlane, before: &Before) -> Result<String> {
    let api = manager.api(None)?;
    let later = unique("later");
    scenario::tenant(&api, &before.cluster, &later).await?;
    let kubectl = plane.kubectl()?;
    until("the later tenant on the cluster", PATIENCE, async || {
        let there = kubectl.exists(&format!("tenants.platform.kubeop.io {later}")).await?;
        Ok(Seen::when(there, (), "not yet"))
    })
    .await?;
    kubectl.stdout(&format!("delete tenants.platform.kubeop.io {} --wait=false", before.name)).await?;
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    kubectl.run_with(&["patch", "tenants.platform.kubeop.io", &before.name, "--type=merge", "-p", patch], None).await?;
    Ok(later)
}

/// Everything that was backed up works, what is missing on the cluster comes back, what nobody knows is left and reported.
async fn holds(restored: &Kubeop, plane: &ControlPlane, before: &Before, later: &str) -> Result<()> {
    let api = restored.api(None)?;
    let tenant = api.get(&format!("/v1/tenants/{}", before.tenant)).await?.expect(200)?;
    ensure!(tenant.json["name"] == before.name, "{}", tenant.text);
    let unknown = api.get(&format!("/v1/tenants?name={later}")).await?.expect(200)?;
    ensure!(unknown.json == json!([]), "{}", unknown.text);
    // The stored kubeconfig can be read, and the cluster is still ours.
    let cluster = &before.cluster;
    let seen = api.get(&format!("/v1/clusters/{cluster}/status")).await?.expect(200)?;
    ensure!(seen.json["reachable"] == true, "{}", seen.text);
    api.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &json!({})).await?.expect(200)?;

    let kubectl = plane.kubectl()?;
    until("what is missing comes back", PATIENCE, async || {
        let there = kubectl.exists(&format!("tenants.platform.kubeop.io {}", before.name)).await?;
        Ok(Seen::when(there, (), restored.tail()))
    })
    .await?;
    until("what nobody knows is reported", PATIENCE, async || {
        let log = restored.log();
        let told = log.lines().any(|line| line.contains("no row asks for this object") && line.contains(later));
        Ok(Seen::when(told, (), restored.tail()))
    })
    .await?;
    ensure!(kubectl.exists(&format!("tenants.platform.kubeop.io {later}")).await?, "it was deleted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_directory_goes_on_where_it_stood() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, mut manager) = (plane?, manager?);
    let before = work(&manager, &plane).await?;
    manager.kill();
    let backup = Folder::new("backup")?;
    copy(&manager.data(), backup.path())?;
    manager.restart().await?;
    let later = go_on(&manager, &plane, &before).await?;
    drop(manager);

    let folder = backup.path().display().to_string();
    let restored = Setup::new("manager").with("KUBEOP_DATA_DIR", &folder).start().await?;
    holds(&restored, &plane, &before, &later).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_postgres_goes_on_where_it_stood() -> Result<()> {
    let (plane, database) = tokio::join!(ControlPlane::start(), Database::create());
    let (plane, database) = (plane?, database?);
    let mut manager = on(&database).start().await?;
    let before = work(&manager, &plane).await?;
    manager.kill();
    let backup = database.copy().await?;
    manager.restart().await?;
    let later = go_on(&manager, &plane, &before).await?;
    drop(manager);

    // In another process, with a data directory of its own: the database and the keys are all there is to back up.
    let restored = on(&backup).start().await?;
    holds(&restored, &plane, &before, &later).await?;
    drop(restored);
    backup.drop_it().await?;
    database.drop_it().await
}
