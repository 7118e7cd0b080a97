//! One operator for all tests of this process, and what tests do over and over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::client::{ServiceAccountName, as_service_account, connect};
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_cluster::{bootstrap, policy};
use kubeop_core::clock::{Clock, IdSource, SystemClock, SystemIds};
use kubeop_core::id::InstanceId;
use kubeop_core::policy::RawPolicy;
use kubeop_crds::conditions::{READY, find};
use kubeop_crds::{App, Certificate, DnsRecord, Project, Tenant};
use kubeop_plan::install::{self, Home, Options};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The instance that all test binaries install as, since they may share a cluster.
pub(crate) const INSTANCE: InstanceId = InstanceId(Uuid::from_u128(0x7e57));

/// An operator on a thread of its own, since each test has a runtime of its own.
struct Running {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // So that the lease is free for the tests of another process.
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The clock of a machine that is more than a day ahead of the cluster's: nothing that is issued or judged may go by it.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_hours(26)
    }
}

static OPERATOR: Mutex<Weak<Running>> = Mutex::new(Weak::new());

fn operator() -> Arc<Running> {
    let mut shared = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return running;
    }
    // Says here, rather than on the operator's thread, that no cluster was given.
    drop(kubeconfig());
    let stop = CancellationToken::new();
    let (tell, told) = mpsc::channel();
    let quit = stop.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let registered = admin();
            let options = Options {
                version: "test".into(),
                home: Home::Process(None),
                policy: RawPolicy::default(),
                metrics_server: None,
                mocks: true,
            };
            bootstrap::install(&registered, &install::objects(&options).unwrap(), INSTANCE).await.unwrap();
            publish(&registered, &usual_policy()).await;
            let client =
                as_service_account(&kubeconfig(), &AddressPolicy::default(), registered, ServiceAccountName::Operator)
                    .await
                    .unwrap();
            let config = kubeop_operator::Config {
                client,
                identity: format!("test-{}", fresh()),
                certificates: kubeop_operator::Certificates::Operator,
                clock: Arc::new(Ahead),
                ids: Arc::new(SystemIds),
                readiness: kubeop_operator::Readiness::default(),
            };
            let mut registry = prometheus_client::registry::Registry::default();
            let metrics = kubeop_operator::metrics::Metrics::register(&mut registry);
            let running = kubeop_operator::run(config, metrics, quit);
            tell.send(()).unwrap();
            running.await.unwrap();
        });
    });
    told.recv().expect("the operator starts");
    let running = Arc::new(Running { stop, thread: Some(thread) });
    *shared = Arc::downgrade(&running);
    running
}

/// Publishes a policy as the newest, whoever else publishes; its version.
pub(crate) async fn publish(client: &Client, raw: &RawPolicy) -> i64 {
    loop {
        let next = policy::version(client).await.unwrap().unwrap_or(0) + 1;
        if policy::publish(client, raw, next).await.unwrap() {
            return next;
        }
    }
}

/// The policy outside tests of the policy.
pub(crate) fn usual_policy() -> RawPolicy {
    RawPolicy { image_allowlist: vec!["docker.io".into()], ..RawPolicy::default() }
}

fn kubeconfig() -> Kubeconfig {
    #[expect(clippy::disallowed_methods, reason = "the test command tells where the cluster is")]
    let path =
        std::env::var("KUBEOP_TEST_KUBECONFIG").expect("KUBEOP_TEST_KUBECONFIG is not set: run cargo xtask test");
    Kubeconfig::parse(&std::fs::read_to_string(&path).unwrap(), Intake { insecure: true }).unwrap()
}

/// A client that may do anything.
pub(crate) fn admin() -> Client {
    connect(&kubeconfig(), &AddressPolicy::default()).unwrap()
}

/// A fresh id.
pub(crate) fn fresh() -> Uuid {
    SystemIds.next()
}

/// One test's view: names of its own, and a cluster with an operator.
pub(crate) struct World {
    pub(crate) client: Client,
    /// The test's tenant; its projects are in namespaces `kubeop-<tenant>-<project>`.
    pub(crate) tenant: String,
    _operator: Arc<Running>,
}

impl World {
    /// A world with a tenant of this envelope.
    pub(crate) async fn with(envelope: serde_json::Value) -> Self {
        let operator = tokio::task::spawn_blocking(operator).await.unwrap();
        let id = fresh().simple().to_string();
        let tenant = format!("t{}", &id[id.len() - 8..]);
        let world = Self { client: admin(), tenant, _operator: operator };
        world.create::<Tenant>(None, json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "metadata": {"name": world.tenant}, "spec": {"quotas": envelope},
        })).await;
        world
    }

    pub(crate) async fn new() -> Self {
        Self::with(json!({})).await
    }

    pub(crate) fn namespace(&self, project: &str) -> String {
        format!("kubeop-{}-{project}", self.tenant)
    }

    pub(crate) fn resource(&self, project: &str) -> String {
        format!("{}.{project}", self.tenant)
    }

    /// Creates a project with more in its spec.
    pub(crate) async fn project(&self, name: &str, more: serde_json::Value) -> Project {
        let mut spec = json!({"tenant": self.tenant, "namespace": self.namespace(name)});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.create(None, json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Project", "metadata": {"name": self.resource(name)}, "spec": spec,
        }))
        .await
    }

    /// A project that is ready.
    pub(crate) async fn ready_project(&self, name: &str) -> Project {
        self.project(name, json!({})).await;
        self.project_until(name, |project| ready(project.status.as_ref().map(|s| &s.conditions[..])).0).await
    }

    /// Creates an App in a project's namespace.
    pub(crate) async fn app(&self, project: &str, name: &str, spec: serde_json::Value) -> App {
        self.create(
            Some(&self.namespace(project)),
            json!({
                "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App", "metadata": {"name": name}, "spec": spec,
            }),
        )
        .await
    }

    pub(crate) async fn create<K>(&self, namespace: Option<&str>, object: serde_json::Value) -> K
    where
        K: Scoped + serde::Serialize,
    {
        K::api(&self.client, namespace)
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn get<K: Scoped>(&self, namespace: Option<&str>, name: &str) -> Option<K> {
        K::api(&self.client, namespace).get_opt(name).await.unwrap()
    }

    pub(crate) async fn delete<K: Scoped>(&self, namespace: Option<&str>, name: &str) {
        K::api(&self.client, namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn project_until(&self, name: &str, is: impl Fn(&Project) -> bool) -> Project {
        self.until::<Project>(None, &self.resource(name), is).await
    }

    pub(crate) async fn app_until(&self, project: &str, name: &str, is: impl Fn(&App) -> bool) -> App {
        self.until::<App>(Some(&self.namespace(project)), name, is).await
    }

    /// Waits until an object is as `is` says.
    pub(crate) async fn until<K: Scoped>(&self, namespace: Option<&str>, name: &str, is: impl Fn(&K) -> bool) -> K {
        self.until_for(Duration::from_secs(20), namespace, name, is).await
    }

    /// The same with its own patience.
    pub(crate) async fn until_for<K: Scoped>(
        &self,
        patience: Duration,
        namespace: Option<&str>,
        name: &str,
        is: impl Fn(&K) -> bool,
    ) -> K {
        let started = Instant::now();
        loop {
            let found = self.get::<K>(namespace, name).await;
            match found {
                Some(object) if is(&object) => return object,
                other if started.elapsed() > patience => {
                    let shown = other.map(|o| serde_json::to_string_pretty(&o).unwrap_or_default());
                    panic!(
                        "{} {namespace:?}/{name} is not as expected after {patience:?}: {}",
                        K::kind(&()),
                        shown.unwrap_or_else(|| "absent".into())
                    );
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn until_gone<K: Scoped>(&self, namespace: Option<&str>, name: &str) {
        let started = Instant::now();
        while let Some(object) = self.get::<K>(namespace, name).await {
            let shown = || serde_json::to_string_pretty(&object).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_mins(1), "{} {name} is still there: {}", K::kind(&()), shown());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes everything of the test away.
    pub(crate) async fn clean(self) {
        let projects: Api<Project> = Api::all(self.client.clone());
        for project in projects.list(&kube::api::ListParams::default()).await.unwrap() {
            if project.spec.tenant == self.tenant {
                let _ = projects.delete(&project.name_any(), &DeleteParams::default()).await;
            }
        }
        self.delete::<Tenant>(None, &self.tenant).await;
        self.until_gone::<Tenant>(None, &self.tenant).await;
    }
}

/// `Ready`: whether it is true, and its reason.
pub(crate) fn ready(
    conditions: Option<&[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]>,
) -> (bool, String) {
    let found = conditions.and_then(|all| find(all, READY));
    (found.is_some_and(|c| c.status == "True"), found.map(|c| c.reason.clone()).unwrap_or_default())
}

/// A kind with its API, whatever its scope.
pub(crate) trait Scoped:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + serde::Serialize
{
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self>;
}

macro_rules! scoped {
    (cluster: $($cluster:ty),*; namespaced: $($namespaced:ty),*) => {
        $(impl Scoped for $cluster { fn api(client: &Client, _: Option<&str>) -> Api<Self> { Api::all(client.clone()) } })*
        $(impl Scoped for $namespaced {
            fn api(client: &Client, namespace: Option<&str>) -> Api<Self> { Api::namespaced(client.clone(), namespace.unwrap()) }
        })*
    };
}

scoped! {
    cluster: Tenant, Project, DnsRecord, Certificate, Namespace,
        k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
    namespaced: App, ResourceQuota, LimitRange, NetworkPolicy, RoleBinding, ServiceAccount,
        k8s_openapi::api::apps::v1::Deployment, k8s_openapi::api::core::v1::Service, k8s_openapi::api::core::v1::Secret,
        k8s_openapi::api::core::v1::ConfigMap, k8s_openapi::api::networking::v1::Ingress
}
