//! The images as the kubelet runs them: no root, nothing writable, and in the variant the git that deliveries need.

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn each_image_runs_restricted() -> Result<()> {
    let node = Node::take().await?;
    let admin = node.kubectl()?;
    let (plain, git) = (node.image().to_owned(), format!("{}-git", node.image()));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "images", "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }});
    node::apply(&admin, &namespace.to_string()).await?;

    let version = format!("kubeop {}", env!("CARGO_PKG_VERSION"));
    for image in [&plain, &git] {
        let (code, told) = run(&admin, image, &["kubeop", "--version"]).await?;
        ensure!(code == 0 && told.starts_with(&version), "{image}: {code} {told}");
    }
    let (code, told) = run(&admin, &git, &["git", "--version"]).await?;
    ensure!(code == 0 && told.starts_with("git version 2."), "{code} {told}");
    // It gets as far as the network: its helper for HTTPS, the authorities and a resolver are there.
    let (code, told) = run(&admin, &git, &["git", "ls-remote", "https://nowhere.invalid/x.git"]).await?;
    ensure!(code == 128 && told.contains("Could not resolve host"), "{code} {told}");
    // The manager would keep its data in the image's own file system, where nothing can be written.
    let (code, told) =
        run(&admin, &plain, &["kubeop", "manager", "--data-dir", "/var/lib/kubeop", "--dev-insecure=true"]).await?;
    ensure!(code != 0 && told.contains("ead-only file system"), "{code} {told}");
    admin.stdout("delete namespace images --wait=false").await.map(drop)
}

/// What a container of the image ends with and what it printed.
async fn run(admin: &Kubectl, image: &str, command: &[&str]) -> Result<(i64, String)> {
    let name = e2e::scenario::unique("run");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "images"},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            // No number: the image's own user must do.
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "it", "image": image, "command": command, "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            }}],
        },
    });
    let made = admin.create(&pod).await?;
    ensure!(made.ok, "{}", made.stderr);
    let code = until(&format!("{command:?} of {image} ended"), PATIENCE, async || {
        let pod = admin.json(&format!("-n images get pod {name}")).await?;
        let status = &pod["status"]["containerStatuses"][0]["state"];
        let code = status["terminated"]["exitCode"].as_i64();
        Ok(Seen::when(code.is_some(), code, status.to_string()))
    })
    .await?;
    let told = admin.stdout(&format!("-n images logs {name}")).await?;
    Ok((code.context("no exit code")?, told))
}
