//! Events to webhooks from a manager that is killed, and of a cluster that becomes ready.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::kubeop::Setup;
use e2e::receiver::{Arrival, Receiver};
use e2e::scenario::{self, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SECRET: &str = "shared by sender and receiver";

fn telling(setup: Setup, receiver: &Receiver) -> Setup {
    setup.with("KUBEOP_HOOK_URL", &receiver.url()).with("KUBEOP_HOOK_SECRET", SECRET)
}

/// Fails unless the body is what the sender signed.
fn check(arrival: &Arrival) -> Result<()> {
    let header = |name: &str| arrival.headers.get(name).with_context(|| format!("no header {name}"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let hex = |bytes: &[u8]| kubeop_core::hex::encode(hmac::sign(&key, bytes).as_ref());
    ensure!(*header("x-kubeop-signature")? == format!("sha256={}", hex(&arrival.body)), "{arrival:?}");
    let timed = [header("x-kubeop-timestamp")?.as_bytes(), b".", &arrival.body].concat();
    ensure!(*header("x-kubeop-timestamp-signature")? == format!("sha256={}", hex(&timed)), "{arrival:?}");
    Ok(())
}

fn text<'a>(arrival: &'a Arrival, pointer: &str) -> &'a str {
    arrival.event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Changes the policy until the process is gone; keeps the requests that were answered.
async fn work(api: &Api, answered: &mut BTreeSet<String>) {
    for number in 0..1000 {
        let policy = json!({"imageAllowlist": [format!("r{number}.example.com")]});
        let Ok(answer) = api.put("/v1/platform/policy", &policy).await else { return };
        if answer.status == 200 {
            answered.extend(answer.header("x-request-id").map(ToOwned::to_owned));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_told_though_the_manager_is_killed_again_and_again() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut kubeop = telling(Setup::new("manager"), &receiver).start().await?;
    let mut answered = BTreeSet::new();
    for millis in [120, 40, 350, 15, 600, 200] {
        let api = kubeop.api(None)?;
        tokio::select! {
            () = work(&api, &mut answered) => {}
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
        kubeop.kill();
        kubeop.restart().await?;
    }
    ensure!(answered.len() > 6, "too little happened: {} changes", answered.len());
    until("every change is told", PATIENCE, async || {
        let told: BTreeSet<String> =
            receiver.arrived().iter().map(|arrival| text(arrival, "/data/request_id").to_owned()).collect();
        let missing = answered.iter().filter(|id| !told.contains(*id)).count();
        Ok(Seen::when(missing == 0, (), format!("{missing} of {} are missing", answered.len())))
    })
    .await?;
    let arrived = receiver.arrived();
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for arrival in &arrived {
        check(arrival)?;
        // Again is the same again, to the byte.
        let body = *bodies.entry(text(arrival, "/id")).or_insert(&arrival.body);
        ensure!(body == arrival.body, "{arrival:?}");
    }
    println!("{} changes were answered, {} events arrived, {} times", answered.len(), bodies.len(), arrived.len());
    // In order: what arrives for the first time is always the newest.
    let mut newest = "";
    let mut seen = BTreeSet::new();
    for arrival in &arrived {
        let place = text(arrival, "/sequence");
        ensure!(!seen.insert(place) || place > newest, "{place} came after {newest}");
        newest = newest.max(place);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_becomes_ready_is_told_once_to_both_hooks() -> Result<()> {
    let (everything, ready) = (Receiver::start().await?, Receiver::start().await?);
    let setup = telling(Setup::dev(), &everything)
        .with("KUBEOP_CLUSTER_READY_HOOK", &ready.url())
        .with("KUBEOP_CLUSTER_READY_HOOK_SECRET", SECRET);
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), setup.start());
    let (plane, mut kubeop) = (plane?, kubeop?);
    let api = kubeop.api(None)?;
    let cluster = scenario::register(&api, "told", &plane.kubeconfig_text()?).await?;
    let told = async |receiver: &Receiver| {
        until("cluster.ready", PATIENCE, async || {
            let found =
                receiver.arrived().into_iter().find(|arrival| text(arrival, "/type") == "io.kubeop.cluster.ready");
            Ok(Seen::when(found.is_some(), found, "it was not told"))
        })
        .await?
        .context("an event")
    };
    let (one, other) = (told(&everything).await?, told(&ready).await?);
    for arrival in [&one, &other] {
        check(arrival)?;
        ensure!(text(arrival, "/data/id") == cluster && text(arrival, "/data/name") == "told", "{arrival:?}");
    }
    ensure!(text(&one, "/id") == text(&other, "/id"), "two events of one turn");
    scenario::cluster_ready(&api, &cluster).await?;
    // Ready it was already: a restart tells nobody.
    kubeop.restart().await?;
    let api = kubeop.api(None)?;
    scenario::cluster_ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "told").await?;
    scenario::phase(&api, &format!("/v1/projects/{}", home.project), "Ready").await?;
    api.delete(&format!("/v1/projects/{}", home.project)).await?;
    until("project.gone", PATIENCE, async || {
        let kinds: Vec<String> = everything.arrived().iter().map(|arrival| text(arrival, "/type").to_owned()).collect();
        Ok(Seen::when(kinds.iter().any(|kind| kind == "io.kubeop.project.gone"), (), format!("{kinds:?}")))
    })
    .await?;
    // What was sent and not recorded when the process was killed is sent again.
    let turns: BTreeSet<String> = ready.arrived().iter().map(|arrival| text(arrival, "/id").to_owned()).collect();
    ensure!(turns.len() == 1, "{turns:?}");
    let subject = format!("project/{}", home.project);
    let arrived = everything.arrived();
    let of_project: Vec<&str> = arrived
        .iter()
        .filter(|arrival| text(arrival, "/subject") == subject)
        .map(|arrival| text(arrival, "/type"))
        .collect();
    ensure!(
        of_project == ["io.kubeop.project.created", "io.kubeop.project.deleted", "io.kubeop.project.gone"],
        "{of_project:?}"
    );
    Ok(())
}
