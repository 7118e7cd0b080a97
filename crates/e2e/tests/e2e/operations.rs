//! What operators and clients rely on from the first day: probes, metrics, the OpenAPI document, request ids, the error shape.

use anyhow::{Context, Result, ensure};
use e2e::api::Answer;
use e2e::environment::repository;
use e2e::kubeop::Setup;
use e2e::scenario::{self, unique};
use e2e::world::World;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const JSON: Option<&str> = Some("application/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_metrics_and_version_answer_without_a_token() -> Result<()> {
    let world = World::shared().await?;
    let open = world.admin()?.without_token();
    scenario::home(&world.admin()?, &world.cluster, "metrics").await?;
    ensure!(open.get("/healthz").await?.expect(200)?.json == json!({"status": "ok"}), "/healthz");
    open.get("/readyz").await?.expect(200)?;
    let version = open.get("/version").await?.expect(200)?;
    for field in ["version", "commit", "built_at", "rust"] {
        ensure!(version.json[field].is_string(), "/version has no {field}: {}", version.text);
    }
    let metrics = open.get("/metrics").await?.expect(200)?;
    for series in [
        "kubeop_manager_http_request_duration_seconds_bucket{",
        "route=\"/v1/projects\"",
        "kubeop_manager_sync_duration_seconds_bucket{",
        "kubeop_operator_reconcile_duration_seconds_bucket{",
        "kubeop_admission_",
    ] {
        ensure!(metrics.text.contains(series), "/metrics has no {series}:\n{}", metrics.text);
    }
    ensure!(metrics.text.trim_end().ends_with("# EOF"), "no OpenMetrics text");
    Ok(())
}

/// What documents tell people to watch is there under that name: an alarm on another never rings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_a_document_names_is_there() -> Result<()> {
    let served = World::shared().await?.admin()?.without_token().get("/metrics").await?.expect(200)?.text;
    let kinds: BTreeMap<&str, &str> =
        served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut looked = 0;
    for page in ["audit.md", "events.md", "operations/run.md"] {
        let path = repository().join("docs").join(page);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        for name in words.filter(|word| word.starts_with("kubeop_manager_") && !word.ends_with('_')) {
            let of =
                |suffix: &str, kind: &str| name.strip_suffix(suffix).is_some_and(|name| kinds.get(name) == Some(&kind));
            let there = kinds.get(name) == Some(&"gauge") || of("_total", "counter") || of("_count", "histogram");
            ensure!(there, "{page} names {name}, and /metrics has {kinds:?}");
            looked += 1;
        }
    }
    ensure!(looked >= 6, "only {looked} names were found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_with_an_address_of_their_own_are_not_everybodys() -> Result<()> {
    let manager = Setup::new("manager").with("KUBEOP_METRICS_ADDR", "127.0.0.1:0").start().await?;
    manager.api(None)?.get("/metrics").await?.expect_error(404, &["KUBEOP_METRICS_ADDR"]).map(drop)
}

/// Every `$ref` of a document leads somewhere.
fn unresolved(document: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                if target.is_none() {
                    found.push(reference.to_owned());
                }
            }
            fields.values().for_each(|field| unresolved(document, field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| unresolved(document, item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_is_whole() -> Result<()> {
    let world = World::shared().await?;
    let document = world.admin()?.without_token().get("/openapi.json").await?.expect(200)?.json;
    ensure!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let mut lost = Vec::new();
    unresolved(&document, &document, &mut lost);
    ensure!(lost.is_empty(), "references that lead nowhere: {lost:?}");
    // Every operation that both seeds name.
    for (path, methods) in [
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
        ("/version", "get"),
        ("/openapi.json", "get"),
        ("/v1/clusters", "get post"),
        ("/v1/clusters/{id}", "get delete"),
        ("/v1/clusters/{id}/status", "get"),
        ("/v1/clusters/{id}/ready", "get"),
        ("/v1/tenants", "get post put patch"),
        ("/v1/tenants/{id}", "get delete put patch"),
        ("/v1/projects", "get post put patch"),
        ("/v1/projects/{id}", "get delete put patch"),
        ("/v1/apps", "get post put patch"),
        ("/v1/apps/{id}", "get delete put patch"),
        ("/v1/platform/policy", "get put"),
        ("/v1/platform/bootstrap", "post"),
        ("/v1/platform/autoscale", "post"),
        ("/v1/platform/status", "get"),
        ("/v1/jwt/project", "post"),
        ("/v1/kubeconfigs/project/{id}", "get"),
        ("/v1/usage/ingest", "post"),
        ("/v1/usage/snapshot", "get"),
        ("/v1/analytics/summary", "get"),
    ] {
        for method in methods.split(' ') {
            ensure!(document["paths"][path][method].is_object(), "the document has no {method} {path}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_echoed_if_sane_and_made_if_not() -> Result<()> {
    let world = World::shared().await?;
    let api = world.admin()?;
    let with = async |id: &str| api.send(api.request("GET", "/v1/clusters")?.header("X-Request-Id", id)).await;
    let id = unique("req");
    ensure!(with(&id).await?.header("x-request-id") == Some(&id), "a sane id is echoed");
    for bad in ["a b", "x\"y", &"x".repeat(65), "${jndi:x}"] {
        let made = with(bad).await?.header("x-request-id").context("no id")?.to_owned();
        ensure!(made != bad && !made.is_empty(), "{bad:?} was echoed");
    }
    let (one, two) = (api.get("/healthz").await?, api.get("/nowhere").await?);
    ensure!(
        one.header("x-request-id").is_some() && one.header("x-request-id") != two.header("x-request-id"),
        "made ids differ"
    );
    ensure!(world.kubeop().log().contains(&id), "the id is not in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_the_error_shape() -> Result<()> {
    let world = World::shared().await?;
    let api = world.admin()?;
    let send = async |method: &str, path: &str, kind: Option<&str>, body: Vec<u8>| -> Result<Answer> {
        let request = api.request(method, path)?.body(body);
        api.send(match kind {
            Some(kind) => request.header("Content-Type", kind),
            None => request,
        })
        .await
    };
    for (body, part) in [
        ("", ""),
        ("{", ""),
        ("null", ""),
        ("[]", ""),
        ("\"text\"", ""),
        ("{\"name\":\"a\"} x", ""),
        ("{\"name\":\"a\",\"name\":\"b\"}", "name"),
        ("{\"clusterID\":\"a\",\"cluster_id\":\"b\"}", "cluster"),
        ("{\"nmae\":\"a\"}", "name"),
        ("{\"name\":5}", "name"),
        ("{\"name\":\"Not A Name\"}", "name"),
        ("{\"name\":\"a\"}", "cluster_id"),
        ("{\"name\":\"a\",\"clusterID\":\"nonsense\"}", "cluster_id"),
        ("{\"name\":\"a\",\"clusterID\":\"00000000-0000-7000-8000-000000000000\"}", "cluster"),
        ("{\"name\":\"\\ud800\"}", ""),
    ] {
        send("POST", "/v1/tenants", JSON, body.into())
            .await?
            .expect_error(400, &[part])
            .with_context(|| body.to_owned())?;
    }
    send("POST", "/v1/tenants", JSON, vec![0xff, 0xfe, 0x00]).await?.expect_error(400, &["UTF-8"])?;
    send("POST", "/v1/tenants", JSON, format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into())
        .await?
        .expect_error(400, &[])?;
    for quantity in ["1e2147483648", "-1", "abc", "NaN", &"9".repeat(5000)] {
        let body = json!({"name": unique("q"), "clusterID": world.cluster, "quotas": {"cpu": quantity}});
        api.post("/v1/tenants", &body).await?.expect_error(400, &["cpu"])?;
    }
    send("POST", "/v1/tenants", None, b"{}".to_vec()).await?.expect_error(415, &[])?;
    send("POST", "/v1/tenants", Some("text/plain"), b"{}".to_vec()).await?.expect_error(415, &["text/plain"])?;
    send("POST", "/v1/tenants", Some("application/x-www-form-urlencoded"), b"a=b".to_vec())
        .await?
        .expect_error(415, &[])?;
    let big = |bytes: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(bytes)).into_bytes();
    send("POST", "/v1/tenants", JSON, big(1 << 20)).await?.expect_error(413, &[])?;
    send("POST", "/v1/apps", JSON, big(3 << 20)).await?.expect_error(413, &[])?;
    send("POST", "/v1/usage/ingest", JSON, big(16 << 20)).await?.expect_error(413, &[])?;
    for path in ["/", "/v1", "/v1/nothing", "/v1/tenants/", "/v2/tenants", "/v1/tenants/a/b", "//v1/tenants"] {
        send("GET", path, None, Vec::new()).await?.expect_error(404, &[])?;
    }
    for (method, path) in
        [("DELETE", "/v1/clusters"), ("POST", "/healthz"), ("GET", "/v1/usage/ingest"), ("BREW", "/v1/apps")]
    {
        send(method, path, None, Vec::new()).await?.expect_error(405, &[])?;
    }
    for id in ["nonsense", "00000000-0000-0000-0000-00000000000g", "%00", "..%2f..", "'%20OR%201=1"] {
        let answer = api.get(&format!("/v1/tenants/{id}")).await?;
        ensure!(matches!(answer.status, 400 | 404), "/v1/tenants/{id}: {} {}", answer.status, answer.text);
        let status = answer.status;
        answer.expect_error(status, &[])?;
    }
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=nonsense", "?color=red", "?limit=1&limit=2"] {
        api.get(&format!("/v1/tenants{query}")).await?.expect_error(400, &[]).with_context(|| query.to_owned())?;
    }
    // A kubeconfig that would make the manager run or read something.
    for (kubeconfig, part) in [
        ("~/.kube/config", "file"),
        ("apiVersion: v1\nkind: Config\ncurrent-context: a\n", ""),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: a, user: {exec: {command: id}}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
            "exec",
        ),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: a, user: {tokenFile: /etc/passwd}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
            "tokenFile",
        ),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: a, user: {token: t}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
            "",
        ),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'https://169.254.169.254'}}]\nusers: [{name: a, user: {token: t}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
            "169.254.169.254",
        ),
    ] {
        let body = json!({"name": unique("bad"), "kubeconfig": kubeconfig});
        api.post("/v1/clusters", &body).await?.expect_error(400, &[part])?;
    }
    let clusters = api.get("/v1/clusters").await?.expect(200)?;
    ensure!(clusters.json.as_array().is_some_and(|all| all.len() == 1), "something was half stored: {}", clusters.text);
    ensure!(!world.kubeop().log().contains("panicked"), "a handler panicked");
    Ok(())
}
