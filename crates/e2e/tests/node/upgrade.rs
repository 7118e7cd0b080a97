//! Installing, upgrading under load and uninstalling.

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE, Platform};
use e2e::reviews::Reviews;
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SYSTEM: &str = "kubeop-system";

/// Kinds of which uninstalling must leave what was there, and nothing else.
const KINDS: [&str; 12] = [
    "namespaces",
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "priorityclasses",
    "apiservices",
    "deployments -A",
    "services -A",
    "networkpolicies -A",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn what_was_installed_runs_restricted_and_goes_without_a_trace() -> Result<()> {
    let node = Node::take().await?;
    let admin = node.kubectl()?;
    let before = inventory(&admin).await?;
    let platform = node.platform().await?;

    let pods = admin.json(&format!("-n {SYSTEM} get pods")).await?;
    let pods = pods["items"].as_array().context("no pods")?;
    let of =
        |name: &str| pods.iter().filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == name).count();
    ensure!(of("operator") == 1 && of("admission") == 2, "{} pods", pods.len());
    for pod in pods {
        ensure!(pod["spec"]["priorityClassName"] == "kubeop-platform", "{}", pod["spec"]);
        println!("{} ready {} s after it was made", pod["metadata"]["name"], started(pod)?);
    }
    let enforced = admin.stdout(&format!("get namespace {SYSTEM} -o jsonpath={{.metadata.labels}}")).await?;
    ensure!(enforced.contains(r#""pod-security.kubernetes.io/enforce":"restricted""#), "{enforced}");
    until("one admission pod may be disrupted", PATIENCE, async || {
        let budget = admin.json(&format!("-n {SYSTEM} get pdb kubeop-admission")).await?;
        Ok(Seen::when(budget["status"]["disruptionsAllowed"] == 1, (), budget["status"].to_string()))
    })
    .await?;
    memory(&admin, node.fact("/nodeName")?).await?;
    admission_stays_current(&platform).await?;
    // What an earlier version installed goes too; what somebody copied of it does not.
    former(&admin, "kubeop:former", "kubeop").await?;
    former(&admin, "kubeop:copy", "kubectl").await?;

    platform.uninstall().await?;
    ensure!(admin.exists("clusterrole kubeop:copy").await?, "somebody's copy is gone");
    admin.stdout("delete clusterrole kubeop:copy").await?;
    until("nothing is left", PATIENCE, async || {
        let after = inventory(&admin).await?;
        let told = format!("left: {:?}; lost: {:?}", after.difference(&before), before.difference(&after));
        Ok(Seen::when(after == before, (), told))
    })
    .await
}

/// A role with the labels of an installation, as this manager of fields applies it.
async fn former(admin: &Kubectl, name: &str, by: &str) -> Result<()> {
    let labels = json!({"app.kubernetes.io/part-of": "kubeop", "app.kubernetes.io/managed-by": "kubeop"});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}],
    });
    let manager = format!("--field-manager={by}");
    let ran = admin.run_with(&["apply", "--server-side", &manager, "-f", "-"], Some(&role.to_string())).await?;
    ensure!(ran.ok, "{name}: {}", ran.stderr);
    Ok(())
}

/// A later call without it does not leave admission behind at an old version, nor say that it is not there.
async fn admission_stays_current(platform: &Platform) -> Result<()> {
    let path = format!("/v1/platform/bootstrap?clusterID={}", platform.cluster);
    let again = platform.api.post(&path, &json!({"InstallAdmission": false})).await?.expect(200)?;
    ensure!(again.json["admission"] == true, "{}", again.text);
    let path = format!("/v1/platform/status?clusterID={}", platform.cluster);
    let status = platform.api.get(&path).await?.expect(200)?;
    ensure!(status.json["installed_version"] == status.json["manager_version"], "{}", status.text);
    Ok(())
}

/// Reviews are asked for without a pause while another image is rolled out: none fails, and none that must be denied is let through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn an_upgrade_leaves_no_gap_in_admission() -> Result<()> {
    let node = Node::take().await?;
    let mut platform = node.platform().await?;
    let admin = node.kubectl()?;
    let home = scenario::home(&platform.api, &platform.cluster, "gap").await?;
    let policy = json!({"imageAllowlist": ["docker.io"]});
    platform.api.put("/v1/platform/policy", &policy).await?.expect(200)?;
    let reviews = Reviews::start(&node.api_server()?, &home.namespace).await?;

    // The next version: the same program under another name.
    let next = node.next_image();
    platform.manager.reconfigure("KUBEOP_OPERATOR_IMAGE", &next);
    platform.manager.reconfigure("KUBEOP_BOOTSTRAP_ON_START", "true");
    platform.manager.restart().await?;
    platform.api = platform.manager.api(None)?;
    for name in ["kubeop-operator", "kubeop-admission"] {
        until(&format!("{name} has the next image"), PATIENCE, async || {
            let image = "{.spec.template.spec.containers[0].image}";
            let image = admin.stdout(&format!("-n {SYSTEM} get deployment {name} -o jsonpath={image}")).await?;
            Ok(Seen::when(image == next, (), image))
        })
        .await?;
        node::rolled_out(&admin, SYSTEM, name).await?;
    }
    // The last of the old pods serves on for a while after it was told to stop.
    until("the old pods are gone", PATIENCE, async || {
        let pods = admin.stdout(&format!("-n {SYSTEM} get pods -o name")).await?;
        Ok(Seen::when(pods.lines().count() == 3, (), pods))
    })
    .await?;
    reviews.all_answered("an upgrade").await?;
    node::ready(&platform.api, &platform.cluster).await?;

    platform.api.put("/v1/platform/policy", &json!({})).await?.expect(200)?;
    platform.delete_tenant(&home.tenant).await?;
    platform.uninstall().await
}

async fn inventory(admin: &Kubectl) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        let template = "{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
        let mut words: Vec<&str> = vec!["get"];
        words.extend(kind.split(' '));
        let output = format!("-o=jsonpath={template}");
        words.push(&output);
        let ran = admin.run_with(&words, None).await?;
        ensure!(ran.ok, "{kind}: {}", ran.stderr);
        all.extend(ran.stdout.lines().map(|line| format!("{kind}: {line}")));
    }
    Ok(all)
}

/// Seconds from a pod's creation to its being ready.
fn started(pod: &Value) -> Result<i64> {
    let conditions = pod["status"]["conditions"].as_array().context("no conditions")?;
    let ready = conditions.iter().find(|one| one["type"] == "Ready").context("no condition Ready")?;
    let at = |value: &Value| -> Result<i64> {
        let text = value.as_str().context("no time")?;
        let time: jiff::Timestamp = text.parse().context("a time")?;
        Ok(time.as_second())
    };
    Ok(at(&ready["lastTransitionTime"])? - at(&pod["metadata"]["creationTimestamp"])?)
}

/// Prints each process' memory, as the kubelet measures it.
async fn memory(admin: &Kubectl, node: &str) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = admin.stdout(&format!("get --raw /api/v1/nodes/{node}/proxy/stats/summary")).await?;
    let summary: Value = serde_json::from_str(&text).context("the kubelet's summary")?;
    for pod in summary["pods"].as_array().into_iter().flatten() {
        if pod["podRef"]["namespace"] == SYSTEM {
            let bytes = pod["containers"][0]["memory"]["rssBytes"].as_u64().unwrap_or_default();
            println!("{}: RSS {} MiB", pod["podRef"]["name"], bytes >> 20);
        }
    }
    Ok(())
}
