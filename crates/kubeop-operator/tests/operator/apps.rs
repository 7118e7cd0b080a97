//! Apps of kind Image.

use crate::harness::{World, ready};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use kubeop_crds::{App, DnsRecord, Project};
use serde_json::json;

fn is_ready(app: &App) -> bool {
    ready(app.status.as_ref().map(|s| &s.conditions[..])).0
}

fn reason(app: &App) -> String {
    ready(app.status.as_ref().map(|s| &s.conditions[..])).1
}

#[tokio::test]
async fn an_app_becomes_workload_service_ingress_and_claim_and_goes_again() {
    let world = World::new().await;
    world.ready_project("web").await;
    let (namespace, host) = (world.namespace("web"), format!("{}.example", world.tenant));
    world
        .app(
            "web",
            "shop",
            json!({"delivery": {"image": {"ref": "nginx:1.25", "replicas": 2}}, "hosts": [host.to_uppercase()]}),
        )
        .await;
    let app = world.app_until("web", "shop", |app| reason(app) == "RollingOut").await;
    let status = app.status.clone().unwrap();
    assert_eq!((status.image.as_deref(), status.hosts), (Some("docker.io/library/nginx:1.25"), vec![host.clone()]));
    assert_eq!(status.pods.as_deref(), Some("0/2"), "there is no node");
    let deployment: Deployment = world.get(Some(&namespace), "shop").await.unwrap();
    assert_eq!(deployment.annotations()["kubeop.io/owner-uid"], app.uid().unwrap());
    assert!(world.get::<Service>(Some(&namespace), "shop").await.is_some());
    let ingress: Ingress = world.get(Some(&namespace), "shop").await.unwrap();
    assert_eq!(ingress.spec.unwrap().rules.unwrap()[0].host.as_deref(), Some(host.as_str()));
    let record: DnsRecord = world.get(None, &host).await.unwrap();
    assert_eq!(record.spec.owner.app_uid, app.uid().unwrap());

    // Scaled to nothing it is complete without a node; without hosts it answers to nobody.
    let apps: Api<App> = Api::namespaced(world.client.clone(), &namespace);
    let change = json!({"spec": {"hosts": null, "delivery": {"image": {"ref": "nginx:1.26", "replicas": 0}}}});
    apps.patch("shop", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let app = world
        .app_until("web", "shop", |app| is_ready(app) && app.status.as_ref().unwrap().pods.as_deref() == Some("0/0"))
        .await;
    assert_eq!(app.status.unwrap().observed_generation, app.metadata.generation);
    world.until_gone::<Ingress>(Some(&namespace), "shop").await;
    world.until_gone::<DnsRecord>(None, &host).await;
    let deployment: Deployment = world.get(Some(&namespace), "shop").await.unwrap();
    let image = deployment.spec.unwrap().template.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("docker.io/library/nginx:1.26"));

    // Drift of its objects.
    world.delete::<Service>(Some(&namespace), "shop").await;
    world.until::<Service>(Some(&namespace), "shop", |_| true).await;
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &namespace);
    deployments.patch("shop", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 7}}))).await.unwrap();
    world.until::<Deployment>(Some(&namespace), "shop", |d| d.spec.as_ref().unwrap().replicas == Some(0)).await;

    world.delete::<App>(Some(&namespace), "shop").await;
    world.until_gone::<App>(Some(&namespace), "shop").await;
    assert!(world.get::<Service>(Some(&namespace), "shop").await.is_none());
    assert!(world.get::<Deployment>(Some(&namespace), "shop").await.is_none());
    world.clean().await;
}

#[tokio::test]
async fn a_host_belongs_to_one_app_until_that_is_gone() {
    let world = World::new().await;
    world.ready_project("a").await;
    world.ready_project("b").await;
    let host = format!("{}.example", world.tenant);
    let spec = json!({"delivery": {"image": {"ref": "nginx", "replicas": 0}}, "host": host});
    world.app("a", "one", spec.clone()).await;
    world.app_until("a", "one", is_ready).await;
    world.app("b", "two", spec).await;
    let two = world.app_until("b", "two", |app| reason(app) == "HostTaken").await;
    assert!(world.get::<Ingress>(Some(&world.namespace("b")), "two").await.is_none());
    assert!(world.get::<Deployment>(Some(&world.namespace("b")), "two").await.is_none());
    world.delete::<App>(Some(&world.namespace("a")), "one").await;
    world.app_until("b", "two", is_ready).await;
    let record: DnsRecord = world.get(None, &host).await.unwrap();
    assert_eq!(record.spec.owner.app_uid, two.uid().unwrap());
    world.clean().await;
}

#[tokio::test]
async fn an_app_of_somebody_elses_names_touches_nothing() {
    let world = World::new().await;
    world.ready_project("web").await;
    let namespace = world.namespace("web");
    let theirs = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {"ports": [{"port": 4711}]},
    });
    let theirs: Service = world.create(Some(&namespace), theirs).await;
    world.app("web", "shop", json!({"delivery": {"image": {"ref": "nginx", "replicas": 0}}})).await;
    world.app_until("web", "shop", |app| reason(app) == "NotOurs").await;
    world.delete::<App>(Some(&namespace), "shop").await;
    world.until_gone::<App>(Some(&namespace), "shop").await;
    let still: Service = world.get(Some(&namespace), "shop").await.unwrap();
    assert_eq!(still.uid(), theirs.uid());
    assert_eq!(still.spec.unwrap().ports.unwrap()[0].port, 4711);
    world.clean().await;
}

#[tokio::test]
async fn what_may_not_be_delivered_says_why() {
    let world = World::new().await;
    world.ready_project("web").await;
    world.app("web", "evil", json!({"delivery": {"image": "ghcr.io/evil/image:1"}})).await;
    world.app("web", "git", json!({"delivery": {"git": {"url": "https://example.com/a.git"}}})).await;
    world.app_until("web", "evil", |app| reason(app) == "ImageNotAllowed").await;
    world.app_until("web", "git", |app| reason(app) == "UnsupportedDelivery").await;
    assert!(world.get::<Deployment>(Some(&world.namespace("web")), "evil").await.is_none());

    // Outside a project's namespace nothing is delivered, and nothing holds the App.
    let lone = format!("lone-{}", world.tenant);
    world.create::<Namespace>(None, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lone}})).await;
    let app = json!({"apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App", "metadata": {"name": "shop"}, "spec": {"delivery": {"image": "nginx"}}});
    world.create::<App>(Some(&lone), app).await;
    let app = world.until::<App>(Some(&lone), "shop", |app| reason(app) == "ProjectNotFound").await;
    assert!(app.finalizers().is_empty());
    world.delete::<Namespace>(None, &lone).await;
    world.clean().await;
}

#[tokio::test]
async fn a_project_with_apps_is_deleted_whole_and_its_hosts_are_free() {
    let world = World::new().await;
    world.ready_project("web").await;
    let host = format!("{}.example", world.tenant);
    for name in ["one", "two"] {
        let spec = json!({"delivery": {"image": {"ref": "nginx", "replicas": 0}}, "host": format!("{name}.{host}")});
        world.app("web", name, spec).await;
        world.app_until("web", name, is_ready).await;
    }
    world.delete::<Project>(None, &world.resource("web")).await;
    world.until_gone::<Project>(None, &world.resource("web")).await;
    assert!(world.get::<DnsRecord>(None, &format!("one.{host}")).await.is_none());
    assert!(world.get::<DnsRecord>(None, &format!("two.{host}")).await.is_none());
    world.clean().await;
}
