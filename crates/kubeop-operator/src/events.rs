//! Kubernetes Events: what `kubectl describe` shows of the turns a resource took.
//!
//! Invariant: sent beside the reconcile, never in its way; a full queue or a refusal costs an Event, nothing else.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kubeop_crds::labels;
use tokio::sync::mpsc;

/// Sends Events in the background.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<(Event, ObjectReference)>);

/// Events that may wait.
const QUEUE: usize = 256;
/// The API server's limit of a note (1 kB), with room for multi-byte characters.
const NOTE: usize = 900;

impl Events {
    /// Starts sending; ends when every handle is dropped.
    pub(crate) fn start(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: labels::OPERATOR.to_owned(), instance: Some(identity.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        let (sender, mut queue) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        tokio::spawn(async move {
            while let Some((event, about)) = queue.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, name = about.name, "event not published");
                }
            }
        });
        Self(sender)
    }

    /// Tells that a resource took a turn: `action` says by what step.
    pub(crate) fn tell(&self, about: ObjectReference, good: bool, action: &str, reason: &str, note: &str) {
        let note: String = note.char_indices().take_while(|(at, _)| *at < NOTE).map(|(_, c)| c).collect();
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: (!note.is_empty()).then_some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if self.0.try_send((event, about)).is_err() {
            tracing::debug!(reason, "event dropped: the queue is full");
        }
    }
}
