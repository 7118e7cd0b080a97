//! Removing what a failed test left on a cluster, in an order in which nothing waits for somebody who is gone: else one failure becomes many.

use crate::kubectl::Kubectl;
use crate::wait::{Seen, until};
use anyhow::{Result, ensure};
use std::time::Duration;

/// How long pods and namespaces may take to end on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
const OURS: &str = "-l app.kubernetes.io/part-of=kubeop --ignore-not-found";
/// What refuses or delays other deletions.
const GATES: &str =
    "apiservices,validatingwebhookconfigurations,validatingadmissionpolicybindings,validatingadmissionpolicies";
const REST: &str = "customresourcedefinitions,clusterrolebindings,clusterroles,priorityclasses,namespaces";
const PROJECTS: &str = "namespaces -l app.kubeop.io/project-id --ignore-not-found";

/// Removes every installation of kubeOP, whoever made it, and what tenants had.
pub async fn remove(kubectl: &Kubectl) -> Result<()> {
    if kubectl.stdout(&format!("get {GATES},{REST} {OURS} -o name")).await?.is_empty() {
        return Ok(());
    }
    kubectl.stdout(&format!("delete {GATES} {OURS} --wait=true")).await?;
    kubectl.stdout(&format!("delete deployments -n kubeop-system {OURS} --wait=true")).await?;
    release(kubectl).await?;
    // Both at once: neither waits for the other.
    kubectl.stdout(&format!("delete {PROJECTS} --wait=false")).await?;
    kubectl.stdout(&format!("delete {REST} {OURS} --wait=false")).await?;
    until("nothing of kubeOP on the cluster", PATIENCE, async || {
        let left = kubectl.stdout(&format!("get {GATES},{REST} {OURS} -o name")).await?
            + &kubectl.stdout(&format!("get {PROJECTS} -o name")).await?;
        Ok(Seen::when(left.is_empty(), (), left))
    })
    .await
}

/// Custom resources are let go by us: whoever would do what their finalizers wait for is not there any more.
async fn release(kubectl: &Kubectl) -> Result<()> {
    let kinds = kubectl.stdout("api-resources --api-group=platform.kubeop.io -o name").await?;
    for kind in kinds.lines() {
        let listed = "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
        let found = kubectl.run_with(&["get", kind, "-A", "-o", listed], None).await?;
        ensure!(found.ok, "{kind}: {}", found.stderr);
        for (namespace, name) in found.stdout.lines().filter_map(|line| line.split_once(' ')) {
            let mut patch = vec!["patch", kind, name, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#];
            if !namespace.is_empty() {
                patch.extend(["-n", namespace]);
            }
            let ran = kubectl.run_with(&patch, None).await?;
            ensure!(ran.ok || ran.stderr.contains("NotFound"), "{kind} {namespace}/{name}: {}", ran.stderr);
        }
    }
    Ok(())
}
