//! `kubeop token`.
//!
//! Invariant: signs with the manager's own key; the token is the only thing on stdout.

use crate::cli::{TokenArgs, TokenRole};
use anyhow::Context;
use jiff::SignedDuration;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::clock::{Clock, IdSource, SystemClock, SystemIds};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_manager::auth::token::Tokens;

/// Prints a signed token.
pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let key = args
        .signing
        .given()?
        .context("KUBEOP_JWT_SIGNING_KEY is not set, and --key-dir names no directory with a generated key")?;
    let id = || args.id.as_deref().context("--id is needed for this role");
    let role = match args.role {
        TokenRole::Admin => Role::Admin,
        TokenRole::Tenant => Role::Tenant(TenantId::parse(id()?)?),
        TokenRole::Project => Role::Project(ProjectId::parse(id()?)?),
    };
    let actor = Actor { subject: args.subject.clone(), role, token_id: Some(SystemIds.next().to_string()) };
    let now = SystemClock.now();
    println!("{}", Tokens::new(&[key]).sign(&actor, now, now + SignedDuration::from_mins(args.ttl_minutes))?);
    Ok(())
}
