//! Who holds a host name or a certificate.
//!
//! Invariant: an owner is compared by its uids; the names are for people.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The App that holds a DNSRecord or Certificate. Immutable.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Name of the Project resource (`<tenant>.<project>`).
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub project: String,
    /// The Project's uid.
    #[serde(rename = "projectUID")]
    #[schemars(extend("minLength" = 1, "maxLength" = 64))]
    pub project_uid: String,
    /// Name of the App in the project's namespace.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    pub app: String,
    /// The App's uid.
    #[serde(rename = "appUID")]
    #[schemars(extend("minLength" = 1, "maxLength" = 64))]
    pub app_uid: String,
}
