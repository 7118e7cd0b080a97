//! What the watches show, kept for reading.
//!
//! Invariant: read only after `ready`; a store may be a moment behind, which every reader must stand.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use kube::runtime::reflector::{ObjectRef, Store, store, store::Writer};
use kubeop_core::{Error, Result};
use kubeop_crds::{App, Certificate, DnsRecord, Owner, Project, Tenant, labels};
use kubeop_plan::policy::{self, Published};
use kubeop_plan::project::build::QUOTA;
use kubeop_plan::providers::{self, Providers};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the providers are waited for: everything else does without them.
const PROVIDERS_WITHIN: Duration = Duration::from_secs(10);

/// Read sides.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) tenants: Store<Tenant>,
    pub(crate) projects: Store<Project>,
    pub(crate) apps: Store<App>,
    pub(crate) records: Store<DnsRecord>,
    pub(crate) certificates: Store<Certificate>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) quotas: Store<ResourceQuota>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) policy: Store<ConfigMap>,
    pub(crate) providers: Store<ConfigMap>,
}

/// Write sides, one for each watch.
pub(crate) struct Writers {
    pub(crate) tenants: Writer<Tenant>,
    pub(crate) projects: Writer<Project>,
    pub(crate) apps: Writer<App>,
    pub(crate) records: Writer<DnsRecord>,
    pub(crate) certificates: Writer<Certificate>,
    pub(crate) namespaces: Writer<Namespace>,
    pub(crate) quotas: Writer<ResourceQuota>,
    pub(crate) deployments: Writer<Deployment>,
    pub(crate) policy: Writer<ConfigMap>,
    pub(crate) providers: Writer<ConfigMap>,
}

/// Empty stores.
pub(crate) fn stores() -> (Stores, Writers) {
    let (tenants, w_tenants) = store();
    let (projects, w_projects) = store();
    let (apps, w_apps) = store();
    let (records, w_records) = store();
    let (certificates, w_certificates) = store();
    let (namespaces, w_namespaces) = store();
    let (quotas, w_quotas) = store();
    let (deployments, w_deployments) = store();
    let (policy, w_policy) = store();
    let (providers, w_providers) = store();
    let writers = Writers {
        tenants: w_tenants,
        projects: w_projects,
        apps: w_apps,
        records: w_records,
        certificates: w_certificates,
        namespaces: w_namespaces,
        quotas: w_quotas,
        deployments: w_deployments,
        policy: w_policy,
        providers: w_providers,
    };
    let stores =
        Stores { tenants, projects, apps, records, certificates, namespaces, quotas, deployments, policy, providers };
    (stores, writers)
}

impl Stores {
    /// Waits until every watch has listed what there is.
    pub(crate) async fn ready(&self) -> Result<()> {
        let dropped = |_| Error::internal("a watch ended before it listed anything");
        self.tenants.wait_until_ready().await.map_err(dropped)?;
        self.projects.wait_until_ready().await.map_err(dropped)?;
        self.apps.wait_until_ready().await.map_err(dropped)?;
        self.records.wait_until_ready().await.map_err(dropped)?;
        self.namespaces.wait_until_ready().await.map_err(dropped)?;
        self.quotas.wait_until_ready().await.map_err(dropped)?;
        self.deployments.wait_until_ready().await.map_err(dropped)?;
        self.certificates.wait_until_ready().await.map_err(dropped)?;
        self.policy.wait_until_ready().await.map_err(dropped)?;
        // An installation of an earlier release knows no providers, nor lets anybody look for them.
        if let Ok(ready) = timeout(PROVIDERS_WITHIN, self.providers.wait_until_ready()).await {
            return ready.map_err(dropped);
        }
        tracing::warn!(
            "ConfigMap {} in kubeop-system cannot be read: none are used until it can (was kubeOP installed here by an earlier release?)",
            providers::NAME
        );
        Ok(())
    }

    /// The platform policy, as ConfigMap `kubeop-policy` says it.
    pub(crate) fn published_policy(&self) -> Result<Published> {
        match self.policy.state().first() {
            Some(map) => policy::from_config_map(map),
            None => Err(Error::unavailable(format!("ConfigMap {} in kubeop-system is missing", policy::NAME))),
        }
    }

    /// The providers, as ConfigMap `kubeop-providers` says them; none without it.
    pub(crate) fn configured_providers(&self) -> Result<Providers> {
        self.providers.state().first().map_or(Ok(Providers::default()), |map| providers::from_config_map(map))
    }

    /// The namespace of an owner of hosts, if App and Project are there with the uids it names, and stay.
    pub(crate) fn home_of(&self, owner: &Owner) -> Option<String> {
        let project = self.project(&owner.project)?;
        let name = &project.spec.namespace;
        let namespace = self.namespace(name)?;
        let app = self.apps.get(&ObjectRef::new(&owner.app).within(name))?;
        let stays = [&project.metadata, &namespace.metadata, &app.metadata]
            .into_iter()
            .all(|meta| meta.deletion_timestamp.is_none());
        let is = |uid: Option<&String>, wanted: &String| uid == Some(wanted);
        let marked = namespace.metadata.annotations.as_ref().and_then(|all| all.get(labels::OWNER_UID));
        let theirs = is(project.metadata.uid.as_ref(), &owner.project_uid)
            && is(marked, &owner.project_uid)
            && is(app.metadata.uid.as_ref(), &owner.app_uid);
        (stays && theirs).then(|| name.clone())
    }

    /// The projects of a tenant.
    pub(crate) fn projects_of(&self, tenant: &str) -> Vec<Arc<Project>> {
        self.projects.state_filter(|project| project.spec.tenant == tenant)
    }

    /// The ResourceQuota of a project, if it is the project's.
    pub(crate) fn quota_of(&self, project: &Project) -> Option<Arc<ResourceQuota>> {
        let quota = self.quotas.get(&ObjectRef::new(QUOTA).within(&project.spec.namespace))?;
        let owner = quota.metadata.annotations.as_ref().and_then(|all| all.get(labels::OWNER_UID));
        (owner.is_some() && owner == project.metadata.uid.as_ref()).then_some(quota)
    }

    /// A project's namespace.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&ObjectRef::new(name))
    }

    /// A project by the name of its resource.
    pub(crate) fn project(&self, name: &str) -> Option<Arc<Project>> {
        self.projects.get(&ObjectRef::new(name))
    }

    /// A tenant.
    pub(crate) fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tenants.get(&ObjectRef::new(name))
    }

    /// The apps of a namespace.
    pub(crate) fn apps_in(&self, namespace: &str) -> Vec<Arc<App>> {
        self.apps.state_filter(|app| app.metadata.namespace.as_deref() == Some(namespace))
    }
}
