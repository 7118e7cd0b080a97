//! Admission's certificate and its CA: thrown away, and renewed while reviews are asked for.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE, Platform};
use e2e::reviews::Reviews;
use e2e::scenario;
use e2e::wait::{Seen, until};
use jiff::{SignedDuration, Timestamp};
use kubeop_cluster::certificate::{CA_LIFE, LEAF_LIFE, Pair, make_ca, make_leaf};
use kubeop_core::clock::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const SYSTEM: &str = "kubeop-system";
const SECRET: &str = "kubeop-admission-tls";
const EXPIRY: &str = "kubeop_admission_certificate_expiry_timestamp_seconds ";
const NAMES: [&str; 2] = ["kubeop-admission.kubeop-system.svc", "kubeop-admission.kubeop-system.svc.cluster.local"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn a_certificate_is_replaced_and_renewed() -> Result<()> {
    let node = Node::take().await?;
    let platform = node.platform().await?;
    let admin = node.kubectl()?;
    let home = scenario::home(&platform.api, &platform.cluster, "renewed").await?;
    platform.api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io"]})).await?.expect(200)?;

    replaced(&node, &platform, &admin, &home.namespace).await?;
    renewed(&node, &admin, &home.namespace).await?;
    node::ready(&platform.api, &platform.cluster).await?;

    platform.api.put("/v1/platform/policy", &json!({})).await?.expect(200)?;
    platform.delete_tenant(&home.tenant).await?;
    platform.uninstall().await
}

/// The certificate is thrown away: there is another CA, and reviews are answered again.
async fn replaced(node: &Node, platform: &Platform, admin: &Kubectl, namespace: &str) -> Result<()> {
    let before = bundle(admin).await?;
    admin.stdout(&format!("-n {SYSTEM} delete secret {SECRET}")).await?;
    until("another CA", PATIENCE, async || {
        let now = bundle(admin).await?;
        Ok(Seen::when(!now.is_empty() && now != before, (), "the same CA"))
    })
    .await?;
    node::ready(&platform.api, &platform.cluster).await?;
    Reviews::answered(&node.api_server()?, namespace).await
}

/// CA and leaf have come to two thirds of their lives: both are renewed, the CA is trusted before its leaf is served, and no review fails.
async fn renewed(node: &Node, admin: &Kubectl, namespace: &str) -> Result<()> {
    let (now, day) = (SystemClock.now(), SignedDuration::from_hours(24));
    let ca = make_ca("kubeOP admission CA", now - CA_LIFE * 2 / 3 - day)?;
    let leaf = make_leaf(&ca, "kubeop-admission", &NAMES.map(ToOwned::to_owned), now - LEAF_LIFE * 2 / 3 - day)?;
    admin.stdout(&format!("-n {SYSTEM} scale deployment kubeop-operator --replicas=0")).await?;
    until("no operator", PATIENCE, async || {
        let pods =
            admin.stdout(&format!("-n {SYSTEM} get pods -l app.kubernetes.io/component=operator -o name")).await?;
        Ok(Seen::when(pods.is_empty(), (), pods))
    })
    .await?;
    install(admin, &ca, &leaf).await?;
    let reviews = Reviews::start(&node.api_server()?, namespace).await?;

    let old = BASE64_STANDARD.encode(&leaf.certificate);
    admin.stdout(&format!("-n {SYSTEM} scale deployment kubeop-operator --replicas=1")).await?;
    until("a new leaf of a new CA", PATIENCE, async || {
        let secret = admin.json(&format!("-n {SYSTEM} get secret {SECRET}")).await?;
        let text = BASE64_STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap_or_default())?;
        let authorities = String::from_utf8_lossy(&text).matches("BEGIN CERTIFICATE").count();
        let done = authorities == 2 && secret["data"]["tls.crt"] != old.as_str();
        Ok(Seen::when(
            done,
            (),
            format!("{authorities} CAs, the leaf of before: {}", secret["data"]["tls.crt"] == old.as_str()),
        ))
    })
    .await?;
    served_until(admin, now + LEAF_LIFE / 2).await?;
    reviews.all_answered("a renewal").await
}

/// Waits until both pods serve a certificate that is valid at this time.
async fn served_until(admin: &Kubectl, time: Timestamp) -> Result<()> {
    until("both pods serve the new leaf", PATIENCE, async || {
        let pods =
            admin.stdout(&format!("-n {SYSTEM} get pods -l app.kubernetes.io/component=admission -o name")).await?;
        let mut served = Vec::new();
        for pod in pods.lines() {
            let metrics = node::forwarded(admin, &format!("-n {SYSTEM} {pod}"), 9090, "/metrics").await?;
            let expiry = metrics.lines().find_map(|line| line.strip_prefix(EXPIRY)?.trim().parse::<i64>().ok());
            served.push(expiry.with_context(|| format!("{pod} tells no expiry:\n{metrics}"))?);
        }
        let done = served.len() == 2 && served.iter().all(|expiry| *expiry > time.as_second());
        Ok(Seen::when(done, (), format!("certificates that expire at {served:?}")))
    })
    .await
}

/// Puts a CA with its leaf in place of the one in force, as if it had been there all the while.
async fn install(admin: &Kubectl, ca: &Pair, leaf: &Pair) -> Result<()> {
    let patch = json!({"stringData": {
        "tls.crt": leaf.certificate, "tls.key": leaf.key.expose_secret(),
        "ca.crt": ca.certificate, "ca.key": ca.key.expose_secret(),
    }});
    patched(admin, &["-n", SYSTEM, "secret", SECRET, "--type=merge"], &patch).await?;
    let trusted = BASE64_STANDARD.encode(&ca.certificate);
    let at =
        |at: usize| json!({"op": "replace", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": trusted});
    patched(admin, &["validatingwebhookconfiguration", "kubeop-admission", "--type=json"], &json!([at(0), at(1)])).await
}

async fn patched(admin: &Kubectl, what: &[&str], patch: &Value) -> Result<()> {
    let text = patch.to_string();
    let ran = admin.run_with(&[&["patch"], what, &["-p", &text]].concat(), None).await?;
    ensure!(ran.ok, "{}", ran.stderr);
    Ok(())
}

async fn bundle(admin: &Kubectl) -> Result<String> {
    let path = "-o jsonpath={.webhooks[0].clientConfig.caBundle}";
    admin.stdout(&format!("get validatingwebhookconfiguration kubeop-admission {path}")).await.context("the CA bundle")
}
