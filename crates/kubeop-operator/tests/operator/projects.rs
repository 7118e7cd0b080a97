//! Tenants and Projects.

use crate::harness::{World, publish, ready, usual_policy};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use kubeop_core::policy::RawPolicy;
use kubeop_crds::conditions::{ACCESS_READY, NAMESPACE_READY, NETWORK_READY, QUOTA_READY, find, is_true};
use kubeop_crds::{Project, Tenant};
use kubeop_plan::project::status::quota_in_force;
use serde_json::json;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

fn is_ready(project: &Project) -> bool {
    ready(project.status.as_ref().map(|s| &s.conditions[..])).0
}

fn reason(project: &Project) -> String {
    ready(project.status.as_ref().map(|s| &s.conditions[..])).1
}

#[tokio::test]
async fn a_project_is_fenced_before_anyone_may_enter() {
    let world = World::new().await;
    let namespace = world.namespace("web");
    // Whoever binds people to the namespace must find the quota in force and the fence up.
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &namespace);
    let mut seen = pin!(watcher(bindings, watcher::Config::default()).applied_objects());
    world.project("web", json!({"quotas": {"cpu": "2"}, "podSecurity": "restricted"})).await;
    let entered = async {
        while let Some(binding) = seen.next().await {
            if binding.is_ok_and(|binding| binding.name_any() == "kubeop-developer") {
                let quota: ResourceQuota = world.get(Some(&namespace), "kubeop-quota").await.unwrap();
                assert!(quota_in_force(&quota), "{quota:?}");
                let fence: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &namespace);
                assert_eq!(fence.list(&ListParams::default()).await.unwrap().items.len(), 3);
                assert!(world.get::<LimitRange>(Some(&namespace), "kubeop-limits").await.is_some());
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), entered).await.unwrap();
    let project = world.project_until("web", is_ready).await;
    let status = project.status.clone().unwrap();
    for type_ in [NAMESPACE_READY, QUOTA_READY, NETWORK_READY, ACCESS_READY] {
        assert!(is_true(&status.conditions, type_, project.metadata.generation), "{type_}");
    }
    assert_eq!(status.granted["requests.cpu"].as_str(), "2");
    assert_eq!(status.observed_generation, project.metadata.generation);
    let live: Namespace = world.get(None, &namespace).await.unwrap();
    assert_eq!(status.namespace_uid, live.uid());
    assert_eq!(live.labels()["pod-security.kubernetes.io/enforce"], "restricted");
    assert!(live.owner_references().is_empty());
    let account: ServiceAccount =
        world.get(Some("kubeop-access"), &format!("{}.web.developer", world.tenant)).await.unwrap();
    assert_eq!(account.labels()["app.kubeop.io/project-id"], project.uid().unwrap());
    let tenant = world
        .until::<Tenant>(None, &world.tenant, |t| {
            t.status.as_ref().is_some_and(|s| s.projects == Some(1) && s.granted_total.contains_key("requests.cpu"))
        })
        .await;
    assert!(ready(tenant.status.as_ref().map(|s| &s.conditions[..])).0);
    world.clean().await;
}

#[tokio::test]
async fn drift_is_repaired_within_a_second() {
    let world = World::new().await;
    world.ready_project("web").await;
    let namespace = world.namespace("web");
    let started = Instant::now();
    world.delete::<NetworkPolicy>(Some(&namespace), "kubeop-baseline-egress").await;
    world.delete::<RoleBinding>(Some(&namespace), "kubeop-developer").await;
    world.delete::<LimitRange>(Some(&namespace), "kubeop-limits").await;
    let merge = |value| Patch::Merge(value);
    let params = PatchParams { field_manager: Some("meddler".into()), ..PatchParams::default() };
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &namespace);
    quotas.patch("kubeop-quota", &params, &merge(json!({"spec": {"hard": {"pods": "9999"}}}))).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let open = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged", "app.kubeop.io/project-id": null}}});
    namespaces.patch(&namespace, &params, &merge(open)).await.unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &namespace);
    policies
        .patch(
            "kubeop-baseline-outside",
            &params,
            &merge(json!({"metadata": {"labels": null}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}})),
        )
        .await
        .unwrap();

    world.until::<NetworkPolicy>(Some(&namespace), "kubeop-baseline-egress", |_| true).await;
    world.until::<RoleBinding>(Some(&namespace), "kubeop-developer", |_| true).await;
    world.until::<LimitRange>(Some(&namespace), "kubeop-limits", |_| true).await;
    world
        .until::<ResourceQuota>(Some(&namespace), "kubeop-quota", |q| {
            q.spec.as_ref().unwrap().hard.as_ref().unwrap()["pods"].0 == "200"
        })
        .await;
    world
        .until::<Namespace>(None, &namespace, |n| {
            n.labels().get("pod-security.kubernetes.io/enforce").is_some_and(|l| l == "baseline")
                && n.labels().contains_key("app.kubeop.io/project-id")
        })
        .await;
    world
        .until::<NetworkPolicy>(Some(&namespace), "kubeop-baseline-outside", |p| {
            p.spec.as_ref().unwrap().pod_selector.as_ref().is_none_or(|s| s.match_labels.is_none())
                && p.labels().contains_key("app.kubeop.io/project-id")
        })
        .await;
    println!("repaired after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(30), "not by its watches: {:?}", started.elapsed());
    world.clean().await;
}

#[tokio::test]
async fn a_namespace_of_somebody_else_is_left_alone() {
    let world = World::new().await;
    let namespace = world.namespace("web");
    let theirs: Namespace =
        world.create(None, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    world.project("web", json!({})).await;
    let project = world.project_until("web", |p| reason(p) == "NotOurs").await;
    assert!(!is_ready(&project));
    let live: Namespace = world.get(None, &namespace).await.unwrap();
    assert_eq!((live.labels().len(), live.annotations().len()), (theirs.labels().len(), 0));
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &namespace);
    assert!(quotas.list(&ListParams::default()).await.unwrap().items.is_empty());
    world.delete::<Project>(None, &world.resource("web")).await;
    world.until_gone::<Project>(None, &world.resource("web")).await;
    let still: Namespace = world.get(None, &namespace).await.unwrap();
    assert_eq!((still.uid(), still.metadata.deletion_timestamp), (theirs.uid(), None));
    world.delete::<Namespace>(None, &namespace).await;
    world.clean().await;
}

#[tokio::test]
async fn a_deleted_project_takes_its_access_and_namespace_along_and_its_name_is_free_again() {
    let world = World::new().await;
    let first = world.ready_project("web").await;
    let namespace = world.namespace("web");
    let uid = first.uid().unwrap();
    let secret = format!("kubeop-kc-{}", world.tenant);
    world
        .create::<Secret>(Some("kubeop-access"), json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "labels": {"app.kubeop.io/project-id": uid}},
        }))
        .await;
    // A tenant is kept as long as it has projects.
    world.delete::<Tenant>(None, &world.tenant).await;
    world
        .until::<Tenant>(None, &world.tenant, |t| {
            ready(t.status.as_ref().map(|s| &s.conditions[..])).1 == "ProjectsExist"
        })
        .await;
    let started = Instant::now();
    world.delete::<Project>(None, &world.resource("web")).await;
    let account = format!("{}.web.developer", world.tenant);
    world.until_gone::<ServiceAccount>(Some("kubeop-access"), &account).await;
    world.until_gone::<Secret>(Some("kubeop-access"), &secret).await;
    world.until_gone::<Project>(None, &world.resource("web")).await;
    assert!(world.get::<Namespace>(None, &namespace).await.is_none());
    println!("deleted after {:?}", started.elapsed());
    world.until_gone::<Tenant>(None, &world.tenant).await;

    world.create::<Tenant>(None, json!({"apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "metadata": {"name": world.tenant}, "spec": {}})).await;
    let second = world.ready_project("web").await;
    assert_ne!(second.uid().unwrap(), uid);
    world.clean().await;
}

#[tokio::test]
async fn a_namespace_deleted_by_hand_is_made_again_and_fenced_before_anyone_may_enter() {
    let world = World::new().await;
    let before = world.ready_project("web").await.status.unwrap().namespace_uid;
    let namespace = world.namespace("web");
    world.delete::<Namespace>(None, &namespace).await;
    let name = world.resource("web");
    let project = world.until_for::<Project>(Duration::from_mins(1), None, &name, |p| {
        is_ready(p) && p.status.as_ref().unwrap().namespace_uid != before
    });
    let project = project.await;
    let quota: ResourceQuota = world.get(Some(&namespace), "kubeop-quota").await.unwrap();
    let binding: RoleBinding = world.get(Some(&namespace), "kubeop-developer").await.unwrap();
    assert!(quota_in_force(&quota) && quota.creation_timestamp() <= binding.creation_timestamp());
    assert_eq!(project.status.unwrap().namespace_uid, world.get::<Namespace>(None, &namespace).await.unwrap().uid());
    world.clean().await;
}

#[tokio::test]
async fn an_account_left_behind_by_a_project_of_the_same_name_does_not_stop_the_next() {
    let world = World::new().await;
    let account = format!("{}.web.developer", world.tenant);
    world
        .create::<ServiceAccount>(
            Some("kubeop-access"),
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
                    "name": account,
                    "labels": {"app.kubernetes.io/managed-by": "kubeop-operator", "app.kubeop.io/project-id": "gone"},
                    "annotations": {"kubeop.io/owner": world.resource("web"), "kubeop.io/owner-uid": "gone"},
                },
            }),
        )
        .await;
    let project = world.ready_project("web").await;
    let live: ServiceAccount = world.get(Some("kubeop-access"), &account).await.unwrap();
    assert_eq!(live.annotations()["kubeop.io/owner-uid"], project.uid().unwrap());
    world.clean().await;
}

#[tokio::test]
async fn a_project_without_its_tenant_waits_for_it() {
    let world = World::new().await;
    let other = format!("{}x", world.tenant);
    let spec = json!({"tenant": other, "namespace": format!("kubeop-{other}-web")});
    world
        .create::<Project>(None, json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Project", "metadata": {"name": format!("{other}.web")}, "spec": spec,
        }))
        .await;
    let name = format!("{other}.web");
    world.until::<Project>(None, &name, |p| reason(p) == "TenantNotFound").await;
    world.create::<Tenant>(None, json!({"apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "metadata": {"name": other}, "spec": {}})).await;
    world.until::<Project>(None, &name, is_ready).await;
    world.delete::<Project>(None, &name).await;
    world.delete::<Tenant>(None, &other).await;
    world.until_gone::<Tenant>(None, &other).await;
    world.clean().await;
}

#[tokio::test]
async fn projects_made_at_the_same_time_never_get_more_than_the_envelope() {
    let world = World::with(json!({"cpu": "2"})).await;
    let names = ["a", "b", "c", "d"];
    futures::future::join_all(names.map(|name| world.project(name, json!({"quotas": {"cpu": "1"}})))).await;
    let mut admitted = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        let project = world.project_until(name, |p| is_ready(p) || reason(p) == "QuotaExceeded").await;
        if is_ready(&project) { admitted.push(name) } else { refused.push(name) }
    }
    assert_eq!((admitted.len(), refused.len()), (2, 2), "{admitted:?} {refused:?}");
    // What a deleted project held is given on.
    world.delete::<Project>(None, &world.resource(admitted[0])).await;
    world.until_gone::<Project>(None, &world.resource(admitted[0])).await;
    let started = Instant::now();
    loop {
        let mut ready = 0;
        for name in &refused {
            ready += usize::from(is_ready(&world.get(None, &world.resource(name)).await.unwrap()));
        }
        if ready == 1 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "nobody got what was freed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.clean().await;
}

#[tokio::test]
async fn a_quota_key_that_is_taken_away_goes_away_although_it_was_created_and_not_applied() {
    let world = World::new().await;
    world.project("web", json!({"quotas": {"cpu": "1", "count/jobs.batch": "3"}})).await;
    world.project_until("web", is_ready).await;
    let namespace = world.namespace("web");
    let hard = |quota: &ResourceQuota| quota.spec.as_ref().unwrap().hard.clone().unwrap();
    let quota: ResourceQuota = world.get(Some(&namespace), "kubeop-quota").await.unwrap();
    assert!(hard(&quota).contains_key("count/jobs.batch"));
    let projects: Api<Project> = Api::all(world.client.clone());
    let change = json!({"spec": {"quotas": {"cpu": "2", "count/jobs.batch": null}}});
    let project = projects.patch(&world.resource("web"), &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let quota =
        world.until::<ResourceQuota>(Some(&namespace), "kubeop-quota", |q| hard(q)["requests.cpu"].0 == "2").await;
    assert!(!hard(&quota).contains_key("count/jobs.batch"), "{:?}", quota.metadata.managed_fields);
    world
        .project_until("web", |p| {
            is_ready(p) && p.status.as_ref().unwrap().observed_generation == project.metadata.generation
        })
        .await;
    world.clean().await;
}

#[tokio::test]
async fn suspending_withdraws_access_and_resuming_gives_it_back() {
    let world = World::new().await;
    world.ready_project("web").await;
    let namespace = world.namespace("web");
    let projects: Api<Project> = Api::all(world.client.clone());
    let suspend = |suspended: bool| Patch::Merge(json!({"spec": {"suspended": suspended}}));
    projects.patch(&world.resource("web"), &PatchParams::default(), &suspend(true)).await.unwrap();
    world.project_until("web", |p| reason(p) == "Suspended").await;
    for role in ["developer", "viewer", "admin"] {
        assert!(world.get::<RoleBinding>(Some(&namespace), &format!("kubeop-{role}")).await.is_none(), "{role}");
    }
    projects.patch(&world.resource("web"), &PatchParams::default(), &suspend(false)).await.unwrap();
    world.project_until("web", is_ready).await;
    assert!(world.get::<RoleBinding>(Some(&namespace), "kubeop-developer").await.is_some());
    world.clean().await;
}

#[tokio::test]
async fn a_new_policy_moves_the_fence_of_every_project() {
    let world = World::new().await;
    world.ready_project("web").await;
    let namespace = world.namespace("web");
    let blocks = |policy: &NetworkPolicy| -> Vec<String> {
        let rules = policy.spec.as_ref().unwrap().egress.clone().unwrap_or_default();
        rules
            .into_iter()
            .flat_map(|r| r.to.unwrap_or_default())
            .filter_map(|peer| peer.ip_block.map(|b| b.cidr))
            .collect()
    };
    let narrow = RawPolicy { egress_baseline: vec!["10.20.0.0/16".into()], ..usual_policy() };
    let started = Instant::now();
    publish(&world.client, &narrow).await;
    world.until::<NetworkPolicy>(Some(&namespace), "kubeop-baseline-outside", |p| blocks(p) == ["10.20.0.0/16"]).await;
    println!("fence moved after {:?}", started.elapsed());
    let version = publish(&world.client, &usual_policy()).await;
    world
        .until::<NetworkPolicy>(Some(&namespace), "kubeop-baseline-outside", |p| {
            blocks(p).contains(&"0.0.0.0/0".to_owned())
        })
        .await;
    let project = world
        .project_until("web", |p| {
            p.status.as_ref().unwrap().policy_version.as_ref().is_some_and(|v| v.parse::<i64>().unwrap() >= version)
        })
        .await;
    assert!(find(&project.status.unwrap().conditions, NETWORK_READY).is_some_and(|c| c.status == "True"));
    world.clean().await;
}

/// Not a test of the budget but its measurement: `cargo test -p kubeop-operator -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures"]
async fn how_long_a_project_takes_to_become_usable() {
    let world = World::new().await;
    let projects: Api<Project> = Api::all(world.client.clone());
    let mut times = Vec::new();
    let mut seen = pin!(watcher(projects.clone(), watcher::Config::default()).applied_objects());
    for index in 0..100 {
        let name = world.resource(&format!("p{index}"));
        let object: Project = serde_json::from_value(json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Project", "metadata": {"name": name},
            "spec": {"tenant": world.tenant, "namespace": world.namespace(&format!("p{index}"))},
        }))
        .unwrap();
        let started = Instant::now();
        projects.create(&PostParams::default(), &object).await.unwrap();
        while let Some(Ok(project)) = seen.next().await {
            if project.name_any() == name && is_ready(&project) {
                break;
            }
        }
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    times.sort();
    println!("p50 {:?} p90 {:?} p99 {:?} max {:?}", times[50], times[90], times[98], times[99]);
    // A hundred namespaces take the namespace controller longer than a test waits.
    projects
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().fields(&format!("spec.tenant={}", world.tenant)),
        )
        .await
        .unwrap();
    world.delete::<Tenant>(None, &world.tenant).await;
}

/// Prints what an operator with nothing to do writes: `cargo test -p kubeop-operator -- --ignored --nocapture silent`.
#[tokio::test]
#[ignore = "measures"]
async fn an_idle_operator_is_silent() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.ready_project(name).await;
        world
            .app(
                name,
                "shop",
                json!({"delivery": {"image": "nginx"}, "host": format!("{name}.{}.example", world.tenant)}),
            )
            .await;
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let count = async || {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = world.client.request_text(request).await.unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total")) {
            if let Some((labels, value)) = line.rsplit_once(' ') {
                let part = |key: &str| {
                    labels
                        .split_once(&format!("{key}=\""))
                        .map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
                        .unwrap_or_default()
                };
                *counts.entry((part("verb"), part("resource"), part("subresource"), part("code"))).or_insert(0.0) +=
                    value.parse::<f64>().unwrap();
            }
        }
        counts
    };
    let before = count().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    for (key, value) in count().await {
        let more = value - before.get(&key).copied().unwrap_or(0.0);
        if more > 0.0 {
            println!("{key:?} {more}");
        }
    }
    world.clean().await;
}
