//! Writing events to the outbox, and how a row becomes a CloudEvent.
//!
//! Invariant: nothing is written that no hook wants; what is written holds no secret.

use super::Events;
use super::about::About;
use super::hook::Hook;
use crate::state::Manager;
use jiff::{SignedDuration, Timestamp};
use kubeop_api::event::{Event, EventActor, EventData};
use kubeop_core::authz::Actor;
use kubeop_core::clock::IdSource;
use kubeop_core::id::{InstanceId, TenantId};
use kubeop_core::{Error, Result};
use kubeop_store::Conn;
use kubeop_store::event_delivery::{self, EventDelivery};
use uuid::Uuid;

/// How long a delivery is tried.
pub const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Characters of a text in an event at most.
const MAX_TEXT: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Its id; of a change through the API, its audit record's.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// What was done, as in the audit log.
    pub action: &'static str,
    /// To what kind of object.
    pub kind: &'static str,
    /// To which object; empty if it has no id.
    pub object: String,
    /// Where the object stands.
    pub about: About,
    /// The tenant it belongs to.
    pub tenant: Option<TenantId>,
    /// Who did it.
    pub actor: Actor,
    /// The request it was done by; empty: none.
    pub request_id: String,
    /// What else is worth knowing.
    pub detail: String,
}

impl Happening {
    /// Something that kubeOP itself did or saw, now.
    pub fn by_system(manager: &Manager, action: &'static str, kind: &'static str, object: &impl ToString) -> Self {
        Self::by_system_at(manager.clock.now(), manager.ids.next(), action, kind, object)
    }

    /// The same at a time, under an id.
    pub fn by_system_at(
        at: Timestamp,
        id: Uuid,
        action: &'static str,
        kind: &'static str,
        object: &impl ToString,
    ) -> Self {
        Self {
            id,
            at,
            action,
            kind,
            object: object.to_string(),
            about: About::default(),
            tenant: None,
            actor: Actor::system(),
            request_id: String::new(),
            detail: String::new(),
        }
    }

    fn event_type(&self) -> String {
        format!("io.kubeop.{}.{}", self.kind, happened(self.action))
    }

    fn data(&self) -> EventData {
        // As the audit log has it: no NUL, which PostgreSQL's JSON cannot hold, and bounded.
        let clean = |text: &str| text.chars().filter(|c| *c != '\0').take(MAX_TEXT).collect::<String>();
        let told = |text: &str| Some(clean(text)).filter(|text| !text.is_empty());
        EventData {
            action: self.action.to_owned(),
            kind: self.kind.to_owned(),
            id: clean(&self.object),
            name: self.about.name.clone(),
            cluster_id: self.about.cluster,
            tenant_id: self.tenant,
            project_id: self.about.project,
            actor: EventActor { subject: clean(&self.actor.subject), role: self.actor.role.claim().to_owned() },
            request_id: told(&self.request_id),
            detail: told(&self.detail),
        }
    }
}

/// An action as something that has happened; what is no verb (`ready`, `gone`) is that already.
fn happened(action: &'static str) -> &'static str {
    match action {
        "create" => "created",
        "update" => "updated",
        "delete" => "deleted",
        "issue" => "issued",
        "revoke" => "revoked",
        "close" => "closed",
        "ingest" => "ingested",
        "bootstrap" => "bootstrapped",
        "autoscale" => "autoscaled",
        "replay" => "replayed",
        "uninstall" => "uninstalling",
        other => other,
    }
}

/// Writes an event for each hook that wants it. After the commit, [`super::Events::ring`] speeds it on its way.
pub async fn publish(manager: &Manager, conn: &mut Conn<'_>, what: &Happening) -> Result<()> {
    publish_to(&manager.events, &*manager.ids, conn, what).await
}

/// The same before there is a manager.
pub async fn publish_to(events: &Events, ids: &dyn IdSource, conn: &mut Conn<'_>, what: &Happening) -> Result<()> {
    let event_type = what.event_type();
    let wanted: Vec<&Hook> = events.hooks.iter().map(AsRef::as_ref).filter(|hook| hook.wants(&event_type)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let data = serde_json::to_value(what.data()).map_err(Error::internal)?;
    // What has no id of its own is told of in no particular order.
    let object = if what.object.is_empty() { what.id.to_string() } else { what.object.clone() };
    for hook in wanted {
        let row = EventDelivery {
            seq: 0,
            id: ids.next(),
            hook: hook.name.to_owned(),
            event_id: what.id,
            event_type: event_type.clone(),
            subject: format!("{}/{object}", what.kind),
            tenant_id: what.tenant,
            data: data.clone(),
            occurred_at: what.at,
            give_up_at: what.at + GIVE_UP_AFTER,
            next_at: what.at,
            claimed_by: None,
            attempts: 0,
            last_status: None,
            last_error: None,
            dead_at: None,
        };
        event_delivery::put(conn, &row).await?;
    }
    Ok(())
}

/// A delivery's event, as it is sent: whenever it is, in the same bytes.
pub fn event(instance: InstanceId, row: &EventDelivery) -> Result<Event> {
    Ok(Event {
        specversion: "1.0".to_owned(),
        id: row.event_id,
        source: format!("urn:uuid:{instance}"),
        kind: row.event_type.clone(),
        subject: row.subject.clone(),
        time: row.occurred_at,
        datacontenttype: "application/json".to_owned(),
        sequence: format!("{:020}", row.seq),
        data: serde_json::from_value(row.data.clone()).map_err(Error::internal)?,
    })
}
