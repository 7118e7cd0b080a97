//! Deciding whether a Project obeys the rules, and which quota it gets.
//!
//! Invariant: decisions for projects of one tenant are made one after the other, each counting the earlier ones (`grants`).

use super::dereference::Around;
use crate::context::Context;
use crate::grants::raise;
use kube::ResourceExt;
use kubeop_core::quota::Quotas;
use kubeop_crds::Project;
use kubeop_plan::Validated;
use kubeop_plan::project::{Surroundings, ValidProject, validate as understand};

pub(super) fn validate(project: &Project, around: &Around, ctx: &Context) -> Validated<ValidProject> {
    ctx.grants.decide(&project.spec.tenant, &project.name_any(), |decided| {
        let others: Vec<Quotas> = around
            .siblings
            .iter()
            .map(|(name, holds)| {
                let mut holds = holds.clone();
                if let Some(given) = decided.get(name) {
                    raise(&mut holds, given);
                }
                holds
            })
            .collect();
        let surroundings = Surroundings {
            tenant: &around.tenant,
            others: &others,
            live_quota: around.live_quota.as_ref(),
            policy: &around.policy.policy,
        };
        let valid = understand(project, &surroundings)?;
        Ok((valid.quotas.clone(), valid))
    })
}
