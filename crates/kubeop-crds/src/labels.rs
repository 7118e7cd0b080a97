//! Label and annotation keys, finalizer and field managers.
//!
//! Invariant: no other crate spells one of these; tenants can never set those under `app.kubeop.io/` and `kubeop.io/`.

/// Id of the cluster (UUID).
pub const CLUSTER_ID: &str = "app.kubeop.io/cluster-id";
/// Id of the tenant: the manager's UUID, without a manager the Tenant's uid.
pub const TENANT_ID: &str = "app.kubeop.io/tenant-id";
/// Id of the project: the manager's UUID, without a manager the Project's uid. On a namespace it says that the namespace is a project's.
pub const PROJECT_ID: &str = "app.kubeop.io/project-id";
/// Id of the app: the manager's UUID, without a manager the App's uid.
pub const APP_ID: &str = "app.kubeop.io/app-id";
/// Name of the tenant.
pub const TENANT: &str = "app.kubeop.io/tenant";
/// Name of the project within its tenant.
pub const PROJECT: &str = "app.kubeop.io/project";
/// Name of the app.
pub const APP: &str = "app.kubeop.io/app";
/// Number of the App's revision.
pub const REVISION: &str = "app.kubeop.io/revision";
/// `pre` or `post`, on hook Jobs.
pub const HOOK: &str = "app.kubeop.io/hook";
/// Id of the manager installation that wrote a resource.
pub const INSTANCE: &str = "app.kubeop.io/instance";
/// Role behind a ServiceAccount in `kubeop-access`: `developer`, `viewer`, `admin`.
pub const ACCESS_ROLE: &str = "app.kubeop.io/access-role";
/// On a namespace, `"true"`: projects' own NetworkPolicies may name it as a source (ingress controllers).
pub const INGRESS: &str = "app.kubeop.io/ingress";
/// On a namespace, `"true"`: its pods (Prometheus) may read the metrics of kubeOP's own pods.
pub const METRICS: &str = "app.kubeop.io/metrics";
/// On the ConfigMap of a canary request: `kubeop-admission` answers it with a known denial.
pub const CANARY: &str = "app.kubeop.io/canary";

/// What the prefix of every reserved label of ours is.
pub const APP_PREFIX: &str = "app.kubeop.io/";
/// What the prefix of every reserved annotation of ours is.
pub const PREFIX: &str = "kubeop.io/";

/// `app.kubernetes.io/name`.
pub const NAME: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/instance`.
pub const K8S_INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `app.kubernetes.io/part-of`.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// `app.kubernetes.io/component`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`PART_OF`] on what belongs to the platform itself.
pub const PART_OF_KUBEOP: &str = "kubeop";

/// Annotation: the version of the desired state a resource was written from (a decimal number); a lower one never replaces a higher.
pub const WANTED: &str = "kubeop.io/wanted";
/// Annotation: uid of the resource that owns an object (no ownerReference, so that no garbage collector ever deletes by it).
pub const OWNER_UID: &str = "kubeop.io/owner-uid";
/// Annotation: name of the resource that owns an object, beside [`OWNER_UID`].
pub const OWNER: &str = "kubeop.io/owner";
/// Annotation of a project's namespace: the egress baseline of the platform, CIDRs separated by commas; empty = any outside address.
pub const EGRESS_BASELINE: &str = "kubeop.io/egress-baseline";
/// Kubernetes' recommended label of an application's version, as the chart sets it.
pub const VERSION: &str = "app.kubernetes.io/version";
/// Annotation: version of the kubeOP that installed an object.
pub const INSTALLED_VERSION: &str = "kubeop.io/version";
/// The finalizer by which the operator empties what a resource made.
pub const FINALIZER: &str = "kubeop.io/cleanup";

/// Field manager of the operator, and value of [`MANAGED_BY`] on what it makes.
pub const OPERATOR: &str = "kubeop-operator";
/// Field manager of the manager, and value of [`MANAGED_BY`] on the resources it writes.
pub const MANAGER: &str = "kubeop-manager";
/// Value of [`MANAGED_BY`] on what Helm installed: a bootstrap leaves that to Helm.
pub const HELM: &str = "Helm";
/// Field manager of the installation, and value of [`MANAGED_BY`] on its objects.
pub const INSTALLER: &str = "kubeop";

/// What the names of the platform's objects in a project namespace begin with.
pub const RESERVED_NAME_PREFIX: &str = "kubeop-";
