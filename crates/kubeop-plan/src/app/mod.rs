//! Apps: what is delivered into a project's namespace.
//!
//! Invariant: [`Resources`] has its fields in the order of application: hosts are claimed before anything answers under them.

pub mod build;
pub mod compute;
pub mod mounts;
pub mod ports;
pub mod size;
pub mod status;
pub mod validate;

pub use build::build;
pub use size::check_size;
pub use status::{Progress, findings};
pub use validate::{Surroundings, ValidApp, validate};

use crate::resources::Object;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kubeop_crds::{Certificate, DnsRecord};

/// Everything an App of kind Image consists of, in the order in which it is applied.
#[derive(Clone, Debug)]
pub struct Resources<S> {
    /// The claims of its hosts, born by POST: whoever comes second gets 409.
    pub dns_records: Vec<Object<S, DnsRecord>>,
    /// Key and certificate of its hosts; none without hosts or without an issuer.
    pub certificate: Option<Object<S, Certificate>>,
    /// The pods.
    pub deployment: Object<S, Deployment>,
    /// Where other pods reach it; none without ports.
    pub service: Option<Object<S, Service>>,
    /// Where the outside reaches it; none without hosts. Last, when there is something behind it.
    pub ingress: Option<Object<S, Ingress>>,
}
