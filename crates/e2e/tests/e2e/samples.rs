//! The definitions and samples of `deploy/k8s` as their README says.

use anyhow::{Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::environment::repository;
use e2e::kubeop::Setup;
use e2e::scenario;
use e2e::wait::{Seen, until};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_cleanly_and_are_shown_usefully() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().start());
    let (plane, kubeop) = (plane?, kubeop?);
    let (api, kubectl) = (kubeop.api(None)?, plane.kubectl()?);
    let root = repository();
    let crds = root.join("deploy/k8s/crds").display().to_string();
    let samples = root.join("deploy/k8s/samples").display().to_string();

    // The definitions by hand, before anything of kubeOP is there; bootstrap then takes them over.
    kubectl.stdout(&format!("apply -f {crds}")).await?;
    kubectl.stdout(&format!("wait --for=condition=Established -f {crds} --timeout=30s")).await?;
    for kind in ["tenant", "project", "app", "policy", "dnsrecord", "certificate"] {
        // The API server's own document follows a definition after a moment.
        until("kubectl explains it", scenario::PATIENCE, async || {
            let told = kubectl.stdout(&format!("explain {kind}.spec")).await?;
            Ok(Seen::when(told.contains("DESCRIPTION") && told.contains("FIELDS"), (), told))
        })
        .await?;
    }
    let cluster = scenario::register(&api, "samples", &plane.kubeconfig_text()?).await?;
    scenario::cluster_ready(&api, &cluster).await?;

    let ran = kubectl.run(&format!("apply -f {samples}/")).await?;
    ensure!(ran.ok && !ran.stderr.contains("arning"), "{} {}", ran.stdout, ran.stderr);
    kubectl.stdout("wait --for=condition=Ready project/acme.web --timeout=60s").await?;
    let ran = kubectl.run(&format!("apply -f {samples}/kubeop-web/")).await?;
    ensure!(ran.ok && !ran.stderr.contains("arning"), "{} {}", ran.stdout, ran.stderr);
    until("the sample apps' workloads", Duration::from_secs(30), async || {
        let names = kubectl.stdout("-n kubeop-web get deployments,services,ingresses -o name").await?;
        let there = [
            "deployment.apps/web",
            "deployment.apps/shop",
            "service/web",
            "service/shop",
            "ingress.networking.k8s.io/web",
        ];
        Ok(Seen::when(there.iter().all(|name| names.contains(name)), (), names))
    })
    .await?;

    // What people see.
    let shown = kubectl.stdout("get tenants,projects,apps -A").await?;
    println!("{shown}");
    for part in
        ["READY", "AGE", "acme", "acme.web", "kubeop-web", "web", "shop", "True", "docker.io/library/nginx:1.25"]
    {
        ensure!(shown.contains(part), "{part:?} is not shown:\n{shown}");
    }
    for words in [
        "get policies",
        "get dnsrecords",
        "get certificates",
        "get kubeop -A",
        "-n kubeop-web get jobs -l app.kubeop.io/app-id=x",
    ] {
        let shown = kubectl.stdout(words).await?;
        println!("{shown}");
    }
    let tenant = kubectl.stdout("wait --for=condition=Ready tenant/acme --timeout=30s").await?;
    ensure!(tenant.contains("condition met"), "{tenant}");
    // Changing a sample and applying again is followed; a second apply changes nothing.
    let again = kubectl.stdout(&format!("apply -f {samples}/")).await?;
    ensure!(
        again.lines().all(|line| line.ends_with("unchanged") || line.contains("configured") && line.contains("quot")),
        "{again}"
    );

    // Backwards.
    kubectl.stdout(&format!("delete -f {samples}/kubeop-web/ -f {samples}/ --timeout=60s")).await?;
    ensure!(!kubectl.exists("namespace kubeop-web").await?, "the namespace is left");
    Ok(())
}
