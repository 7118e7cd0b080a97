//! Backup and restore as docs/operations/run.md says: what was made after the backup stays on the cluster and is reported, the rest goes on.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::control_plane::ControlPlane;
use e2e::environment::kubeop;
use e2e::folder::Folder;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::scenario::{self, PATIENCE, unique};
use e2e::wait::{Seen, until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

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

/// The image has no shell and no sqlite3: the product copies its database itself, into a file or out of its container.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_the_running_manager_goes_on_where_it_stood() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let before = work(&manager, &plane).await?;
    let (data, backup) = (manager.data(), Folder::new("backup")?);
    let (file, streamed) = (backup.file("kubeop.db"), backup.file("streamed.db"));
    let run = |to: &Path| {
        Command::new(kubeop()?).arg("backup").arg(to).env("KUBEOP_DATA_DIR", &data).output().context("backup")
    };
    let ran = run(&file)?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the backup has mode {mode:o}");
    let again = run(&file)?;
    ensure!(!again.status.success(), "a backup was replaced");
    let out = run(Path::new("-"))?;
    ensure!(
        out.status.success() && out.stdout.starts_with(b"SQLite format 3"),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    fs::write(&streamed, out.stdout)?;
    let left = fs::read_dir(&data)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = left.filter(|name| name.starts_with("backup")).collect();
    ensure!(left.is_empty(), "left in the data directory: {left:?}");
    let kubectl = plane.kubectl()?;
    until("the tenant on the cluster", PATIENCE, async || {
        let there = kubectl.exists(&format!("tenants.platform.kubeop.io {}", before.name)).await?;
        Ok(Seen::when(there, (), "not yet"))
    })
    .await?;
    let later = go_on(&manager, &plane, &before).await?;
    for key in fs::read_dir(&data)?.filter_map(|entry| Some(entry.ok()?.path())) {
        if key.extension().is_some_and(|end| end == "key") {
            fs::copy(&key, backup.path().join(key.file_name().context("a name")?))?;
        }
    }
    drop(manager);

    let folder = backup.path().display().to_string();
    let restored = Setup::new("manager").with("KUBEOP_DATA_DIR", &folder).start().await?;
    holds(&restored, &plane, &before, &later).await?;
    drop(restored);
    let url = format!("sqlite://{}", streamed.display());
    let restored = Setup::new("manager").with("KUBEOP_DATA_DIR", &folder).with("KUBEOP_DB_URL", &url).start().await?;
    restored.api(None)?.get(&format!("/v1/tenants/{}", before.tenant)).await?.expect(200).map(drop)
}

#[test]
fn a_backup_of_postgres_is_left_to_its_own_tool() -> Result<()> {
    let folder = Folder::new("backup")?;
    let file = folder.file("kubeop.db");
    let ran = Command::new(kubeop()?)
        .arg("backup")
        .arg(&file)
        .env("KUBEOP_DB_URL", "postgres://kubeop@127.0.0.1:1/kubeop")
        .output()?;
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(!ran.status.success() && told.contains("pg_dump") && !file.exists(), "{told}");
    Ok(())
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
