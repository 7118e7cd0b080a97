//! From `POST /v1/projects` to a namespace that can be used, one project at a time, and the memory of the process that does it.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::daemon::Daemon;
use crate::{http, progress, supervise::workdir::WorkDir};

const PATIENCE: Duration = Duration::from_mins(2);
/// How long the process is left alone before its memory counts as idle.
const REST: Duration = Duration::from_secs(10);

/// One figure per run.
pub(super) struct Figures {
    pub(super) answered: Vec<Duration>,
    pub(super) usable: Vec<Duration>,
    pub(super) idle: Option<u32>,
    pub(super) after: Option<u32>,
}

pub(super) fn measure(kubeop: &Path, scratch: &WorkDir, kubeconfig: &Path, runs: u32) -> Result<Figures> {
    let data = scratch.file("dev");
    fs::create_dir(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let daemon = Daemon::start(kubeop, "dev", &data, Some(kubeconfig))?;
    let cluster = register(daemon.address, kubeconfig)?;
    let tenant = created(daemon.address, "/v1/tenants", &json!({"name": "bench", "clusterID": cluster}))?;
    thread::sleep(REST);
    let idle = daemon.memory();
    let (mut answered, mut usable) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let start = Instant::now();
        let project = created(daemon.address, "/v1/projects", &json!({"tenantID": tenant, "name": format!("p{run}")}))?;
        answered.push(start.elapsed());
        wait_ready(daemon.address, &project)?;
        usable.push(start.elapsed());
    }
    progress::note(&format!("{runs} projects are ready"));
    Ok(Figures { answered, usable, idle, after: daemon.memory() })
}

/// Registers the cluster and waits until operator and admission answer.
fn register(address: SocketAddr, kubeconfig: &Path) -> Result<String> {
    let text = fs::read(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let body = json!({"name": "bench", "kubeconfig": STANDARD.encode(text), "autoBootstrap": true, "installAdmission": true, "withMocks": true});
    let cluster = created(address, "/v1/clusters", &body)?;
    let start = Instant::now();
    loop {
        let answer = http::request(address, "GET", &format!("/v1/clusters/{cluster}/ready"), None)?;
        if answer.status == 200 {
            progress::note(&format!("the cluster was ready {} after its registration", progress::since(start)));
            return Ok(cluster);
        }
        if start.elapsed() > PATIENCE {
            bail!("the cluster did not become ready: {}", answer.body);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn created(address: SocketAddr, path: &str, body: &Value) -> Result<String> {
    let answer = http::request(address, "POST", path, Some(&body.to_string()))?;
    if answer.status != 201 {
        bail!("POST {path}: {} {}", answer.status, answer.body);
    }
    let value: Value =
        serde_json::from_str(&answer.body).with_context(|| format!("POST {path}: the answer is not JSON"))?;
    value
        .get("id")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("POST {path}: the answer has no id"))
}

fn wait_ready(address: SocketAddr, project: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = http::request(address, "GET", &format!("/v1/projects/{project}"), None)?;
        let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if value.pointer("/status/phase").and_then(Value::as_str) == Some("Ready") {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("the project did not become ready: {}", answer.body);
        }
        thread::sleep(Duration::from_millis(3));
    }
}
