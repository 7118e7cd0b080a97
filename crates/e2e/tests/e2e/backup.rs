//! Backup and restore as docs/operations/run.md says: what was made after the backup stays on the cluster and is reported, the rest goes on.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::dump::Tools;
use e2e::environment::{kubeop, repository};
use e2e::folder::Folder;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::scenario::{self, PATIENCE, unique};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// A month that is over for long.
const MONTH: &str = "2026-03";
/// As the page tells.
const DUMP: &str = r#"pg_dump --format=custom --dbname="$KUBEOP_DB_URL" --file=kubeop.dump"#;
const RESTORE: &str = r#"pg_restore --exit-on-error --no-owner --dbname="$KUBEOP_DB_URL" kubeop.dump"#;

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
    // What the database does not know to be on the cluster is not missed there.
    until("the tenant on the cluster", PATIENCE, async || {
        let answer = api.get(&format!("/v1/tenants/{tenant}")).await?;
        Ok(Seen::when(answer.json["status"]["synced"] == true, (), answer.text))
    })
    .await?;
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

/// All that was committed, as callers read it: by path and id. Not what a cluster reports, which goes on.
async fn committed(api: &Api, tenant: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for path in ["/v1/clusters", "/v1/tenants", "/v1/projects", "/v1/apps", "/v1/invoices"] {
        let list = api.get(&format!("{path}?limit=1000")).await?.expect(200)?;
        for (at, item) in list.json.as_array().with_context(|| list.text.clone())?.iter().enumerate() {
            let mut item = item.clone();
            if let Some(fields) = item.as_object_mut() {
                fields.remove("status");
            }
            let id = item["id"].as_str().map_or_else(|| at.to_string(), ToOwned::to_owned);
            all.insert(format!("{path}/{id}"), item);
        }
    }
    let invoice = format!("/v1/invoices/{tenant}?month={MONTH}");
    for path in [invoice, "/v1/platform/prices".to_owned(), "/v1/platform/policy".to_owned()] {
        all.insert(path.clone(), api.get(&path).await?.expect(200)?.json);
    }
    let usage = api.get(&format!("/v1/usage/snapshot?month={MONTH}&tenant_id={tenant}")).await?.expect(200)?;
    all.insert("usage".to_owned(), usage.json["tenants"].clone());
    Ok(all)
}

/// Makes one of everything: a project, an app, a price, usage of a month that is over, and its invoice.
async fn fill(api: &Api, before: &Before) -> Result<()> {
    let project = scenario::project(api, &before.tenant, "web").await?.id()?;
    scenario::app(api, &project, "web", &format!("{}.local", before.name)).await?;
    api.post("/v1/platform/prices", &json!({"meter": "cpu_milli", "rate": "0.25"})).await?.expect(201)?;
    let sample =
        json!({"ts": format!("{MONTH}-03T10:00:00Z"), "tenant_id": before.tenant, "cpu_milli": 500, "mem_mib": 64});
    api.post("/v1/usage/ingest", &json!([sample])).await?.expect(200)?;
    let invoice = api.get(&format!("/v1/invoices/{}?month={MONTH}", before.tenant)).await?.expect(200)?;
    ensure!(invoice.json["status"] == "closed" && invoice.json["number"] == 1, "{}", invoice.text);
    Ok(())
}

/// Makes tenants one after the other until it is told to stop; the ids of those that were answered.
async fn keep_writing(api: Api, cluster: String, stop: Arc<AtomicBool>, made: Arc<Mutex<Vec<String>>>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let id = scenario::tenant(&api, &cluster, &unique("meanwhile")).await?;
        made.lock().await.push(id);
    }
    Ok(())
}

/// `docs/operations/run.md`, literally: a dump beside a manager that writes, and a restoration into an empty database, or over the one there was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_postgres_goes_on_where_it_stood() -> Result<()> {
    let Some(tools) = Tools::find().await? else { return Ok(()) };
    let (plane, server) = tokio::join!(ControlPlane::start(), tools.server());
    let (plane, server) = (plane?, server?);
    let (database, empty) = (Database::create_on(&server.url).await?, Database::create_on(&server.url).await?);
    let manager = on(&database).start().await?;
    let before = work(&manager, &plane).await?;
    let api = manager.api(None)?;
    fill(&api, &before).await?;
    let folder = Folder::new("dump")?;
    let page = fs::read_to_string(repository().join("docs/operations/run.md")).context("the page")?;
    ensure!(page.contains(DUMP) && page.contains(RESTORE), "the page tells otherwise");

    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let writing = keep_writing(api.clone(), before.cluster.clone(), Arc::clone(&stop), Arc::clone(&made));
    let writing = tokio::spawn(writing);
    until("a few writes", PATIENCE, async || Ok(Seen::when(made.lock().await.len() > 3, (), "none yet"))).await?;
    let sure = committed(&api, &before.tenant).await?;
    tools.shell(DUMP, &database.url, folder.path()).await?;
    let many = made.lock().await.len();
    until("writes after the dump", PATIENCE, async || {
        Ok(Seen::when(made.lock().await.len() > many + 3, (), "none yet"))
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    writing.await.context("the writer failed")??;
    let late = made.lock().await.split_off(many + 1);
    let later = go_on(&manager, &plane, &before).await?;
    drop(manager);

    // In another process, with a data directory of its own: the database and the keys are all there is to back up.
    tools.shell(RESTORE, &empty.url, folder.path()).await?;
    let restored = on(&empty).start().await?;
    let api = restored.api(None)?;
    let found = committed(&api, &before.tenant).await?;
    for (path, was) in &sure {
        ensure!(found.get(path) == Some(was), "{path}: {was} was dumped, {:?} was restored", found.get(path));
    }
    for id in late {
        api.get(&format!("/v1/tenants/{id}")).await?.expect_error(404, &[])?;
    }
    holds(&restored, &plane, &before, &later).await?;
    drop(restored);

    // Over a database that has gone on.
    tools.run("dropdb", &["--force", "--maintenance-db", &server.url, database.name()]).await?;
    tools.run("createdb", &["--maintenance-db", &server.url, database.name()]).await?;
    tools.shell(RESTORE, &database.url, folder.path()).await?;
    let restored = on(&database).start().await?;
    let found = committed(&restored.api(None)?, &before.tenant).await?;
    ensure!(sure.iter().all(|(path, was)| found.get(path) == Some(was)), "{sure:?} was dumped, {found:?} was restored");
    drop(restored);
    empty.drop_it().await?;
    database.drop_it().await
}
