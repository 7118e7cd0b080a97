//! Projects: one fenced namespace each.
//!
//! Invariant: [`Resources`] has its fields in the order of application, and access is last; deleting runs in reverse.

pub mod build;
pub mod quota;
pub mod status;
pub mod validate;

pub use build::build;
pub use status::{Progress, findings};
pub use validate::{Surroundings, ValidProject, validate};

use crate::resources::Object;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;

/// Everything a project consists of, in the order in which it is applied.
#[derive(Clone, Debug)]
pub struct Resources<S> {
    /// First, since everything else lives in it.
    pub namespace: Object<S, Namespace>,
    /// The operator's own rights in the namespace, without which it can write nothing of what follows.
    pub operator_binding: Object<S, RoleBinding>,
    /// In force (every key in `status.hard` and `status.used`) before anyone can make a pod.
    pub resource_quota: Object<S, ResourceQuota>,
    /// Gives plain pods the requests that the quota demands.
    pub limit_range: Object<S, LimitRange>,
    /// The network fence.
    pub network_policies: Vec<Object<S, NetworkPolicy>>,
    /// Whom issued kubeconfigs act as, in `kubeop-access`.
    pub service_account: Object<S, ServiceAccount>,
    /// People's access: last. None while the project or its tenant is suspended.
    pub role_bindings: Vec<Object<S, RoleBinding>>,
}
