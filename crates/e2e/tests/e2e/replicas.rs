//! Two managers on one PostgreSQL, and an operator of its own: as in production.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::kubeop::Setup;
use e2e::postgres::Database;
use e2e::scenario::{self, phase};
use e2e::wait::{Seen, until};
use futures::future::join_all;
use serde_json::json;
use sqlx::{Connection, Executor};
use std::process::Command;
use std::time::{Duration, Instant};

/// Keys of 32 bytes that all replicas share.
fn manager(database: &Database) -> Setup {
    Setup::new("manager")
        .with("KUBEOP_DB_URL", &database.url)
        .with("KUBEOP_DEV_INSECURE", "false")
        .with("KUBEOP_JWT_SIGNING_KEY", &BASE64_STANDARD.encode([7; 32]))
        .with("KUBEOP_KMS_MASTER_KEY", &BASE64_STANDARD.encode([9; 32]))
}

/// Creates a project and waits until it is ready.
async fn project_ready(api: &Api, tenant: &str, name: &str) -> Result<()> {
    let start = Instant::now();
    let id = scenario::project(api, tenant, name).await?.id()?;
    phase(api, &format!("/v1/projects/{id}"), "Ready").await?;
    println!("project {name} was ready after {:?}", start.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn take_over_from_each_other_and_never_oversell() -> Result<()> {
    let (plane, database) = tokio::join!(ControlPlane::start(), Database::create());
    let (plane, database) = (plane?, database?);
    // At the same time on an empty database: all must agree on one schema and one encryption seed.
    let started = join_all((0..4).map(|_| manager(&database).start())).await;
    let mut all = started.into_iter().collect::<Result<Vec<_>>>()?;
    let (mut one, mut two) = (all.remove(0), all.remove(0));
    let (first, second) = (one.api(None)?, two.api(None)?);
    let body = json!({"name": "shared", "kubeconfig": plane.kubeconfig_text()?, "autoBootstrap": true});
    let cluster = first.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    for replica in [&one, &two].into_iter().chain(&all) {
        let status = replica.api(None)?.get(&format!("/v1/clusters/{cluster}/status")).await?.expect(200)?;
        ensure!(status.json["reachable"] == true, "a replica cannot open the kubeconfig: {}", status.text);
    }
    drop(all);
    let mut operator = scenario::operator(&plane).await?;
    let quota = json!({"name": "edge", "clusterID": cluster, "quotas": {"cpu": "4", "memory": "100Gi"}});
    let edge = second.post("/v1/tenants", &quota).await?.expect(201)?.id()?;
    let tenant = scenario::tenant(&first, &cluster, "roomy").await?;
    project_ready(&second, &tenant, "before").await.with_context(|| operator.tail())?;

    // At the edge of the envelope through both: exactly what fits.
    let creates = (0..12).map(|number| {
        let api = if number % 2 == 0 { &first } else { &second };
        let body = json!({"tenantID": edge, "name": format!("p{number}"), "quotas": {"cpu": "1", "memory": "1Gi"}});
        async move { api.post("/v1/projects", &body).await }
    });
    let answers = join_all(creates).await.into_iter().collect::<Result<Vec<_>>>()?;
    let sold = answers.iter().filter(|answer| answer.status == 201).count();
    for refused in answers.into_iter().filter(|answer| answer.status != 201) {
        refused.expect_error(400, &["quota overflow"])?;
    }
    ensure!(sold == 4, "{sold} projects of 1 CPU were made in an envelope of 4");

    // Either may die; the other goes on. One of the two held the cluster's lease.
    one.kill();
    project_ready(&second, &tenant, "without-one").await.with_context(|| two.tail())?;
    one.restart().await?;
    let first = one.api(None)?;
    two.kill();
    project_ready(&first, &tenant, "without-two").await.with_context(|| one.tail())?;
    two.restart().await?;
    // An orderly end gives the lease back: no need to wait for it to go stale.
    one.process().signal("TERM")?;
    let status = one.process().end(Duration::from_secs(10)).await?;
    ensure!(status.success(), "the manager ended with {status}: {}", one.tail());
    project_ready(&two.api(None)?, &tenant, "after-term").await.with_context(|| two.tail())?;

    operator.process().signal("TERM")?;
    let status = operator.process().end(Duration::from_secs(10)).await?;
    ensure!(status.success(), "the operator ended with {status}: {}", operator.tail());
    drop((one, two));
    database.drop_it().await
}

/// Two replicas that each made a seed of their own could not open each other's kubeconfigs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_start_together_for_the_first_time_share_one_encryption_seed() -> Result<()> {
    let database = Database::create().await?;
    let migrated =
        Command::new(e2e::environment::kubeop()?).arg("migrate").env("KUBEOP_DB_URL", &database.url).output()?;
    ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    // Seeds can be read but not written until both replicas have seen that there is none.
    let (mut holding, mut looking) = tokio::try_join!(database.connect(), database.connect())?;
    let mut lock = holding.begin().await?;
    lock.execute("LOCK TABLE encryption_seed IN EXCLUSIVE MODE").await?;
    let released = async {
        until("both replicas wait for a lock", Duration::from_secs(30), async || {
            let query =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let waiting: i64 = sqlx::query_scalar(query).fetch_one(&mut looking).await?;
            Ok(Seen::when(waiting >= 2, (), format!("{waiting} wait")))
        })
        .await?;
        lock.commit().await.context("cannot release the lock")
    };
    let (one, two, released) = tokio::join!(manager(&database).start(), manager(&database).start(), released);
    released?;
    let replicas = (one?, two?);
    let seeds: i64 = sqlx::query_scalar("SELECT count(*) FROM encryption_seed").fetch_one(&mut looking).await?;
    ensure!(seeds == 1, "{seeds} encryption seeds were made");
    drop(replicas);
    database.drop_it().await
}
