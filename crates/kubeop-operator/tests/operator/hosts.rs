//! Hosts and certificates by the built-in stand-ins for providers.
//!
//! Invariant: one test at a time, since the cluster's DNS configuration and the issuer's CA are one for all.

use crate::harness::{World, ready};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use kubeop_cluster::certificate::{Facts, Pair, proves};
use kubeop_core::clock::{Clock, SystemClock};
use kubeop_crds::{App, Certificate, DnsRecord};
use kubeop_plan::{install::names, providers};
use serde_json::{Value, json};
use tokio::sync::Mutex;

static ALONE: Mutex<()> = Mutex::const_new(());

const COREFILE: &str = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    reload\n}\n";

fn spec(hosts: &[&str]) -> Value {
    json!({"delivery": {"image": {"ref": "nginx", "replicas": 0}}, "hosts": hosts})
}

fn app_ready(app: &App) -> bool {
    ready(app.status.as_ref().map(|s| &s.conditions[..])).0
}

fn of_certificate(certificate: &Certificate) -> (bool, String) {
    ready(certificate.status.as_ref().map(|s| &s.conditions[..]))
}

fn of_record(record: &DnsRecord) -> (bool, String) {
    ready(record.status.as_ref().map(|s| &s.conditions[..]))
}

fn pair(secret: &Secret) -> Option<Pair> {
    let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
    Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")?.into() })
}

impl World {
    /// Has a resource looked at, as a change of it does.
    async fn touch<K: crate::harness::Scoped>(&self, name: &str) {
        let note = json!({"metadata": {"annotations": {"example.com/look": crate::harness::fresh().to_string()}}});
        K::api(&self.client, None).patch(name, &PatchParams::default(), &Patch::Merge(note)).await.unwrap();
    }

    async fn issuer(&self) -> Secret {
        self.until::<Secret>(Some("kubeop-system"), names::ISSUER_SECRET, |_| true).await
    }

    /// Waits until the Secret proves to be these hosts to whoever trusts the issuer's present CA.
    async fn until_proved(&self, namespace: &str, secret: &str, certificate: &str, hosts: &[&str]) -> Secret {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let ca = pair(&self.issuer().await).unwrap().certificate;
        self.touch::<Certificate>(certificate).await;
        self.until::<Secret>(Some(namespace), secret, |secret| {
            pair(secret).is_some_and(|leaf| {
                let names = Facts::read(&leaf.certificate).map(|facts| facts.names);
                proves(&leaf, &ca, &hosts, SystemClock.now()) && names.is_ok_and(|names| names == hosts)
            })
        })
        .await
    }
}

#[tokio::test]
async fn an_app_with_hosts_gets_a_certificate_that_survives_what_happens_to_it() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    world.ready_project("web").await;
    let namespace = world.namespace("web");
    let (a, b) = (format!("a.{}.example", world.tenant), format!("b.{}.example", world.tenant));
    world.app("web", "shop", spec(&[&a])).await;
    let (name, secret) = (format!("{namespace}.shop"), "kubeop-tls.shop");
    let certificate = world.until::<Certificate>(None, &name, |one| of_certificate(one).0).await;
    let status = certificate.status.clone().unwrap();
    assert!(status.not_before < status.renewal_time && status.renewal_time < status.not_after);
    let first = world.until_proved(&namespace, secret, &name, &[&a]).await;
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(first.owner_references()[0].uid, certificate.uid().unwrap());
    world.app_until("web", "shop", app_ready).await;
    let ingress: Ingress = world.get(Some(&namespace), "shop").await.unwrap();
    let tls = ingress.spec.unwrap().tls.unwrap();
    assert_eq!((tls[0].secret_name.as_deref(), tls[0].hosts.clone().unwrap()), (Some(secret), vec![a.clone()]));

    // Another look at what serves changes nothing; another host does.
    world.touch::<Certificate>(&name).await;
    let apps: Api<App> = Api::namespaced(world.client.clone(), &namespace);
    let change = json!({"spec": {"hosts": [b, a]}});
    apps.patch("shop", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let second = world.until_proved(&namespace, secret, &name, &[&a, &b]).await;
    assert_eq!(second.uid(), first.uid(), "the same Secret, written anew");

    // The Secret is deleted; its content is spoiled; the CA is lost.
    world.delete::<Secret>(Some(&namespace), secret).await;
    world.until_proved(&namespace, secret, &name, &[&a, &b]).await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &namespace);
    let spoiled = json!({"stringData": {"tls.key": "nonsense"}});
    secrets.patch(secret, &PatchParams::default(), &Patch::Merge(spoiled)).await.unwrap();
    world.until_proved(&namespace, secret, &name, &[&a, &b]).await;
    let before = pair(&world.issuer().await).unwrap().certificate;
    world.delete::<Secret>(Some("kubeop-system"), names::ISSUER_SECRET).await;
    world.touch::<Certificate>(&name).await;
    world.until_proved(&namespace, secret, &name, &[&a, &b]).await;
    assert_ne!(pair(&world.issuer().await).unwrap().certificate, before);

    world.delete::<App>(Some(&namespace), "shop").await;
    world.until_gone::<Certificate>(None, &name).await;
    // The garbage collector's part.
    world.until_gone::<Secret>(Some(&namespace), secret).await;
    world.clean().await;
}

#[tokio::test]
async fn nothing_is_issued_over_a_foreign_secret_or_for_hosts_of_others() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    world.ready_project("web").await;
    let (namespace, host) = (world.namespace("web"), format!("{}.example", world.tenant));
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeop-tls.shop"}, "stringData": {"mine": "x"}});
    let theirs: Secret = world.create(Some(&namespace), theirs).await;
    world.app("web", "shop", spec(&[&host])).await;
    let name = format!("{namespace}.shop");
    world.until::<Certificate>(None, &name, |one| of_certificate(one) == (false, "NotOurs".into())).await;
    world.app_until("web", "shop", app_ready).await;
    let still: Secret = world.get(Some(&namespace), "kubeop-tls.shop").await.unwrap();
    assert_eq!(still.resource_version(), theirs.resource_version());

    let certificate: Certificate = world.get(None, &name).await.unwrap();
    let mut other = json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Certificate", "metadata": {"name": format!("{name}.more")},
        "spec": {"host": host, "additionalHosts": ["bank.example"], "owner": certificate.spec.owner, "secret": {"name": "more"}},
    });
    world.create::<Certificate>(None, other.clone()).await;
    let told =
        world.until::<Certificate>(None, &format!("{name}.more"), |one| of_certificate(one).1 == "HostNotHeld").await;
    assert!(told.status.unwrap().conditions[0].message.contains("bank.example"));
    other["metadata"]["name"] = json!(format!("{name}.none"));
    other["spec"]["owner"]["appUID"] = json!("00000000-0000-0000-0000-000000000000");
    world.create::<Certificate>(None, other).await;
    world.until::<Certificate>(None, &format!("{name}.none"), |one| of_certificate(one).1 == "OwnerNotFound").await;
    assert!(world.get::<Secret>(Some(&namespace), "more").await.is_none());
    world.delete::<Certificate>(None, &format!("{name}.none")).await;
    world.clean().await;
}

#[tokio::test]
async fn hosts_stand_in_the_cluster_s_dns_as_long_as_their_apps() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kube-system");
    let _ = maps.delete(names::DNS_CONFIG, &DeleteParams::default()).await;
    world.ready_project("web").await;
    let (namespace, host) = (world.namespace("web"), format!("{}.example", world.tenant));

    // Without CoreDNS the claim says what it lacks, and the app does without.
    world.app("web", "shop", spec(&[&host])).await;
    world.until::<DnsRecord>(None, &host, |one| of_record(one) == (false, "UnsupportedClusterDNS".into())).await;
    world.app_until("web", "shop", app_ready).await;

    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns"}, "data": {"Corefile": COREFILE, "other": "x"}});
    world.create::<ConfigMap>(Some("kube-system"), config).await;
    world.touch::<DnsRecord>(&host).await;
    let record = world.until::<DnsRecord>(None, &host, |one| of_record(one).0).await;
    let service: Service = world.get(Some(&namespace), "shop").await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    assert_eq!(record.status.unwrap().addresses, std::slice::from_ref(&address));
    let corefile = |map: &ConfigMap| map.data.as_ref().unwrap()["Corefile"].clone();
    let answer = |address: &str| format!("answer \"{host}. 30 IN A {address}\"");
    let map: ConfigMap = world.get(Some("kube-system"), "coredns").await.unwrap();
    assert!(corefile(&map).contains(&answer(&address)), "{}", corefile(&map));
    assert_eq!(map.data.as_ref().unwrap()["other"], "x");

    // An ingress controller tells where it is.
    let ingresses: Api<Ingress> = Api::namespaced(world.client.clone(), &namespace);
    let told = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
    ingresses.patch_status("shop", &PatchParams::default(), &Patch::Merge(told)).await.unwrap();
    world.until::<ConfigMap>(Some("kube-system"), "coredns", |map| corefile(map).contains(&answer("192.0.2.7"))).await;
    let moved = |one: &DnsRecord| {
        of_record(one).0 && one.status.as_ref().is_some_and(|status| status.addresses == ["192.0.2.7"])
    };
    world.until::<DnsRecord>(None, &host, moved).await;

    // The cluster's own names are nobody's, and the app is told nothing of it.
    let own = format!("{}.svc.cluster.local", world.tenant);
    world.app("web", "thief", spec(&[&own])).await;
    world.until::<DnsRecord>(None, &own, |one| of_record(one).1 == "HostNotAllowed").await;
    let map: ConfigMap = world.get(Some("kube-system"), "coredns").await.unwrap();
    assert!(!corefile(&map).contains(&own), "{}", corefile(&map));

    // Without a provider it is a claim alone; with one again it stands there again.
    let system: Api<ConfigMap> = Api::namespaced(world.client.clone(), "kubeop-system");
    system.delete(providers::NAME, &DeleteParams::default()).await.unwrap();
    world.until::<DnsRecord>(None, &host, |one| of_record(one) == (false, "NoProvider".into())).await;
    world.until_gone::<Certificate>(None, &format!("{namespace}.shop")).await;
    let ingress =
        world.until::<Ingress>(Some(&namespace), "shop", |one| one.spec.as_ref().unwrap().tls.is_none()).await;
    assert!(ingress.spec.unwrap().rules.is_some());
    world.app_until("web", "shop", app_ready).await;
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": providers::NAME}, "data": {"dns": "route53"}});
    world.create::<ConfigMap>(Some("kubeop-system"), unknown).await;
    world.until::<DnsRecord>(None, &host, |one| of_record(one).1 == "ProvidersUnreadable").await;
    let mocks = serde_json::to_value(providers::to_config_map(providers::Providers::MOCKS)).unwrap();
    system.patch(providers::NAME, &PatchParams::default(), &Patch::Merge(mocks)).await.unwrap();
    world.until::<DnsRecord>(None, &host, |one| of_record(one).0).await;

    // What somebody takes out comes back; what nobody holds goes, and nothing else.
    maps.patch(names::DNS_CONFIG, &PatchParams::default(), &Patch::Merge(json!({"data": {"Corefile": COREFILE}})))
        .await
        .unwrap();
    world.touch::<DnsRecord>(&host).await;
    world.until::<ConfigMap>(Some("kube-system"), "coredns", |map| corefile(map).contains(&answer("192.0.2.7"))).await;
    for app in ["shop", "thief"] {
        world.delete::<App>(Some(&namespace), app).await;
    }
    world.until_gone::<DnsRecord>(None, &host).await;
    world.until::<ConfigMap>(Some("kube-system"), "coredns", |map| corefile(map) == COREFILE).await;
    world.delete::<ConfigMap>(Some("kube-system"), "coredns").await;
    world.clean().await;
}
