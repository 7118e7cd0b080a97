//! Who may do what: one table from role and operation to the rows in reach.
//!
//! Invariant: only [`decide`] makes a [`Scope`], and no tenant row is read or written without one. What lies outside a scope is "not found".

use crate::id::{ProjectId, TenantId};
use crate::{Error, Result};

/// The role of a caller, with what it is confined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The platform team: everything.
    Admin,
    /// One tenant: its projects, apps, usage and invoices.
    Tenant(TenantId),
    /// One project: itself and its apps.
    Project(ProjectId),
}

impl Role {
    /// The value of the `role` claim.
    pub fn claim(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Tenant(_) => "tenant",
            Self::Project(_) => "project",
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The `sub` claim, or a fixed name where authentication is off.
    pub subject: String,
    /// What it may do.
    pub role: Role,
    /// The id of its token, if it has one.
    pub token_id: Option<String>,
}

impl Actor {
    /// Everyone, while authentication is off.
    pub fn anonymous() -> Self {
        Self { subject: "anonymous".to_owned(), role: Role::Admin, token_id: None }
    }

    /// kubeOP itself: sync and background jobs.
    pub fn system() -> Self {
        Self { subject: "kubeop".to_owned(), role: Role::Admin, token_id: None }
    }
}

/// Every operation of the API that needs a caller, by the rights it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Anything with clusters, and the platform operations on one.
    ManageClusters,
    /// Reading tenants.
    ReadTenants,
    /// Creating, changing, deleting tenants.
    WriteTenants,
    /// Reading projects.
    ReadProjects,
    /// Creating, changing, deleting projects.
    WriteProjects,
    /// Reading apps.
    ReadApps,
    /// Creating, changing, deleting apps.
    WriteApps,
    /// Reading the platform policy.
    ReadPolicy,
    /// Replacing the platform policy.
    WritePolicy,
    /// Issuing a tenant's token.
    IssueTenantTokens,
    /// Issuing a project's token.
    IssueProjectTokens,
    /// Revoking tokens.
    RevokeTokens,
    /// Issuing a project's kubeconfig of role developer or viewer.
    IssueKubeconfigs,
    /// Issuing a project's kubeconfig of role admin, listing and revoking kubeconfigs.
    ManageKubeconfigs,
    /// Sending usage.
    IngestUsage,
    /// Reading usage and invoices.
    ReadBilling,
    /// Reading and setting prices.
    ManagePrices,
    /// Platform-wide figures.
    ReadAnalytics,
    /// The audit log.
    ReadAudit,
    /// Event deliveries that were given up: looking at them, sending them again.
    ManageWebhooks,
    /// Deleting although the cluster cannot be reached.
    ForceDelete,
}

/// The rows a decision opened. Made by [`decide`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(Reach);

/// How far a [`Scope`] reaches; for the store to put into its `WHERE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every row.
    All,
    /// Rows of one tenant.
    Tenant(TenantId),
    /// Rows of one project.
    Project(ProjectId),
}

impl Scope {
    /// How far it reaches.
    pub fn reach(self) -> Reach {
        self.0
    }
}

/// Decides whether `actor` may perform `action`, and on which rows.
///
/// # Errors
/// `Forbidden` when the operation is closed to the actor's role, whatever the object.
pub fn decide(actor: &Actor, action: Action) -> Result<Scope> {
    use Action as A;
    let reach = match (actor.role, action) {
        (Role::Admin, _) => Reach::All,
        (
            Role::Tenant(tenant),
            A::ReadTenants
            | A::ReadProjects
            | A::WriteProjects
            | A::ReadApps
            | A::WriteApps
            | A::IssueProjectTokens
            | A::RevokeTokens
            | A::IssueKubeconfigs
            | A::ManageKubeconfigs
            | A::ReadBilling
            | A::ReadPolicy,
        ) => Reach::Tenant(tenant),
        (
            Role::Project(project),
            A::ReadProjects | A::ReadApps | A::WriteApps | A::IssueKubeconfigs | A::ReadPolicy,
        ) => Reach::Project(project),
        (
            Role::Tenant(_),
            A::ManageClusters
            | A::WriteTenants
            | A::WritePolicy
            | A::IssueTenantTokens
            | A::IngestUsage
            | A::ManagePrices
            | A::ReadAnalytics
            | A::ReadAudit
            | A::ManageWebhooks
            | A::ForceDelete,
        )
        | (
            Role::Project(_),
            A::ManageClusters
            | A::ReadTenants
            | A::WriteTenants
            | A::WriteProjects
            | A::WritePolicy
            | A::IssueTenantTokens
            | A::IssueProjectTokens
            | A::RevokeTokens
            | A::ManageKubeconfigs
            | A::IngestUsage
            | A::ReadBilling
            | A::ManagePrices
            | A::ReadAnalytics
            | A::ReadAudit
            | A::ManageWebhooks
            | A::ForceDelete,
        ) => return Err(Error::forbidden(format!("role {:?} may not do this", actor.role.claim()))),
    };
    Ok(Scope(reach))
}

/// The scope of kubeOP's own background work: every row.
pub fn system_scope() -> Scope {
    Scope(Reach::All)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn actor(role: Role) -> Actor {
        Actor { subject: "s".into(), role, token_id: None }
    }

    #[test]
    fn a_scope_never_reaches_past_the_role() {
        let tenant = TenantId(Uuid::from_u128(1));
        let project = ProjectId(Uuid::from_u128(2));
        assert_eq!(decide(&actor(Role::Tenant(tenant)), Action::ReadApps).unwrap().reach(), Reach::Tenant(tenant));
        assert_eq!(decide(&actor(Role::Project(project)), Action::WriteApps).unwrap().reach(), Reach::Project(project));
        assert!(decide(&actor(Role::Project(project)), Action::WriteProjects).is_err());
        assert!(decide(&actor(Role::Tenant(tenant)), Action::IngestUsage).is_err());
    }
}
