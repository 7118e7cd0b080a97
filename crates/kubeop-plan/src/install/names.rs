//! Names of what an installation consists of.
//!
//! Invariant: other crates name these objects only through here.

/// ServiceAccount of the manager, in `kubeop-system`.
pub const MANAGER_ACCOUNT: &str = "kubeop-manager";
/// ServiceAccount of the operator, in `kubeop-system`.
pub const OPERATOR_ACCOUNT: &str = "kubeop-operator";
/// ServiceAccount of admission, in `kubeop-system`.
pub const ADMISSION_ACCOUNT: &str = "kubeop-admission";

/// ClusterRole of the manager, and of its Roles.
pub const MANAGER: &str = "kubeop:manager";
/// ClusterRole of the operator, and of its Roles.
pub const OPERATOR: &str = "kubeop:operator";
/// Role of admission.
pub const ADMISSION: &str = "kubeop:admission";
/// ClusterRole that the operator binds to itself in each project namespace.
pub const OPERATOR_PROJECT: &str = "kubeop:operator-project";
/// Roles of the operator where stand-ins for providers are configured, in `kubeop-system` and `kube-system`.
pub const OPERATOR_MOCKS: &str = "kubeop:operator-mocks";
/// ClusterRole of developers, bound in each project namespace.
pub const DEVELOPER: &str = "kubeop:developer";
/// ClusterRole of viewers, bound in each project namespace.
pub const VIEWER: &str = "kubeop:viewer";
/// ClusterRole of project admins, bound in each project namespace.
pub const ADMIN: &str = "kubeop:admin";

/// `ValidatingWebhookConfiguration`.
pub const WEBHOOK: &str = "kubeop-admission";
/// The webhook of project namespaces, within [`WEBHOOK`].
pub const WEBHOOK_PROJECTS: &str = "projects.admission.platform.kubeop.io";
/// The webhook of the canary, within [`WEBHOOK`].
pub const WEBHOOK_CANARY: &str = "canary.platform.kubeop.io";
/// Path of the webhook of project namespaces.
pub const ADMIT_PATH: &str = "/admit";
/// Path of the canary's webhook.
pub const CANARY_PATH: &str = "/canary";
/// Secret with admission's certificate and key, in `kubeop-system`.
pub const TLS_SECRET: &str = "kubeop-admission-tls";
/// Secret with the CA of the self-signed issuer, in `kubeop-system`.
pub const ISSUER_SECRET: &str = "kubeop-issuer-ca";
/// Where the cluster's CoreDNS is configured.
pub const DNS_NAMESPACE: &str = "kube-system";
/// ConfigMap with its Corefile, key [`DNS_COREFILE`].
pub const DNS_CONFIG: &str = "coredns";
/// The Corefile's key.
pub const DNS_COREFILE: &str = "Corefile";
/// ConfigMap of additions, where a distribution imports one and makes it.
pub const DNS_CUSTOM: &str = "coredns-custom";
/// Our key in it.
pub const DNS_OVERRIDE: &str = "kubeop.override";
/// Port of admission's Service, which is named as its account.
pub const ADMISSION_PORT: i32 = 443;
/// Service of the operator's metrics.
pub const OPERATOR_METRICS: &str = "kubeop-operator-metrics";
/// `PriorityClass` of our own pods.
pub const PRIORITY: &str = "kubeop-platform";
/// The `APIService` of resource metrics.
pub const METRICS_API: &str = "v1beta1.metrics.k8s.io";
/// Lease of the operator's leader, in `kubeop-system`.
pub const OPERATOR_LEASE: &str = "kubeop-operator";

/// `ValidatingAdmissionPolicy` (and its binding) of reserved names and labels.
pub const GUARD_RESERVED: &str = "kubeop-reserved";
/// `ValidatingAdmissionPolicy` (and its binding) of the egress baseline.
pub const GUARD_EGRESS: &str = "kubeop-egress";
/// Guard of pods.
pub const GUARD_PODS: &str = "kubeop-pods";
/// Guard of Services.
pub const GUARD_SERVICES: &str = "kubeop-services";
/// Every guard; its binding has the same name.
pub const GUARDS: [&str; 4] = [GUARD_RESERVED, GUARD_EGRESS, GUARD_PODS, GUARD_SERVICES];
/// The verb on `projects.platform.kubeop.io` that passes the guards of reserved objects.
pub const BYPASS: &str = "bypass";
