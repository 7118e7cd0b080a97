//! Tokens: issue for a project or a tenant, revoke by `jti`.
//!
//! Invariant: every issued token is recorded before it is shown, so that it can be revoked; what a token issued ends with it.

use crate::api::{projects, tenants};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::{IssueProjectTokens, IssueTenantTokens, Permission, RevokeTokens};
use crate::events::About;
use crate::http::answer::{Gone, Secret};
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, NoQuery};
use jiff::SignedDuration;
use kubeop_api::credential::{ProjectTokenInput, TenantTokenInput, Token};
use kubeop_core::authz::{Actor, Role};
use kubeop_core::id::{ProjectId, TenantId, shorten};
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::Tx;
use kubeop_store::issued_token::{self, IssuedToken};

const DEFAULT_MINUTES: i64 = 60;
const MAX_MINUTES: i64 = 1440;
/// How long a revocation is kept of a token whose end is not known: longer than any lives.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Issues a project's token.
pub async fn issue_project(
    caller: Caller<IssueProjectTokens>,
    _: NoQuery,
    Body(input): Body<ProjectTokenInput>,
) -> ApiResult<Secret<Token>> {
    let id = input.project_id.as_deref().ok_or_else(|| Error::invalid("project_id: is required"))?;
    ProjectId::parse(id).map_err(|e| e.at("project_id"))?;
    let minutes = minutes(input.ttl_minutes)?;
    let row = projects::get::find(&mut caller.read().await?.conn(), caller.scope, id).await?;
    let actor = Role::Project(row.id);
    Ok(issue(&caller, actor, row.tenant_id, minutes).await?)
}

/// Issues a tenant's token.
pub async fn issue_tenant(
    caller: Caller<IssueTenantTokens>,
    _: NoQuery,
    Body(input): Body<TenantTokenInput>,
) -> ApiResult<Secret<Token>> {
    let id = input.tenant_id.as_deref().ok_or_else(|| Error::invalid("tenant_id: is required"))?;
    TenantId::parse(id).map_err(|e| e.at("tenant_id"))?;
    let minutes = minutes(input.ttl_minutes)?;
    let row = tenants::get::find(&mut caller.read().await?.conn(), caller.scope, id).await?;
    Ok(issue(&caller, Role::Tenant(row.id), row.id, minutes).await?)
}

fn minutes(asked: Option<i64>) -> Result<i64> {
    let minutes = asked.unwrap_or(DEFAULT_MINUTES);
    if (1..=MAX_MINUTES).contains(&minutes) {
        Ok(minutes)
    } else {
        Err(Error::invalid(format!("ttl_minutes: {minutes} is not allowed: 1 to {MAX_MINUTES}")))
    }
}

async fn issue<P: Permission>(caller: &Caller<P>, role: Role, tenant: TenantId, minutes: i64) -> Result<Secret<Token>> {
    let manager = &caller.manager;
    let now = manager.clock.now();
    let expires_at = now + SignedDuration::from_mins(minutes);
    let jti = manager.ids.next().to_string();
    let (project_id, tenant_id, subject) = match role {
        Role::Project(id) => (Some(id), None, format!("project:{id}")),
        Role::Tenant(id) => (None, Some(id), format!("tenant:{id}")),
        Role::Admin => return Err(Error::internal("admin tokens are not issued over the API")),
    };
    let actor = Actor { subject, role, token_id: Some(jti.clone()) };
    let token = manager.tokens.sign_within(&actor, Some(tenant), now, expires_at)?;
    let record = IssuedToken {
        jti: jti.clone(),
        role: role.claim().to_owned(),
        tenant_id: Some(tenant),
        project_id,
        subject: actor.subject,
        created_at: now,
        expires_at,
        revoked_at: None,
        parent_jti: caller.actor.token_id.clone(),
    };
    let mut tx = caller.change().await?;
    if let Some(parent) = &record.parent_jti
        && !issued_token::hold(&mut tx.conn(), parent).await?
    {
        return Err(Error::new(ErrorKind::Unauthenticated, "the token was revoked"));
    }
    issued_token::insert(&mut tx.conn(), &record).await?.or_conflict(|_| "the token's id is taken".to_owned())?;
    let deed = Deed {
        verb: "issue",
        kind: "token",
        id: jti.clone(),
        tenant: Some(tenant),
        about: About::project(project_id),
        before: None,
        after: Some(digest::of(&record)?),
        detail: format!("{} for {minutes} minutes", record.subject),
    };
    let shown = Secret(Token { token, token_type: "Bearer".to_owned(), expires_at, project_id, tenant_id, jti });
    caller.commit_answered(tx, deed, &shown).await?;
    Ok(shown)
}

/// Revokes a token and whatever it issued. An admin may revoke one that is not on record, as `kubeop token` makes them.
pub async fn revoke(caller: Caller<RevokeTokens>, ItemId(jti): ItemId, _: NoQuery) -> ApiResult<Gone> {
    let mut tx = caller.change().await?;
    let now = caller.manager.clock.now();
    let (revoked, known) = match issued_token::revoke(&mut tx.conn(), caller.scope, &jti, now).await? {
        Some(revoked) => (revoked, true),
        None => (unrecorded(&caller, &mut tx, jti).await?, false),
    };
    let with_it = issued_token::revoke_issued_by(&mut tx.conn(), &revoked.jti, now).await?;
    let before = known.then(|| digest::of(&IssuedToken { revoked_at: None, ..revoked.clone() })).transpose()?;
    let deed = Deed {
        verb: "revoke",
        kind: "token",
        detail: if with_it > 0 { format!("with {with_it} tokens that it issued") } else { String::new() },
        before,
        after: Some(digest::of(&revoked)?),
        id: revoked.jti,
        tenant: revoked.tenant_id,
        about: About::project(revoked.project_id),
    };
    caller.commit(tx, deed).await?;
    Ok(Gone)
}

/// Notes the revocation of a token that is not on record.
async fn unrecorded(caller: &Caller<RevokeTokens>, tx: &mut Tx, jti: String) -> Result<IssuedToken> {
    let missing = || Error::not_found(format!("there is no token {:?}", shorten(&jti)));
    // Every jti of ours is a UUID in its usual form; for another one there is no token.
    let is_ours = uuid::Uuid::parse_str(&jti).is_ok_and(|id| id.to_string() == jti);
    if caller.actor.role != Role::Admin || !is_ours {
        return Err(missing());
    }
    let now = caller.manager.clock.now();
    let row = IssuedToken {
        jti: jti.clone(),
        role: String::new(),
        tenant_id: None,
        project_id: None,
        subject: String::new(),
        created_at: now,
        expires_at: now + KEPT_FOR,
        revoked_at: Some(now),
        parent_jti: None,
    };
    issued_token::insert(&mut tx.conn(), &row).await?.or_conflict(|_| "the token was just recorded".to_owned())?;
    Ok(row)
}
