//! Autoscaling on the node's metrics, and a metrics server where there is none.

use anyhow::{Result, ensure};
use e2e::node::{Node, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn operator_and_admission_scale_on_metrics_of_a_server_that_bootstrap_installed() -> Result<()> {
    let node = Node::take().await?;
    let platform = node.platform().await?;
    let (api, admin) = (&platform.api, node.kubectl()?);
    let bootstrap = format!("/v1/platform/bootstrap?clusterID={}", platform.cluster);

    // The cluster's own server is left alone.
    let kept = api.post(&bootstrap, &json!({"InstallMetricsServer": true})).await?.expect(200)?;
    let owner = "get apiservice v1beta1.metrics.k8s.io -o jsonpath={.metadata.labels}";
    ensure!(
        !admin.stdout(owner).await?.contains(r#""app.kubernetes.io/managed-by":"kubeop""#),
        "taken over: {}",
        kept.text
    );

    // Without one, ours comes and is used.
    let mut own = Vec::new();
    for object in SERVER {
        own.push(admin.stdout(&format!("get {object} -o yaml")).await?);
        admin.stdout(&format!("delete {object}")).await?;
    }
    api.post(&bootstrap, &json!({"InstallMetricsServer": true})).await?.expect(200)?;
    until("resource metrics of our pods", PATIENCE, async || {
        let ran = admin.run("-n kubeop-system top pods --no-headers").await?;
        Ok(Seen::when(ran.ok && ran.stdout.lines().count() >= 3, (), format!("{}{}", ran.stdout, ran.stderr)))
    })
    .await?;
    println!("{}", admin.stdout("-n kubeop-system top pods").await?);

    // A target that any work exceeds.
    let autoscale = format!("/v1/platform/autoscale?clusterID={}", platform.cluster);
    let bounds = json!({"Enabled": true, "Min": 1, "Max": 3, "TargetCPU": 1});
    api.post(&autoscale, &bounds).await?.expect(200)?;
    for (role, before) in [("operator", 1), ("admission", 2)] {
        until(&format!("more pods of {role}"), PATIENCE, async || {
            // Work for both, so that they use more than half a thousandth of a core; a look at the status asks admission too.
            api.post(&bootstrap, &json!({})).await?.expect(200)?;
            api.get(&format!("/v1/clusters/{}/status", platform.cluster)).await?.expect(200)?;
            let found = admin.json(&format!("-n kubeop-system get deployment kubeop-{role}")).await?;
            let told = admin.stdout(&format!("-n kubeop-system describe hpa kubeop-{role}")).await?;
            let ready = found["status"]["readyReplicas"].as_i64().unwrap_or_default();
            Ok(Seen::when(ready > before, (), format!("{ready} ready; {told}")))
        })
        .await?;
        api.post(&bootstrap, &json!({})).await?.expect(200)?;
        let kept = admin.json(&format!("-n kubeop-system get deployment kubeop-{role}")).await?;
        let replicas = kept["spec"]["replicas"].as_i64();
        ensure!(replicas > Some(before), "a bootstrap took {role} back to {replicas:?}");
    }
    api.post(&autoscale, &json!({"Enabled": false})).await?.expect(200)?;
    ensure!(admin.stdout("-n kubeop-system get hpa -o name").await?.is_empty(), "an autoscaler is left");

    platform.uninstall().await?;
    ensure!(!admin.exists("apiservice v1beta1.metrics.k8s.io").await?, "our metrics server stayed");
    // The APIService last: one whose Service is missing keeps namespaces from ending.
    for yaml in own.iter().rev() {
        e2e::node::apply(&admin, &without_status(yaml)).await?;
    }
    until("the cluster's own metrics again", PATIENCE, async || {
        let ran = admin.run("top nodes").await?;
        Ok(Seen::when(ran.ok, (), ran.stderr))
    })
    .await
}

/// What the test cluster's metrics server is made of, the `APIService` first.
const SERVER: [&str; 9] = [
    "apiservice v1beta1.metrics.k8s.io",
    "-n kube-system deployment metrics-server",
    "-n kube-system service metrics-server",
    "-n kube-system rolebinding metrics-server-auth-reader",
    "clusterrolebinding metrics-server:system:auth-delegator",
    "clusterrolebinding system:metrics-server",
    "clusterrole system:metrics-server",
    "clusterrole system:aggregated-metrics-reader",
    "-n kube-system serviceaccount metrics-server",
];

/// What kubectl printed, without what only the object that was there can carry.
fn without_status(yaml: &str) -> String {
    let lines = yaml.split("\nstatus:").next().unwrap_or(yaml).lines();
    let kept: Vec<&str> = lines
        .filter(|line| {
            !["  uid:", "  resourceVersion:", "  clusterIP", "  - 10."].iter().any(|key| line.starts_with(key))
        })
        .collect();
    kept.join("\n")
}
