//! The audit log of a running product: what only a cluster makes succeed, and `kubeop audit` beside a manager that writes.

use anyhow::{Context, Result, ensure};
use e2e::api::{Answer, Api};
use e2e::control_plane::ControlPlane;
use e2e::environment;
use e2e::kubeop::{Kubeop, Setup};
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use std::process::{Command, Output};

async fn post_once(api: &Api, path: &str, key: &str, body: &Value) -> Result<Answer> {
    api.send(api.request("POST", path)?.header("Idempotency-Key", key).json(body)).await
}

/// The records of the request behind an answer.
async fn records(api: &Api, answer: &Answer) -> Result<Vec<Value>> {
    let id = answer.header("x-request-id").context("no X-Request-Id")?.to_owned();
    let all = api.get("/v1/audit?limit=1000").await?.expect(200)?.json;
    let all = all.as_array().context("no list")?;
    Ok(all.iter().filter(|record| record["request_id"] == id.as_str()).cloned().collect())
}

fn kubeop_audit(kubeop: &Kubeop, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(environment::kubeop()?);
    command.arg("audit").args(arguments).env_clear().env("KUBEOP_DATA_DIR", kubeop.data());
    command.output().context("cannot start kubeop audit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_does_is_on_record_once_and_the_log_verifies() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let kubeop = Setup::dev().start().await?;
    let api = kubeop.api(None)?;
    let body = json!({"name": "one", "kubeconfig": plane.kubeconfig_text()?, "autoBootstrap": true});
    let registered = post_once(&api, "/v1/clusters", "register", &body).await?.expect(201)?;
    let cluster = registered.id()?;
    let home = scenario::home(&api, &cluster, "audited").await?;
    let query = format!("?clusterID={cluster}");
    let bootstrap = format!("/v1/platform/bootstrap{query}");
    let autoscale = format!("/v1/platform/autoscale{query}");
    let bounds = json!({"Enabled": true, "Min": 1, "Max": 2, "TargetCPU": 50});
    for (path, key, body, verb) in [
        ("/v1/clusters", "register", &body, "create"),
        (&bootstrap, "bootstrap", &json!({}), "bootstrap"),
        (&autoscale, "autoscale", &bounds, "autoscale"),
    ] {
        let first = if path == "/v1/clusters" {
            registered.clone()
        } else {
            post_once(&api, path, key, body).await?.expect(200)?
        };
        let found = records(&api, &first).await?;
        ensure!(found.len() == 1 && found[0]["action"] == verb, "{path}: {found:?}");
        ensure!(found[0]["after_digest"].is_string(), "{path}: {found:?}");
        let again = post_once(&api, path, key, body).await?.expect(first.status)?;
        ensure!(again.text == first.text, "{path}: {} and then {}", first.text, again.text);
        ensure!(again.header("idempotency-replayed") == Some("true"), "{path}: carried out again");
        ensure!(records(&api, &again).await?.is_empty(), "{path}: nothing was done, yet it is on record");
    }
    let issued = api.get(&format!("/v1/kubeconfigs/project/{}", home.project)).await?.expect(200)?;
    let found = records(&api, &issued).await?;
    ensure!(found.len() == 1 && found[0]["action"] == "issue", "{found:?}");

    until("all is sealed", scenario::PATIENCE, async || {
        let log = api.get("/v1/audit?limit=1000").await?.expect(200)?;
        let sealed = log.json.as_array().is_some_and(|all| all.iter().all(|record| record["seq"].is_i64()));
        Ok(Seen::when(sealed, (), log.text))
    })
    .await?;
    let heads = kubeop_audit(&kubeop, &["head"])?;
    let noted = kubeop.file("noted.txt");
    std::fs::write(&noted, &heads.stdout).context("cannot write the noted heads")?;
    let noted = noted.display().to_string();
    // The manager goes on writing meanwhile.
    scenario::tenant(&api, &cluster, "later").await?;
    let verified = kubeop_audit(&kubeop, &["verify", "--heads", &noted])?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(verified.status.success() && said.contains("sealed records in"), "{said}");
    ensure!(!said.contains("no master key"), "{said}");

    let url = format!("sqlite://{}", kubeop.data().join("kubeop.db").display());
    let mut database = SqliteConnection::connect(&url).await?;
    database.execute("UPDATE audit_record SET subject = 'nobody' WHERE action = 'issue'").await?;
    let verified = kubeop_audit(&kubeop, &["verify", "--heads", &noted])?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(verified.status.code() == Some(1), "{said}");
    let id = found[0]["id"].as_str().context("the record of the kubeconfig has no id")?;
    ensure!(said.contains(id) && said.contains(&home.tenant), "{said}");
    Ok(())
}
