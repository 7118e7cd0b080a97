//! One marker type per action, so that an operation's signature says what it asks for.
//!
//! Invariant: the marker's action is decided before the body or the id of a request is looked at.

use kubeop_core::authz::Action;

/// What an operation asks for.
pub trait Permission: Send + Sync + 'static {
    /// The action that is decided.
    const ACTION: Action;
}

macro_rules! permissions {
    ($($name:ident),* $(,)?) => {$(
        #[doc = concat!("Asks for [`Action::", stringify!($name), "`].")]
        pub struct $name;

        impl Permission for $name {
            const ACTION: Action = Action::$name;
        }
    )*};
}

permissions! {
    ManageClusters, ReadTenants, WriteTenants, ReadProjects, WriteProjects, ReadApps, WriteApps, ReadPolicy, WritePolicy,
    IssueTenantTokens, IssueProjectTokens, RevokeTokens, IssueKubeconfigs, ManageKubeconfigs, IngestUsage, ReadBilling,
    ManagePrices, ReadAnalytics, ReadAudit, ManageWebhooks,
}
