//! The adapter against a real API server (`cargo xtask test` brings one).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::apply::{self, Deleted, Kind, Target, Written};
use kubeop_cluster::client::{ServiceAccountName, as_service_account, connect};
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_cluster::lease::{Standing, Terms, campaign};
use kubeop_cluster::mirror::{Event, mirror};
use kubeop_cluster::{bootstrap, credential, gateway, policy, probe, status};
use kubeop_core::ErrorKind;
use kubeop_core::clock::{Clock, SystemClock};
use kubeop_core::id::{InstanceId, KubeconfigId, ProjectId};
use kubeop_core::name::{ACCESS_NAMESPACE, Label, SYSTEM_NAMESPACE};
use kubeop_core::policy::RawPolicy;
use kubeop_plan::install::{self, Home, Options};
use secrecy::ExposeSecret;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod clock;

fn kubeconfig() -> Kubeconfig {
    #[expect(clippy::disallowed_methods, reason = "the test command tells where the cluster is")]
    let path =
        std::env::var("KUBEOP_TEST_KUBECONFIG").expect("KUBEOP_TEST_KUBECONFIG is not set: run cargo xtask test");
    let text = std::fs::read_to_string(&path).unwrap();
    Kubeconfig::parse(&text, Intake { insecure: true }).unwrap()
}

fn client() -> Client {
    connect(&kubeconfig(), &AddressPolicy::default()).unwrap()
}

fn fresh() -> Uuid {
    use kubeop_core::clock::{IdSource, SystemIds};
    SystemIds.next()
}

/// A short name that no other test has.
fn name(prefix: &str) -> String {
    let id = fresh().simple().to_string();
    format!("{prefix}-{}", &id[id.len() - 8..])
}

/// The instance that all test binaries install as, since they may share a cluster.
const INSTANCE: InstanceId = InstanceId(Uuid::from_u128(0x7e57));

/// Installs kubeOP, which every test may do at any time.
async fn prepared() -> Client {
    let client = client();
    let options = Options {
        version: "test".into(),
        home: Home::Process(None),
        policy: RawPolicy::default(),
        metrics_server: None,
        mocks: false,
    };
    bootstrap::install(&client, &install::objects(&options).unwrap(), INSTANCE).await.unwrap();
    client
}

fn tenant(name: &str, id: Uuid, spec: &serde_json::Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant",
        "metadata": {
            "name": name,
            "labels": {"app.kubeop.io/tenant-id": id, "app.kubernetes.io/managed-by": "kubeop-manager"},
            "annotations": {"kubeop.io/wanted": "1"},
        },
        "spec": spec,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_probe_tells_version_and_identity_and_refuses_a_weak_credential() {
    let client = prepared().await;
    let found = probe::probe(&client).await.unwrap();
    assert!(found.version.starts_with('v') && found.cluster_uid.len() == 36, "{found:?}");

    let account = name("weak");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let object = ServiceAccount {
        metadata: ObjectMeta { name: Some(account.clone()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &object).await.unwrap();
    let token = accounts
        .create_token_request(&account, &PostParams::default(), &TokenRequest::default())
        .await
        .unwrap()
        .status
        .unwrap()
        .token;
    let ours = kubeconfig();
    let weak = Kubeconfig::new(
        &ours.server().to_string(),
        None,
        ours.trust().clone(),
        kubeop_cluster::kubeconfig::Credential::Token(token.into()),
    );
    let error = probe::probe(&connect(&weak.unwrap(), &AddressPolicy::default()).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("does not allow it"), "{error}");
    accounts.delete(&account, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_or_untrusted_server_is_told_in_a_sentence_within_five_seconds() {
    let ours = kubeconfig();
    let at = |server: &str, trust| {
        let config = Kubeconfig::new(server, None, trust, ours.credential().clone()).unwrap();
        connect(&config, &AddressPolicy::default()).unwrap()
    };
    // Takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other_ca = kubeop_cluster::certificate::make_ca("CA", Timestamp::from_second(1_700_000_000).unwrap()).unwrap();
    for (client, needle) in [
        (at("https://127.0.0.1:1", ours.trust().clone()), "connection refused"),
        (at(&format!("https://{}", silent.local_addr().unwrap()), ours.trust().clone()), "in time"),
        (at("https://no-such-host.invalid", ours.trust().clone()), "cannot be resolved"),
        (at(&ours.server().to_string(), kubeop_cluster::kubeconfig::Trust::Ca(other_ca.certificate)), "TLS"),
    ] {
        let started = std::time::Instant::now();
        let error = probe::probe(&client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.message().contains(needle) || (needle == "in time" && error.message().contains("5 s")),
            "{needle}: {error:?}"
        );
        // A probe that were not bounded would wait for the system's own limits, minutes.
        assert!(started.elapsed() < Duration::from_secs(30), "{needle}: {:?}", started.elapsed());
    }
    let metadata =
        Kubeconfig::new("https://169.254.169.254", None, ours.trust().clone(), ours.credential().clone()).unwrap();
    assert!(connect(&metadata, &AddressPolicy::default()).is_err_and(|e| e.message().contains("metadata service")));
}

#[tokio::test]
async fn a_service_account_client_is_that_account() {
    let client = prepared().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kubeop-admission"}});
    accounts.patch("kubeop-admission", &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
    let acting =
        as_service_account(&kubeconfig(), &AddressPolicy::default(), client.clone(), ServiceAccountName::Admission)
            .await
            .unwrap();
    let review: Api<SelfSubjectReview> = Api::all(acting);
    let who = review.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    assert_eq!(
        who.status.unwrap().user_info.unwrap().username.as_deref(),
        Some("system:serviceaccount:kubeop-system:kubeop-admission")
    );
}

#[tokio::test]
async fn writes_carry_their_precondition_and_touch_nothing_foreign() {
    let client = prepared().await;
    let (name, id) = (name("apply"), fresh());
    let target = Target { kind: Kind::Tenant, namespace: None, name: name.clone() };
    assert!(apply::live(&client, &target).await.unwrap().is_none());
    let first = tenant(&name, id, &json!({"displayName": "one", "quotas": {"cpu": "1"}}));
    let Written::Applied { uid, .. } = apply::claim(&client, &target, &first).await.unwrap() else { panic!("applied") };
    assert_eq!(apply::claim(&client, &target, &first).await.unwrap(), Written::Conflict);

    // A field taken away goes away; what somebody else added goes too.
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &Kind::Tenant.resource());
    let meddling =
        json!({"metadata": {"labels": {"app.kubeop.io/project-id": "x", "theirs": "y"}}, "spec": {"suspended": true}});
    api.patch(
        &name,
        &PatchParams { field_manager: Some("meddler".into()), ..PatchParams::default() },
        &Patch::Merge(&meddling),
    )
    .await
    .unwrap();
    let stale = apply::live(&client, &target).await.unwrap().unwrap();
    let second = tenant(&name, id, &json!({"displayName": "two"}));
    assert!(matches!(apply::apply(&client, &stale, &second).await.unwrap(), Written::Applied { .. }));
    let after = apply::live(&client, &target).await.unwrap().unwrap();
    assert_eq!(after.object.data["spec"], json!({"displayName": "two"}));
    let labels = after.object.metadata.labels.clone().unwrap();
    assert!(labels.contains_key("theirs") && !labels.contains_key("app.kubeop.io/project-id"), "{labels:?}");
    assert_eq!((after.wanted, after.entity.as_deref()), (Some(1), Some(id.to_string().as_str())));

    // The stale reader loses, another id never wins, deletion is by uid.
    assert_eq!(apply::apply(&client, &stale, &second).await.unwrap(), Written::Conflict);
    assert!(matches!(
        apply::apply(&client, &after, &tenant(&name, fresh(), &json!({}))).await.unwrap(),
        Written::NotOurs(_)
    ));
    assert_eq!(apply::delete(&client, &target, &fresh().to_string()).await.unwrap(), Deleted::Gone);
    assert!(apply::live(&client, &target).await.unwrap().is_some(), "another uid deletes nothing");
    let refused = apply::apply(&client, &after, &tenant(&name, id, &json!({"displayName": 7}))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert_eq!(apply::delete(&client, &target, &uid).await.unwrap(), Deleted::Gone);
    let app = Target { kind: Kind::App, namespace: Some("no-such-namespace".into()), name: "a".into() };
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App", "metadata": {"name": "a"}, "spec": {"delivery": {"image": {"ref": "nginx"}}},
    }))
    .unwrap();
    assert_eq!(apply::claim(&client, &app, &object).await.unwrap(), Written::NoNamespace);
}

#[tokio::test]
async fn the_mirror_shows_changes_and_deletions() {
    let client = prepared().await;
    let (name, id) = (name("mirror"), fresh());
    let target = Target { kind: Kind::Tenant, namespace: None, name: name.clone() };
    let mut events = Box::pin(mirror(&client));
    let mut synced = 0;
    while synced < 3 {
        match tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap() {
            Event::Synced(_) => synced += 1,
            Event::Broken(kind, error) => panic!("{kind:?}: {error}"),
            _ => {}
        }
    }
    let Written::Applied { uid, .. } = apply::claim(&client, &target, &tenant(&name, id, &json!({}))).await.unwrap()
    else {
        panic!("applied")
    };
    apply::delete(&client, &target, &uid).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"gone") {
        match tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap() {
            Event::Seen(live) if live.target == target => seen.push("seen"),
            Event::Gone { target: gone, entity, uid: dead } if gone == target => {
                assert_eq!((entity, dead), (Some(id.to_string()), uid.clone()));
                seen.push("gone");
            }
            _ => {}
        }
    }
    assert_eq!(seen, ["seen", "gone"]);
}

#[tokio::test]
async fn an_issued_kubeconfig_works_until_its_secret_is_gone() {
    let client = prepared().await;
    let ours = kubeconfig();
    let tenant = Label::parse(&name("t")).unwrap();
    let project_id = fresh();
    // Nobody reconciles it here: the account needs a live Project, no more.
    let projects: Api<DynamicObject> = Api::all_with(client.clone(), &Kind::Project.resource());
    let project: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Project",
        "metadata": {"name": format!("{tenant}.web"), "labels": {"app.kubeop.io/project-id": project_id, "app.kubeop.io/tenant-id": fresh()}},
        "spec": {"tenant": tenant, "namespace": format!("kubeop-{tenant}-web")},
    }))
    .unwrap();
    projects.create(&PostParams::default(), &project).await.unwrap();
    let request = credential::Request {
        id: KubeconfigId(fresh()),
        project_id: ProjectId(project_id),
        tenant,
        project: Label::parse("web").unwrap(),
        namespace: Label::parse("default").unwrap(),
        role: credential::AccessRole::Developer,
        ttl: SignedDuration::from_mins(10),
        server: ours.server().to_string(),
        ca_pem: ours.ca_pem().map(ToOwned::to_owned),
        tls_server_name: None,
    };
    let now = kubeop_cluster::clock::server_time(&client).await.unwrap();
    let issued = credential::issue(&client, &request).await.unwrap();
    let left = issued.expires_at.duration_since(now).as_secs();
    assert!((590..=660).contains(&left), "{left}");
    let theirs = Kubeconfig::parse(issued.kubeconfig.expose_secret(), Intake::default()).unwrap();
    let review: Api<SelfSubjectReview> = Api::all(connect(&theirs, &AddressPolicy::default()).unwrap());
    let who = review.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let expected = format!("system:serviceaccount:kubeop-access:{}", issued.service_account);
    assert_eq!(who.status.unwrap().user_info.unwrap().username, Some(expected));

    // Another project of the same names gets nothing through this account.
    let thief = credential::Request { project_id: ProjectId(fresh()), id: KubeconfigId(fresh()), ..request.clone() };
    assert_eq!(credential::issue(&client, &thief).await.err().map(|e| e.kind()), Some(ErrorKind::Unavailable));

    assert!(credential::revoke(&client, &issued.secret_name, &issued.secret_uid).await.unwrap());
    assert!(!credential::revoke(&client, &issued.secret_name, &issued.secret_uid).await.unwrap());
    let revoked = std::time::Instant::now();
    while review.create(&PostParams::default(), &SelfSubjectReview::default()).await.is_ok() {
        assert!(revoked.elapsed() < Duration::from_secs(15), "a revoked kubeconfig still works");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("revoked after {:?}", revoked.elapsed());

    // An expired one is collected, a live one stays.
    let two = credential::Request { id: KubeconfigId(fresh()), ..request.clone() };
    let live = credential::issue(&client, &two).await.unwrap();
    assert!(!credential::collect_expired(&client, now).await.unwrap().contains(&two.id));
    let later = now + SignedDuration::from_mins(20);
    assert!(credential::collect_expired(&client, later).await.unwrap().contains(&two.id));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    assert!(secrets.get_opt(&live.secret_name).await.unwrap().is_none());
    projects.delete(&format!("{}.web", request.tenant), &DeleteParams::default()).await.unwrap();
    assert!(credential::issue(&client, &request).await.is_err_and(|e| e.message().contains("is not on its cluster")));
}

#[tokio::test]
async fn of_two_candidates_one_leads_and_the_other_follows_at_once_after_release() {
    let client = prepared().await;
    let lease = name("lease");
    let stand = |identity: &str| {
        let stop = CancellationToken::new();
        let terms = Terms {
            duration: Duration::from_secs(3),
            renew: Duration::from_millis(300),
            ..Terms::new(SYSTEM_NAMESPACE, &lease, identity.into())
        };
        (campaign(client.clone(), terms, Arc::new(SystemClock), stop.clone()), stop)
    };
    let leads = |standing: &Standing| *standing == Standing::Leads;
    let patience = Duration::from_secs(20);
    let ((mut one, first), stop_one) = stand("one");
    tokio::time::timeout(patience, one.wait_for(leads)).await.unwrap().unwrap();
    let ((mut two, second), stop_two) = stand("two");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((*one.borrow(), *two.borrow()), (Standing::Leads, Standing::Follows));
    stop_one.cancel();
    first.await.unwrap();
    assert_eq!(*one.borrow(), Standing::Unknown);
    let released = std::time::Instant::now();
    tokio::time::timeout(patience, two.wait_for(leads)).await.unwrap().unwrap();
    assert!(released.elapsed() < Duration::from_millis(2500), "as if it had died: {:?}", released.elapsed());
    // A leader that dies is replaced after the duration.
    second.abort();
    drop(stop_two);
    let ((mut three, third), stop_three) = stand("three");
    let died = std::time::Instant::now();
    tokio::time::timeout(patience, three.wait_for(leads)).await.unwrap().unwrap();
    assert!(died.elapsed() >= Duration::from_millis(2500), "{:?}", died.elapsed());
    stop_three.cancel();
    third.await.unwrap();
}

#[tokio::test]
async fn a_canary_that_nobody_answers_is_told_apart_and_stores_nothing() {
    let client = prepared().await;
    let nonce = fresh();
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let registered = async || configurations.get_opt(status::WEBHOOK_CONFIGURATION).await.unwrap().is_some();
    // Tests of the operator, in another process, may have one answer for a while.
    let before = registered().await;
    let answer = status::canary(&client, nonce).await.unwrap();
    let alone = !before && !registered().await;
    assert!(!alone || answer == status::Canary::Unanswered, "{answer:?}");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    assert!(maps.get_opt(&format!("kubeop-canary-{nonce}")).await.unwrap().is_none());
    let observed = status::observe(&client, nonce, SystemClock.now()).await;
    assert!(observed.reachable && observed.version.is_some() && observed.last_seen.is_some(), "{observed:?}");
    assert!(observed.admission || observed.messages.iter().any(|why| why.starts_with("admission: ")), "{observed:?}");
}

#[tokio::test]
async fn a_cluster_of_another_instance_is_refused() {
    let client = prepared().await;
    bootstrap::foreign_instance(&client, INSTANCE).await.unwrap();
    let error = bootstrap::foreign_instance(&client, InstanceId(fresh())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(&INSTANCE.to_string()), "{error}");
}

#[tokio::test]
async fn a_policy_reaches_the_cluster_and_an_older_one_never_replaces_it() {
    let client = prepared().await;
    let raw = |images: &[&str]| RawPolicy {
        image_allowlist: images.iter().map(ToString::to_string).collect(),
        ..RawPolicy::default()
    };
    let newest = policy::version(&client).await.unwrap().unwrap_or(0) + 10;
    assert!(policy::publish(&client, &raw(&["docker.io"]), newest).await.unwrap());
    assert!(
        policy::publish(&client, &raw(&["docker.io"]), newest).await.unwrap(),
        "the same version again is a repair"
    );
    assert!(!policy::publish(&client, &raw(&["ghcr.io"]), newest - 1).await.unwrap());
    assert!(policy::version(&client).await.unwrap() >= Some(newest));
    // Installing again leaves it alone.
    prepared().await;
    assert!(policy::version(&client).await.unwrap() >= Some(newest));
}

/// What a container sees of an API server on its machine's loopback: nothing at 127.0.0.1, and the server at the gateway.
#[tokio::test]
async fn a_loopback_server_out_of_reach_is_reached_through_the_gateway_with_its_name_kept() {
    let direct = kubeconfig();
    let server = (direct.host().to_owned(), direct.server().port_u16().unwrap());
    assert!(direct.is_loopback(), "the test cluster is local");
    // A second loopback address stands for the gateway; the port is free on the first.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let forwarding = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let mut stored: serde_json::Value = serde_json::from_slice(&direct.to_bytes()).unwrap();
    stored["server"] = json!(format!("https://127.0.0.1:{port}"));
    let far = Kubeconfig::from_bytes(stored.to_string().as_bytes()).unwrap();

    for none in [None, Some("127.0.0.3"), Some("no-such-host.invalid")] {
        let kept = gateway::route(far.clone(), none).await.unwrap();
        assert_eq!((kept.host(), kept.tls_server_name()), ("127.0.0.1", None), "{none:?}");
    }
    let kept = gateway::route(direct.clone(), Some("127.0.0.2")).await.unwrap();
    assert_eq!(kept.server(), direct.server(), "loopback answers: no detour");

    let routed = gateway::route(far, Some("127.0.0.2")).await.unwrap();
    assert_eq!((routed.host(), routed.server().port_u16()), ("127.0.0.2", Some(port)));
    assert_eq!(routed.tls_server_name(), Some("127.0.0.1"));
    let found = probe::probe(&connect(&routed, &AddressPolicy::default()).unwrap()).await.unwrap();
    assert_eq!(found.cluster_uid, probe::probe(&client()).await.unwrap().cluster_uid);
    forwarding.abort();
}
