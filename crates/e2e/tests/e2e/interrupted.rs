//! Setting a cluster up and taking kubeOP away again, cut off after every single object: the next run completes it.
//!
//! Between the manager and the API server stands a proxy that lets through so many changes and then nothing, not even the answer of the last one.

use anyhow::{Context, Result, ensure};
use e2e::api::{Answer, Api};
use e2e::api_server::ApiServer;
use e2e::control_plane::ControlPlane;
use e2e::faults::FaultProxy;
use e2e::gate::{Change, Then};
use e2e::inventory::{contents, gone, installed};
use e2e::kubectl::Kubectl;
use e2e::kubeop::{Kubeop, Setup};
use e2e::scenario::{self, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// More rounds than there are objects: something makes no progress.
const ENDLESS: usize = 200;
/// The manager is killed in every so manieth round, which takes longer than to break its connection.
const KILLS: usize = 4;
/// Objects between two cuts of an upgrade, and of a removal: one at a time would take half a minute each.
const UPGRADED: usize = 6;
const REMOVED: usize = 3;

/// What is asked of the manager over and over, and the status it is answered with in the end.
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    body: Option<&'a Value>,
    status: u16,
}

/// A manager, its cluster, and what stands in between.
struct Site {
    _plane: ControlPlane,
    proxy: FaultProxy,
    manager: Kubeop,
    kubectl: Kubectl,
    server: ApiServer,
    /// What an uninterrupted run makes, in that order, and how it is then.
    made: Vec<String>,
    whole: BTreeMap<String, Value>,
}

impl Site {
    /// With nothing on the cluster: the uninterrupted run was undone.
    async fn start() -> Result<Self> {
        let setup = Setup::new("manager").with("KUBEOP_OPERATOR_IMAGE", "ghcr.io/kubeop/kubeop:test");
        let (plane, manager) = tokio::join!(ControlPlane::start(), setup.start());
        let (plane, manager) = (plane?, manager?);
        let proxy = FaultProxy::start(&plane.kubeconfig_text()?).await?;
        let (kubectl, server) = (plane.kubectl()?, ApiServer::new(&plane.kubeconfig_text()?)?);
        let mut site =
            Self { _plane: plane, proxy, manager, kubectl, server, made: Vec::new(), whole: BTreeMap::new() };
        site.proxy.gate().count(Change::Made);
        let cluster = site.register("whole").await?;
        site.made = site.proxy.gate().seen();
        site.whole = site.published().await?;
        let (made, there) = (site.made.iter().collect::<BTreeSet<_>>(), site.whole.keys().collect());
        ensure!(made == there, "made: {made:?}; there: {there:?}");
        for needed in ["Deployment kubeop-system/kubeop-operator", "ValidatingWebhookConfiguration kubeop-admission"] {
            ensure!(site.whole.contains_key(needed), "{needed} is missing");
        }
        site.uninstall(&cluster).await?;
        Ok(site)
    }

    fn api(&self) -> Result<Api> {
        self.manager.api(None)
    }

    async fn register(&self, name: &str) -> Result<String> {
        scenario::register(&self.api()?, name, self.proxy.kubeconfig()).await
    }

    async fn uninstall(&self, cluster: &str) -> Result<()> {
        self.api()?.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
        gone(&self.server).await
    }

    /// What is on the cluster once the manager has published the policy, which follows an installation.
    async fn published(&self) -> Result<BTreeMap<String, Value>> {
        let path = "/api/v1/namespaces/kubeop-system/configmaps/kubeop-policy";
        let published = until("the policy is published", PATIENCE, async || {
            let policy = self.server.get(path).await?;
            Ok(Seen::when(policy["data"]["version"] != "0", (), policy.to_string()))
        });
        published.await.with_context(|| self.manager.tail())?;
        contents(&self.server).await
    }

    /// Nothing is missing, nothing too much, nothing different.
    async fn is_whole(&self) -> Result<()> {
        let now = self.published().await?;
        let without = |one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>| -> Vec<String> {
            one.iter().filter(|(name, is)| other.get(*name) != Some(is)).map(|(_, is)| is.to_string()).collect()
        };
        let (wanted, found) = (without(&self.whole, &now), without(&now, &self.whole));
        ensure!(wanted.is_empty() && found.is_empty(), "wanted: {wanted:#?}; found: {found:#?}");
        Ok(())
    }

    /// Sends a request that is cut off after so many changes; its answer if there were fewer. The manager is killed in that moment (`Then::Hold`), or
    /// lives on with a broken connection.
    async fn stop_after(&mut self, changes: usize, then: Then, ask: &Ask<'_>) -> Result<Option<Answer>> {
        let api = self.api()?;
        self.proxy.gate().allow(changes, then);
        let asking = api.call(ask.method, ask.path, ask.body);
        let answer = if then == Then::Hold {
            tokio::select! {
                answer = asking => Some(answer?),
                () = self.proxy.gate().closed() => None,
            }
        } else {
            Some(asking.await?).filter(|answer| answer.status == ask.status)
        };
        if answer.is_none() && then == Then::Hold {
            self.manager.kill();
            self.proxy.gate().open();
            self.manager.restart().await?;
        }
        Ok(answer)
    }

    /// The same over and over, with so many more changes each time, until it is done; how often it was cut off. Every `KILLS`th time it is killed.
    async fn stop_after_each(&mut self, changes: usize, ask: &Ask<'_>) -> Result<usize> {
        let start = Instant::now();
        for round in 0..ENDLESS {
            let before = self.proxy.gate().seen().len();
            let then = if round % KILLS == 0 { Then::Hold } else { Then::Cut };
            let answer = self.stop_after(changes, then, ask).await?;
            let after = self.proxy.gate().seen();
            if let Some(answer) = answer {
                self.proxy.gate().open();
                answer.expect(ask.status)?;
                println!("{} {}: cut off {round} times, {:?}", ask.method, ask.path, start.elapsed());
                return Ok(round);
            }
            ensure!(after.len() == before + changes, "round {round}: {before} changes before, then {after:?}");
        }
        anyhow::bail!("{} {} was not done after {ENDLESS} rounds", ask.method, ask.path)
    }

    /// Registers a cluster and kills the manager after so many objects; the id of the row that is left.
    async fn register_until(&mut self, name: &str, objects: usize) -> Result<String> {
        self.proxy.gate().count(Change::Made);
        let body = json!({
            "name": name, "kubeconfig": self.proxy.kubeconfig(),
            "autoBootstrap": true, "installAdmission": true, "withMocks": true,
        });
        let ask = Ask { method: "POST", path: "/v1/clusters", body: Some(&body), status: 201 };
        let answer = self.stop_after(objects, Then::Hold, &ask).await?;
        ensure!(answer.is_none(), "registered before {objects} objects were made: {answer:?}");
        ensure!(self.proxy.gate().seen() == self.made[..objects], "{:?}", self.proxy.gate().seen());
        self.api()?.get("/v1/clusters").await?.expect(200)?.text_at("/0/id")
    }

    /// Cut off after so many objects, completed by one run, and taken away.
    async fn complete(&mut self, objects: usize) -> Result<()> {
        let start = Instant::now();
        let cluster = self.register_until(&format!("after-{objects}"), objects).await?;
        let there = installed(&self.server).await?;
        ensure!(there == self.made[..objects].iter().cloned().collect(), "{there:?} after {objects} objects");
        self.api()?.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &json!({})).await?.expect(200)?;
        self.is_whole().await?;
        self.uninstall(&cluster).await?;
        println!("cut off after {} ({objects}): {:?}", self.made[objects - 1], start.elapsed());
        Ok(())
    }

    /// Every object once the last one before the end, on top of those that are there.
    async fn bootstrap_step_by_step(&mut self) -> Result<String> {
        let cluster = self.register_until("step-by-step", 1).await?;
        let (path, body) = (format!("/v1/platform/bootstrap?clusterID={cluster}"), json!({}));
        let ask = Ask { method: "POST", path: &path, body: Some(&body), status: 200 };
        let rounds = self.stop_after_each(1, &ask).await? + 1;
        let seen = self.proxy.gate().seen();
        ensure!(seen == self.made && rounds == seen.len(), "{rounds} rounds, {seen:?} instead of {:?}", self.made);
        self.is_whole().await?;
        Ok(cluster)
    }

    /// The same over objects of an earlier version, a few at a time.
    async fn upgrade_step_by_step(&mut self, cluster: &str) -> Result<()> {
        let kinds = "namespaces,crds,sa,clusterroles,clusterrolebindings,roles,rolebindings,validatingadmissionpolicies,\
                     validatingadmissionpolicybindings,validatingwebhookconfigurations,deploy,svc,pdb,netpol,priorityclasses";
        let marked = "-A -l app.kubernetes.io/part-of=kubeop --overwrite kubeop.io/version=0.0.1";
        self.kubectl.stdout(&format!("annotate {kinds} {marked}")).await?;
        self.proxy.gate().count(Change::Written);
        let (path, body) = (format!("/v1/platform/bootstrap?clusterID={cluster}"), json!({}));
        let ask = Ask { method: "POST", path: &path, body: Some(&body), status: 200 };
        self.stop_after_each(UPGRADED, &ask).await?;
        // All but the policy, which is never written over.
        let seen = self.proxy.gate().seen();
        ensure!(seen.len() == self.made.len() - 1, "{} objects were made, {seen:?} written", self.made.len());
        self.is_whole().await
    }

    /// Taken away, a few at a time.
    async fn remove_step_by_step(&mut self, cluster: &str) -> Result<()> {
        self.proxy.gate().count(Change::Removed);
        let path = format!("/v1/clusters/{cluster}?uninstall=true");
        let ask = Ask { method: "DELETE", path: &path, body: None, status: 204 };
        self.stop_after_each(REMOVED, &ask).await?;
        let seen = self.proxy.gate().seen();
        ensure!(seen.len() == self.made.len(), "{} objects were made, {seen:?} removed", self.made.len());
        gone(&self.server).await?;
        self.api()?.get(&format!("/v1/clusters/{cluster}")).await?.expect_error(404, &[]).map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_run_completes_it_whatever_was_the_last_object() -> Result<()> {
    let mut site = Site::start().await?;
    let cluster = site.bootstrap_step_by_step().await?;
    site.upgrade_step_by_step(&cluster).await?;
    site.remove_step_by_step(&cluster).await?;

    let first = |kind: &str| site.made.iter().position(|name| name.starts_with(kind)).context("a kind");
    let (definitions, webhook) = (first("CustomResourceDefinition")?, first("ValidatingWebhookConfiguration")?);
    for objects in [1, definitions + 3, webhook, site.made.len()] {
        site.complete(objects).await?;
    }
    Ok(())
}
