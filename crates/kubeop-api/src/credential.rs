//! Tokens and kubeconfigs of a project or tenant.
//!
//! Invariant: a secret is shown once, in the answer that makes it.

use crate::resource::Time;
use kubeop_core::id::{KubeconfigId, ProjectId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for a project's token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ProjectTokenInput {
    /// The project.
    #[schemars(required, extend("format" = "uuid"))]
    pub project_id: Option<String>,
    /// Minutes it lives: 1 to 1440, default 60.
    #[schemars(range(min = 1, max = 1440))]
    pub ttl_minutes: Option<i64>,
}

/// Asks for a tenant's token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct TenantTokenInput {
    /// The tenant.
    #[schemars(required, extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// Minutes it lives: 1 to 1440, default 60.
    #[schemars(range(min = 1, max = 1440))]
    pub ttl_minutes: Option<i64>,
}

/// A token.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Token {
    /// The token, for the header `Authorization: Bearer`.
    pub token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// When it ends.
    pub expires_at: Time,
    /// The project it is confined to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// The tenant it is confined to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Its id, to revoke it by.
    pub jti: String,
}

/// How a kubeconfig is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct KubeconfigQuery {
    /// Minutes it lives: 10 to 1440, default 60.
    #[schemars(with = "Option<i32>", range(min = 10, max = 1440))]
    pub ttl_minutes: Option<String>,
    /// `developer` (default), `viewer` or `admin`.
    pub role: Option<String>,
}

/// A kubeconfig, shown once.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Kubeconfig {
    /// The kubeconfig as YAML.
    pub kubeconfig: String,
    /// When its token ends.
    pub expires_at: Time,
    /// Its id, to revoke it by.
    pub id: KubeconfigId,
}

/// Which kubeconfigs to list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct KubeconfigListQuery {
    /// The project.
    #[schemars(extend("format" = "uuid"))]
    pub project_id: Option<String>,
}

/// An issued kubeconfig, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IssuedKubeconfig {
    /// Its id.
    pub id: KubeconfigId,
    /// The project it opens.
    pub project_id: ProjectId,
    /// Its role.
    pub role: String,
    /// Who asked for it.
    pub issued_to: String,
    /// When it was issued.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Time,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
}
