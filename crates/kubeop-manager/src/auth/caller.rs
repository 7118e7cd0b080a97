//! The extractor through which every operation is entered: authenticate, check revocation, decide.
//!
//! Invariant: a `Caller<P>` exists only for an actor who may perform `P`; what it may touch is its scope.

use super::permission::Permission;
use super::token::Shown;
use crate::events::About;
use crate::events::outbox::{Happening, publish};
use crate::http::answer::Keep;
use crate::http::error::{ApiError, refusals};
use crate::http::idempotency::Attempt;
use crate::http::layers::{RequestId, Verified};
use crate::http::params::bearer;
use crate::state::Manager;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response, StatusCode};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kubeop_core::authz::{Action, Actor, Role, Scope, decide, system_scope};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::audit::{self, AuditRecord};
use kubeop_store::{Read, Tx, project, tenant};
use std::marker::PhantomData;
use std::sync::Arc;
use uuid::Uuid;

/// A caller who may perform `P`.
pub struct Caller<P> {
    /// The manager.
    pub manager: Arc<Manager>,
    /// Who calls.
    pub actor: Actor,
    /// What the caller may touch.
    pub scope: Scope,
    /// The request's id.
    pub request_id: String,
    origin: Origin,
    attempt: Option<Arc<Attempt>>,
    permission: PhantomData<P>,
}

/// Where a request comes from: the tenant its caller is confined to, and what it asks for.
struct Origin {
    tenant: Option<TenantId>,
    asked: String,
}

/// What a change did, for the audit log.
#[derive(Debug, Default)]
pub struct Deed {
    /// What was done: `create`, `update`, `delete`, `issue`, ...
    pub verb: &'static str,
    /// The kind of object it was done to.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: Option<TenantId>,
    /// Where else it stands, for events.
    pub about: About,
    /// The digest of the thing before ([`crate::audit::digest::of`]); none if there was none.
    pub before: Option<String>,
    /// The digest of the thing after; none if there is none.
    pub after: Option<String>,
    /// What else is worth knowing; never a secret.
    pub detail: String,
}

impl<P: Permission> FromRequestParts<Arc<Manager>> for Caller<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager>) -> Result<Self, ApiError> {
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let (actor, tenant) = authenticate(parts, manager).await.inspect_err(|error| {
            if error.kind() == ErrorKind::Unauthenticated {
                manager.metrics.unauthenticated.inc();
            }
        })?;
        let origin = Origin { tenant, asked: format!("{} {}", parts.method, parts.uri.path()) };
        match decide(&actor, P::ACTION) {
            Ok(scope) => {
                let attempt = parts.extensions.get::<Arc<Attempt>>().cloned();
                if let Some(attempt) = &attempt {
                    attempt.is_of(&actor, tenant);
                }
                let manager = Arc::clone(manager);
                Ok(Self { manager, actor, scope, request_id, origin, attempt, permission: PhantomData })
            }
            Err(denial) => {
                note_denial(manager, &actor, &request_id, P::ACTION, &origin).await?;
                Err(ApiError(denial))
            }
        }
    }
}

/// Who calls, and the tenant it is confined to. A token outlives neither its revocation nor the tenant or project it is confined to.
async fn authenticate(parts: &Parts, manager: &Manager) -> Result<(Actor, Option<TenantId>)> {
    if !manager.config.require_auth {
        return Ok((Actor::anonymous(), None));
    }
    let Shown { actor, tenant: claimed } = match parts.extensions.get::<Verified>() {
        Some(verified) => verified.0.clone(),
        None => manager.tokens.verify(bearer(&parts.headers)?, manager.clock.now())?,
    };
    let refused = |why: &str| Error::new(ErrorKind::Unauthenticated, why);
    let mut read = manager.store.read().await?;
    if let Some(id) = &actor.token_id
        && kubeop_store::issued_token::is_revoked(&mut read.conn(), id).await?
    {
        return Err(refused("the token was revoked"));
    }
    let tenant = match actor.role {
        Role::Admin => None,
        Role::Tenant(id) => {
            let there = tenant::get(&mut read.conn(), system_scope(), id).await?;
            Some(there.ok_or_else(|| refused("the token's tenant does not exist any more"))?.id)
        }
        Role::Project(id) => {
            let there = project::get(&mut read.conn(), system_scope(), id).await?;
            let tenant_id = there.ok_or_else(|| refused("the token's project does not exist any more"))?.tenant_id;
            manager.gate.learn(id, tenant_id);
            if claimed.is_some_and(|claimed| claimed != tenant_id) {
                return Err(refused("the token's project is not its tenant's"));
            }
            Some(tenant_id)
        }
    };
    Ok((actor, tenant))
}

async fn note_denial(
    manager: &Manager,
    actor: &Actor,
    request_id: &str,
    action: Action,
    origin: &Origin,
) -> Result<()> {
    let deed = Deed {
        verb: "denied",
        kind: "request",
        id: origin.asked.clone(),
        tenant: origin.tenant,
        detail: format!("{action:?}"),
        ..Deed::default()
    };
    note(manager, actor, request_id, deed, "denied").await
}

/// Puts on record what changes nothing.
pub async fn note(manager: &Manager, actor: &Actor, request_id: &str, deed: Deed, outcome: &str) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    audit::append(&mut tx.conn(), &record(manager, actor, request_id, deed, outcome)).await?;
    Ok(tx.commit().await?)
}

fn record(manager: &Manager, actor: &Actor, request_id: &str, deed: Deed, outcome: &str) -> AuditRecord {
    AuditRecord {
        id: manager.ids.next(),
        at: manager.clock.now(),
        subject: actor.subject.clone(),
        role: actor.role.claim().to_owned(),
        tenant_id: deed.tenant,
        action: deed.verb.to_owned(),
        object_kind: deed.kind.to_owned(),
        object_id: deed.id,
        outcome: outcome.to_owned(),
        request_id: request_id.to_owned(),
        before_digest: deed.before,
        after_digest: deed.after,
        detail: deed.detail,
        seal: None,
    }
}

impl<P> Caller<P> {
    /// A connection for reading.
    pub async fn read(&self) -> Result<Read> {
        Ok(self.manager.store.read().await?)
    }

    /// A transaction for a change; dropped without [`Caller::commit`] it changes nothing.
    pub async fn change(&self) -> Result<Tx> {
        Ok(self.manager.store.begin().await?)
    }

    /// Asks for a further permission that depends on the request; a denial is on record.
    pub async fn require(&self, action: Action) -> Result<Scope> {
        match decide(&self.actor, action) {
            Ok(scope) => Ok(scope),
            Err(denial) => {
                note_denial(&self.manager, &self.actor, &self.request_id, action, &self.origin).await?;
                Err(denial)
            }
        }
    }

    /// Commits a change together with its audit record.
    pub async fn commit(&self, tx: Tx, deed: Deed) -> Result<()> {
        self.commit_all(tx, deed, None).await
    }

    /// Commits a change together with its audit record and, where the request has an `Idempotency-Key`, its answer.
    pub async fn commit_answered(&self, tx: Tx, deed: Deed, answer: &(impl Keep + Sync)) -> Result<()> {
        self.commit_all(tx, deed, Some(answer)).await
    }

    /// Puts a change on record within its transaction, where more follows from it before [`Caller::finish`].
    pub async fn record(&self, tx: &mut Tx, mut deed: Deed) -> Result<()> {
        let (action, kind, about) = (deed.verb, deed.kind, std::mem::take(&mut deed.about));
        let entry = record(&self.manager, &self.actor, &self.request_id, deed, "done");
        audit::append(&mut tx.conn(), &entry).await?;
        let happening = Happening {
            id: entry.id,
            at: entry.at,
            action,
            kind,
            object: entry.object_id,
            about,
            tenant: entry.tenant_id,
            actor: self.actor.clone(),
            request_id: entry.request_id,
            detail: entry.detail,
        };
        publish(&self.manager, &mut tx.conn(), &happening).await
    }

    /// Commits a change that is on record.
    pub async fn finish(&self, tx: Tx) -> Result<()> {
        self.finish_all(tx, None).await
    }

    async fn commit_all(&self, mut tx: Tx, deed: Deed, answer: Option<&(dyn Keep + Sync)>) -> Result<()> {
        self.record(&mut tx, deed).await?;
        self.finish_all(tx, answer).await
    }

    async fn finish_all(&self, mut tx: Tx, answer: Option<&(dyn Keep + Sync)>) -> Result<()> {
        if let Some(attempt) = &self.attempt {
            let kept = answer.map(Keep::keep).transpose()?;
            attempt.keep(&mut tx, kept).await?;
        }
        tx.commit().await?;
        self.manager.events.ring();
        Ok(())
    }
}

impl<P: Permission> OperationInput for Caller<P> {
    fn inferred_early_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusCode>, Response)> {
        let confined = [Role::Tenant(TenantId(Uuid::nil())), Role::Project(ProjectId(Uuid::nil()))];
        let refuses_some = confined.into_iter().any(|role| {
            let actor = Actor { subject: String::new(), role, token_id: None };
            decide(&actor, P::ACTION).is_err()
        });
        refusals(ctx, operation, if refuses_some { &[401, 403] } else { &[401] })
    }
}
