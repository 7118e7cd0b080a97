//! Guardrails: the policy reaches the cluster, and what it forbids is denied there and at the API, in the same words.

use anyhow::{Result, ensure};
use e2e::api::Api;
use e2e::kubectl::{Kubectl, Ran};
use e2e::scenario::{self, Home, PATIENCE, pod, unique};
use e2e::wait::{Seen, until};
use e2e::world::World;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ALLOWED: &str = "docker.io/library/nginx:1.25";
const FOREIGN: &str = "quay.io/acme/nginx:1.25";
const EGRESS: &str = "10.0.0.0/8";
/// How soon a changed policy is on the cluster, and how soon admission obeys it. A busy machine may need several attempts to show it.
const ON_CLUSTER: Duration = Duration::from_secs(1);
const OBEYED: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 5;

/// Every image any test uses comes from `docker.io`, so that a policy that allows it disturbs none.
fn policy(images: &[&str], egress: &[&str]) -> Value {
    json!({"imageAllowlist": images, "egressBaseline": egress, "quotaMax": {"requestsCPU": "4", "requestsMemory": "8Gi"}})
}

async fn config_map(kubectl: &Kubectl) -> Result<Value> {
    Ok(kubectl.json("-n kubeop-system get configmap kubeop-policy").await?["data"].take())
}

/// Puts a policy and waits until the cluster holds it; how long that took.
async fn put(api: &Api, kubectl: &Kubectl, policy: &Value) -> Result<Duration> {
    let answer = api.put("/v1/platform/policy", policy).await?.expect(200)?;
    let (start, version) = (Instant::now(), answer.json["version"].to_string());
    until("the ConfigMap kubeop-policy follows", PATIENCE, async || {
        let data = config_map(kubectl).await?;
        Ok(Seen::when(data["version"].as_str() == Some(&version), (), data.to_string()))
    })
    .await?;
    Ok(start.elapsed())
}

fn denied(ran: &Ran, what: &str, parts: &[&str]) -> Result<()> {
    ensure!(!ran.ok, "{what} was admitted");
    for part in parts {
        ensure!(ran.stderr.contains(part), "{what}: {part:?} is missing in the denial: {}", ran.stderr);
    }
    Ok(())
}

fn admitted(ran: &Ran, what: &str) -> Result<()> {
    ensure!(ran.ok, "{what} was denied: {}", ran.stderr);
    Ok(())
}

/// Waits until a pod with a foreign image is denied (or admitted), which it is once admission has read the policy; how long that took.
async fn obeyed(tenant: &Kubectl, home: &Home, denied: bool) -> Result<Duration> {
    let start = Instant::now();
    until("admission obeys the policy", PATIENCE, async || {
        let ran = tenant.create(&pod(&unique("early"), &home.namespace, &[FOREIGN])).await?;
        let so = if denied { !ran.ok && ran.stderr.contains("is not allowed") } else { ran.ok };
        Ok(Seen::when(so, (), format!("{} {}", ran.stdout, ran.stderr)))
    })
    .await?;
    Ok(start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_allow_list_holds_for_every_kind_of_container() -> Result<()> {
    let world = World::shared().await?;
    let _alone = world.policy_guard().await;
    let (api, admin) = (world.admin()?, world.kubectl()?);
    let home = scenario::home(&api, &world.cluster, "images").await?;
    let file = world.kubeop().file(&unique("kubeconfig"));
    let (_, tenant) = scenario::kubeconfig(&api, &home.project, "", &file).await?;

    let mut in_time = false;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            put(&api, &admin, &policy(&[], &[])).await?;
            obeyed(&tenant, &home, false).await?;
        }
        let on_cluster = put(&api, &admin, &policy(&["docker.io", "ghcr.io"], &[])).await?;
        let obeyed = obeyed(&tenant, &home, true).await?;
        println!("on the cluster after {on_cluster:?}, obeyed {obeyed:?} later");
        in_time = on_cluster < ON_CLUSTER && obeyed < OBEYED;
        if in_time {
            break;
        }
    }
    ensure!(
        in_time,
        "in {ATTEMPTS} attempts the policy was never on the cluster within {ON_CLUSTER:?} and obeyed within {OBEYED:?}"
    );

    let words = ["quay.io/acme/nginx:1.25", "is not allowed", "docker.io, ghcr.io"];
    // containers: the first and a later one.
    for (images, twins) in [([FOREIGN, ALLOWED], [ALLOWED, ALLOWED]), ([ALLOWED, FOREIGN], [ALLOWED, ALLOWED])] {
        denied(&tenant.create(&pod(&unique("p"), &home.namespace, &images)).await?, "a foreign image", &words)?;
        admitted(&tenant.create(&pod(&unique("p"), &home.namespace, &twins)).await?, "its allowed twin")?;
    }
    // initContainers.
    let with_init = |image: &str| {
        let mut pod = pod(&unique("i"), &home.namespace, &[ALLOWED]);
        pod["spec"]["initContainers"] = json!([{"name": "init", "image": image}]);
        pod
    };
    denied(&tenant.create(&with_init(FOREIGN)).await?, "a foreign init image", &words)?;
    admitted(&tenant.create(&with_init(ALLOWED)).await?, "its allowed twin")?;
    // ephemeralContainers, through their subresource; as administrator, for whom the rule holds too.
    let name = unique("e");
    admitted(&tenant.create(&pod(&name, &home.namespace, &[ALLOWED])).await?, "a pod")?;
    let path = format!("/api/v1/namespaces/{}/pods/{name}/ephemeralcontainers", home.namespace);
    for (image, allowed) in [(FOREIGN, false), (ALLOWED, true)] {
        let mut live = admin.json(&format!("-n {} get pod {name}", home.namespace)).await?;
        live["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": image}]);
        let ran = admin.run_with(&["replace", "--raw", &path, "-f", "-"], Some(&live.to_string())).await?;
        if allowed {
            admitted(&ran, "an allowed ephemeral image")?;
        } else {
            denied(&ran, "a foreign ephemeral image", &words)?;
        }
    }
    // What only looks like an allowed registry; and Docker's short names are what they stand for.
    let ran = tenant.create(&pod(&unique("p"), &home.namespace, &["docker.io.evil.com/nginx"])).await?;
    denied(&ran, "a lookalike registry", &["docker.io.evil.com", "is not allowed"])?;
    admitted(&tenant.create(&pod(&unique("p"), &home.namespace, &["nginx"])).await?, "a short name")?;
    // Changing the image of a running pod.
    let ran = tenant.run(&format!("set image pod/{name} c0={FOREIGN}")).await?;
    denied(&ran, "a changed image", &words)?;

    // The API says the same.
    let body = json!({"projectID": home.project, "name": "bad", "image": FOREIGN, "host": "bad.local"});
    api.post("/v1/apps", &body).await?.expect_error(400, &words)?;
    let hooks = json!({"projectID": home.project, "name": "bad", "spec": {"delivery": {"image": ALLOWED},
        "hooks": {"pre": [{"name": "h", "image": FOREIGN}]}}});
    let refused = api.post("/v1/apps", &hooks).await?;
    ensure!(refused.status == 400, "an app with a foreign hook image: {} {}", refused.status, refused.text);
    // And so does admission for an App that somebody applies.
    let custom = json!({"apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App",
        "metadata": {"name": "bad", "namespace": home.namespace}, "spec": {"delivery": {"image": FOREIGN}}});
    denied(&tenant.create(&custom).await?, "an App with a foreign image", &words)?;

    put(&api, &admin, &policy(&[], &[])).await?;
    obeyed(&tenant, &home, false).await?;
    Ok(())
}

fn network_policy(namespace: &str, cidr: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": unique("own"), "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]}})
}

/// The CIDRs that the platform's own policies open in a namespace.
async fn opened(kubectl: &Kubectl, namespace: &str) -> Result<Vec<String>> {
    let list = kubectl.json(&format!("-n {namespace} get networkpolicies")).await?;
    let mut found = Vec::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let ours = item["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("kubeop-baseline-"));
        for peer in item["spec"]["egress"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|rule| rule["to"].as_array().into_iter().flatten())
        {
            found.extend(peer["ipBlock"]["cidr"].as_str().filter(|_| ours).map(ToOwned::to_owned));
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_egress_baseline_closes_projects_and_what_tenants_open() -> Result<()> {
    let world = World::shared().await?;
    let _alone = world.policy_guard().await;
    let (api, admin) = (world.admin()?, world.kubectl()?);
    put(&api, &admin, &policy(&[], &[])).await?;
    let home = scenario::home(&api, &world.cluster, "egress").await?;
    let file = world.kubeop().file(&unique("kubeconfig"));
    let (_, tenant) = scenario::kubeconfig(&api, &home.project, "", &file).await?;
    ensure!(opened(&admin, &home.namespace).await? == ["0.0.0.0/0", "::/0"], "an open baseline opens everything");
    let metadata = tenant.create(&network_policy(&home.namespace, "169.254.169.254/32")).await?;
    ensure!(!metadata.ok, "the metadata address was opened under an open baseline");

    put(&api, &admin, &policy(&[], &[EGRESS, "172.16.0.0/12"])).await?;
    until("the existing project's baseline follows", Duration::from_secs(20), async || {
        let found = opened(&admin, &home.namespace).await?;
        Ok(Seen::when(found == [EGRESS, "172.16.0.0/12"], (), format!("{found:?}")))
    })
    .await?;
    until("a tenant's policy outside the baseline is denied", PATIENCE, async || {
        let ran = tenant.create(&network_policy(&home.namespace, "192.0.2.0/24")).await?;
        Ok(Seen::when(!ran.ok && ran.stderr.contains("egress baseline"), (), format!("{} {}", ran.stdout, ran.stderr)))
    })
    .await?;
    let words = ["egress baseline", "10.0.0.0/8"];
    for outside in ["192.0.2.0/24", "0.0.0.0/0", "10.0.0.0/7", "::/0"] {
        let ran = tenant.create(&network_policy(&home.namespace, outside)).await?;
        denied(&ran, &format!("egress to {outside}"), &words)?;
    }
    for inside in ["10.1.0.0/16", "172.16.0.0/12", "10.0.0.1/32"] {
        admitted(&tenant.create(&network_policy(&home.namespace, inside)).await?, &format!("egress to {inside}"))?;
    }
    let mut everywhere = network_policy(&home.namespace, EGRESS);
    everywhere["spec"]["egress"] = json!([{}]);
    denied(&tenant.create(&everywhere).await?, "egress without a destination", &[])?;
    // The platform's own are out of the tenant's reach.
    for words in ["delete networkpolicy kubeop-baseline-outside", "label networkpolicy kubeop-baseline-outside a=b"] {
        let ran = tenant.run(words).await?;
        ensure!(!ran.ok, "kubectl {words} was allowed to a tenant");
    }
    put(&api, &admin, &policy(&[], &[])).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_policy_is_refused_and_the_old_one_stays() -> Result<()> {
    let world = World::shared().await?;
    let _alone = world.policy_guard().await;
    let api = world.admin()?;
    let before = api.get("/v1/platform/policy").await?.expect(200)?.json["version"].clone();
    for (bad, part) in [
        (policy(&[], &["10.0.0.1/8"]), "10.0.0.1/8"),
        (policy(&[], &["010.0.0.0/8"]), "010.0.0.0/8"),
        (policy(&[], &["::ffff:10.0.0.0/104"]), "egressBaseline[0]"),
        (policy(&["*.io"], &[]), "*.io"),
        (policy(&["https://docker.io"], &[]), "https://docker.io"),
        (json!({"quotaMax": {"requestsCPU": "1e2147483648"}}), "requestsCPU"),
        (json!({"imageAllowlist": "docker.io"}), ""),
        (json!({"imageAllowlst": []}), "imageAllowlst"),
    ] {
        api.put("/v1/platform/policy", &bad).await?.expect_error(400, &[part])?;
    }
    let after = api.get("/v1/platform/policy").await?.expect(200)?.json["version"].clone();
    ensure!(before == after, "the version went from {before} to {after}");
    Ok(())
}
