//! What a Tenant says, understood.
//!
//! Invariant: the envelope's keys are canonical and its amounts quantities.

use crate::identity::id;
use crate::refusal::{Refusal, Validated};
use kubeop_core::name::Label;
use kubeop_core::quota::Quotas;
use kubeop_crds::{Tenant, amounts, labels};

/// A tenant that obeys the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidTenant {
    /// Its name.
    pub name: Label,
    /// Its id: the manager's, else the resource's uid.
    pub id: String,
    /// What its projects share; an absent key is unlimited.
    pub envelope: Quotas,
    /// Whether everything of it rests.
    pub suspended: bool,
}

/// Understands a Tenant.
///
/// # Errors
/// A name that is no label, a quota key or amount that is none.
pub fn validate(tenant: &Tenant) -> Validated<ValidTenant> {
    let name = Label::parse(tenant.metadata.name.as_deref().unwrap_or_default())?;
    let envelope = Quotas::parse(amounts(&tenant.spec.quotas))
        .map_err(|error| Refusal::from(error.at(format!("quotas of tenant {name}"))))?;
    Ok(ValidTenant { name, id: id(tenant, labels::TENANT_ID)?, envelope, suspended: tenant.spec.suspended })
}
