//! Hooks: Jobs that run once per revision, before (`pre`) or after (`post`) it is delivered.
//!
//! Invariant: a hook's image obeys the same allow-list as the app's.

use k8s_openapi::api::core::v1::EnvVar;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Jobs before and after each revision.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    /// Run in order before anything of the revision is applied; a failure stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16))]
    pub pre: Vec<Hook>,
    /// Run in order once the revision is available.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16))]
    pub post: Vec<Hook>,
}

impl Hooks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pre.is_empty() && self.post.is_empty()
    }
}

/// One Job.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Its name, unique among the hooks of the App.
    #[schemars(extend("minLength" = 1, "maxLength" = 40))]
    pub name: String,
    /// The image; by default that of an App of kind Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 512))]
    pub image: Option<String>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub args: Vec<String>,
    /// Environment variables, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 500))]
    pub env: Vec<EnvVar>,
    /// Seconds after which the Job counts as failed; 600 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 86400))]
    pub timeout_seconds: Option<i64>,
    /// How often a failed pod is tried again; 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 100))]
    pub backoff_limit: Option<i32>,
}
