//! The extractor through which every operation is entered: authenticate, check revocation, decide.
//!
//! Invariant: a `Caller<P>` exists only for an actor who may perform `P`; what it may touch is its scope.

use super::permission::Permission;
use crate::http::error::ApiError;
use crate::http::layers::RequestId;
use crate::http::params::bearer;
use crate::state::Manager;
use aide::OperationInput;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kubeop_core::authz::{Action, Actor, Scope, decide};
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::audit::{self, AuditRecord};
use kubeop_store::{Read, Tx};
use std::marker::PhantomData;
use std::sync::Arc;

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
    permission: PhantomData<P>,
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
    pub tenant: Option<kubeop_core::id::TenantId>,
    /// What else is worth knowing; never a secret.
    pub detail: String,
}

impl<P: Permission> FromRequestParts<Arc<Manager>> for Caller<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager>) -> Result<Self, ApiError> {
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let actor = authenticate(parts, manager).await.inspect_err(|error| {
            if error.kind() == ErrorKind::Unauthenticated {
                manager.metrics.unauthenticated.inc();
            }
        })?;
        match decide(&actor, P::ACTION) {
            Ok(scope) => Ok(Self { manager: Arc::clone(manager), actor, scope, request_id, permission: PhantomData }),
            Err(denial) => {
                note_denial(manager, &actor, &request_id, P::ACTION).await?;
                Err(ApiError(denial))
            }
        }
    }
}

async fn authenticate(parts: &Parts, manager: &Manager) -> Result<Actor> {
    if !manager.config.require_auth {
        return Ok(Actor::anonymous());
    }
    let actor = manager.tokens.verify(bearer(&parts.headers)?, manager.clock.now())?;
    if let Some(id) = &actor.token_id {
        let mut read = manager.store.read().await?;
        if kubeop_store::issued_token::is_revoked(&mut read.conn(), id).await? {
            return Err(Error::new(ErrorKind::Unauthenticated, "the token was revoked"));
        }
    }
    Ok(actor)
}

async fn note_denial(manager: &Manager, actor: &Actor, request_id: &str, action: Action) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    let deed = Deed { verb: "denied", detail: format!("{action:?}"), ..Deed::default() };
    audit::append(&mut tx.conn(), &record(manager, actor, request_id, deed, "denied")).await?;
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
        before_digest: None,
        after_digest: None,
        detail: deed.detail,
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

    /// Commits a change together with its audit record.
    pub async fn commit(&self, mut tx: Tx, deed: Deed) -> Result<()> {
        let entry = record(&self.manager, &self.actor, &self.request_id, deed, "done");
        audit::append(&mut tx.conn(), &entry).await?;
        Ok(tx.commit().await?)
    }
}

impl<P> OperationInput for Caller<P> {}
