//! SIGTERM under load, and what the logs hold by then.

use anyhow::{Context, Result, bail, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::kubeop::Setup;
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const POLICY: &str = r#"{"imageAllowlist":["docker.io"]}"#;

async fn policy_version(api: &Api) -> Result<i64> {
    api.get("/v1/platform/policy").await?.expect(200)?.json["version"].as_i64().context("no version")
}

/// Puts the policy again and again until the listener is gone; counts the answers.
async fn load(api: Api, answered: Arc<AtomicI64>) -> Result<()> {
    loop {
        let request =
            api.request("PUT", "/v1/platform/policy")?.header("Content-Type", "application/json").body(POLICY);
        match api.send(request).await {
            Ok(answer) if answer.status == 200 => answered.fetch_add(1, Ordering::SeqCst),
            Ok(answer) => bail!("under load: {} {}", answer.status, answer.text),
            Err(_) => return Ok(()),
        };
    }
}

/// A request of which half is sent.
async fn half_a_request(address: &str, token: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    let (half, _) = POLICY.split_at(10);
    let head = format!(
        "PUT /v1/platform/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{half}",
        POLICY.len()
    );
    stream.write_all(head.as_bytes()).await.context("cannot write")?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loses_no_request_and_logs_hold_no_secret() -> Result<()> {
    let setup = Setup::dev()
        .with_auth()
        .with("KUBEOP_LOG", "debug,h2=info,sqlx=debug,kubeop=trace,kubeop_manager=trace,kubeop_cluster=trace");
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), setup.start());
    let (plane, mut kubeop) = (plane?, kubeop?);
    let token = kubeop.token("admin", None)?;
    let api = kubeop.api(Some(&token))?;
    let kubeconfig = plane.kubeconfig_text()?;
    let cluster = scenario::register(&api, "stop", &kubeconfig).await?;
    scenario::cluster_ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "stop").await?;
    let project_token =
        api.post("/v1/jwt/project", &json!({"ProjectID": home.project})).await?.expect(200)?.text_at("/token")?;
    let issued =
        api.get(&format!("/v1/kubeconfigs/project/{}", home.project)).await?.expect(200)?.text_at("/kubeconfig")?;

    let before = policy_version(&api).await?;
    let answered = Arc::new(AtomicI64::new(0));
    let workers: Vec<_> = (0..8).map(|_| tokio::spawn(load(api.clone(), Arc::clone(&answered)))).collect();
    until("the load is on", Duration::from_secs(20), async || {
        Ok(Seen::when(answered.load(Ordering::SeqCst) > 40, (), "too few answers"))
    })
    .await?;
    let address = api.base().trim_start_matches("http://").to_owned();
    let mut half = half_a_request(&address, &token).await?;
    // The half request is being read once one that came after it is answered.
    policy_version(&api).await?;

    let start = Instant::now();
    kubeop.process().signal("TERM")?;
    until("the listener is closed", Duration::from_secs(8), async || {
        Ok(Seen::when(TcpStream::connect(&address).await.is_err(), (), "it takes connections"))
    })
    .await?;
    let (_, rest) = POLICY.split_at(10);
    half.write_all(rest.as_bytes()).await.context("the running request's connection was closed")?;
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.context("the running request was not answered")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "the running request: {answer:?}");
    let status = kubeop.process().end(Duration::from_secs(10)).await?;
    let took = start.elapsed();
    ensure!(status.success(), "it ended with {status}: {}", kubeop.tail());
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    for worker in workers {
        worker.await.context("a worker panicked")??;
    }
    let kubectl = plane.kubectl()?;
    ensure!(
        !kubectl.exists("validatingwebhookconfiguration kubeop-admission").await?,
        "the webhook of a stopped process is left"
    );

    // What was done is what was answered: the half request and the load.
    let log = kubeop.log();
    kubeop.restart().await?;
    let done = policy_version(&kubeop.api(Some(&token))?).await? - before;
    let told = answered.load(Ordering::SeqCst) + 1;
    ensure!(done == told, "{done} changes were made, {told} were answered");
    println!("{told} changes, end after {took:?}");

    for line in log.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON in the log: {line}"))?;
        ensure!(value["timestamp"].is_string() && value["level"].is_string(), "no time or level: {line}");
    }
    let mut secrets = vec![token, project_token];
    for text in [&kubeconfig, &issued] {
        let found = text.lines().filter_map(|line| line.trim().split_once(": "));
        secrets.extend(
            found
                .filter(|(key, _)| matches!(*key, "client-key-data" | "token"))
                .map(|(_, value)| value.trim_matches('"').to_owned()),
        );
    }
    for entry in std::fs::read_dir(kubeop.data()).context("cannot list the data directory")?.flatten() {
        if entry.path().extension().is_some_and(|kind| kind == "key") {
            secrets.push(std::fs::read_to_string(entry.path()).context("cannot read a key")?.trim().to_owned());
        }
    }
    ensure!(secrets.len() >= 6, "{} secrets were found to look for", secrets.len());
    for secret in secrets {
        // The signature of a token, or the middle of a key: a part is as bad as the whole.
        let part: String = secret.rsplit('.').next().unwrap_or(&secret).chars().take(40).collect();
        ensure!(
            part.len() >= 32 && !log.contains(&part),
            "a secret is in the log: {}...",
            part.get(..6).unwrap_or_default()
        );
    }
    Ok(())
}
