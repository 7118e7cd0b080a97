//! Closing months whose grace is over.
//!
//! Invariant: one way closes a month, whoever asks for it; closings of all replicas take turns by a row of the database, so that one of them
//! at a time closes, and a month that another one closed meanwhile is left alone.

use crate::audit::digest;
use crate::events::outbox::{Happening, publish};
use crate::state::Manager;
use kubeop_core::authz::Actor;
use kubeop_core::id::TenantId;
use kubeop_core::month::Month;
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::Conn;
use kubeop_store::audit::{self, AuditRecord};
use kubeop_store::invoice::{self, Due, Invoice};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(1);
const PAGE: u32 = 200;

/// Closes months until the process ends.
pub async fn close_months(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = round(&manager, &shutdown).await {
            tracing::warn!(error = %error.chain(), "failed to look for months to close");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Closes every month that is due. One that fails is left for the next round and keeps no other from being closed.
pub async fn round(manager: &Manager, shutdown: &CancellationToken) -> Result<()> {
    let first_not_due = first_not_due(manager);
    let mut after = None;
    loop {
        let due = invoice::due(&mut manager.store.read().await?.conn(), first_not_due, after, PAGE).await?;
        let Some(last) = due.last() else { return Ok(()) };
        after = Some(*last);
        for due in due {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            if let Err(error) = close(manager, due).await {
                let (tenant, month) = (due.tenant_id, due.month);
                if error.kind() == ErrorKind::Unavailable {
                    // A large batch may hold the month for longer than a closing waits.
                    tracing::warn!(%tenant, %month, error = %error.chain(), "a month is closed later");
                } else {
                    tracing::error!(%tenant, %month, error = %error.chain(), "failed to close a month");
                }
            }
        }
    }
}

/// Closes a tenant's months up to this one, if they are due: an invoice that is asked for does not wait for the next round.
pub async fn close_until(manager: &Manager, tenant_id: TenantId, month: Month) -> Result<()> {
    let bound = first_not_due(manager).min(month.next());
    loop {
        let due = invoice::due_of(&mut manager.store.read().await?.conn(), tenant_id, bound).await?;
        let Some(due) = due else { return Ok(()) };
        close(manager, due).await?;
    }
}

fn first_not_due(manager: &Manager) -> Month {
    Month::first_not_due(manager.clock.now(), manager.config.invoice_grace)
}

/// Makes sure that a closed invoice says what its audit record says it did, before it is given out.
///
/// # Errors
/// `Internal`, with an alarm in log and metrics, if it does not, or if there is no such record.
pub async fn verify(manager: &Manager, conn: &mut Conn<'_>, closed: &Invoice) -> Result<()> {
    let recorded = audit::closing_digest(conn, closed.id).await?;
    if recorded.as_deref() == Some(digest::of(closed)?.as_str()) {
        return Ok(());
    }
    manager.metrics.invoices_altered.inc();
    let why = if recorded.is_some() { "it was altered since it was closed" } else { "no audit record of its closing" };
    tracing::error!(tenant = %closed.tenant_id, month = %closed.month, number = closed.number, why, "a closed invoice is not given out");
    Err(Error::internal(format!("invoice {} is not what it was: {why}", closed.id)))
}

/// Closes a month, with its audit record, unless that was done meanwhile.
async fn close(manager: &Manager, due: Due) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    let Some(closed) = invoice::close(&mut tx, due, manager.ids.next(), manager.clock.now()).await? else {
        return Ok(tx.rollback().await?);
    };
    let entry = record(manager, &closed)?;
    audit::append(&mut tx.conn(), &entry).await?;
    let happening = Happening {
        id: entry.id,
        at: entry.at,
        tenant: entry.tenant_id,
        detail: entry.detail,
        ..Happening::by_system(manager, "close", "invoice", &closed.id)
    };
    publish(manager, &mut tx.conn(), &happening).await?;
    tx.commit().await?;
    manager.events.ring();
    manager.metrics.invoices_closed.inc();
    tracing::info!(tenant = %closed.tenant_id, month = %closed.month, number = closed.number, total = %closed.total, "closed a month");
    Ok(())
}

fn record(manager: &Manager, closed: &Invoice) -> Result<AuditRecord> {
    let actor = Actor::system();
    Ok(AuditRecord {
        id: manager.ids.next(),
        at: closed.generated_at,
        subject: actor.subject,
        role: actor.role.claim().to_owned(),
        tenant_id: Some(closed.tenant_id),
        action: "close".to_owned(),
        object_kind: "invoice".to_owned(),
        object_id: closed.id.to_string(),
        outcome: "done".to_owned(),
        request_id: String::new(),
        before_digest: None,
        after_digest: Some(digest::of(closed)?),
        detail: format!(
            "number {} of {}: {} {}",
            closed.number.unwrap_or_default(),
            closed.month,
            closed.total,
            closed.currency
        ),
        seal: None,
    })
}
