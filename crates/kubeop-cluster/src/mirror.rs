//! The watch of what the manager wrote: each change of an object, and each disappearance, as one event.
//!
//! Invariant: after `Synced` of a kind the events seen so far are its whole state; a deletion during a broken watch comes as `Gone` after the next
//! list, and no event is ever made up from a partial list.

use crate::apply::{Kind, Live, PAGE, Target};
use crate::error::from_kube;
use futures::stream::{BoxStream, select_all};
use futures::{Stream, StreamExt};
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kubeop_core::Error;
use kubeop_crds::labels;
use std::collections::HashMap;

/// How long one watch lasts, in seconds. It goes on from where it ended, without a list; and one that went silent, which looks like a cluster in
/// which nothing happens, is given up a few seconds after it should have ended.
const WATCH_SECONDS: u32 = 30;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// An object is there, in this state.
    Seen(Box<Live>),
    /// An object is gone.
    Gone {
        /// Which it was.
        target: Target,
        /// The entity's id.
        entity: Option<String>,
        /// Its uid.
        uid: String,
    },
    /// Every object of the kind has been seen; from here on come changes.
    Synced(Kind),
    /// The watch broke; it is being set up again, with growing pauses.
    Broken(Kind, Error),
}

/// Watches every kind the manager writes until the stream is dropped.
pub fn mirror(client: &Client) -> impl Stream<Item = Event> + Send + use<> {
    select_all(Kind::ALL.map(|kind| follow(client.clone(), kind)))
}

fn follow(client: Client, kind: Kind) -> BoxStream<'static, Event> {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let config = watcher::Config::default()
        .labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER))
        .timeout(WATCH_SECONDS)
        .page_size(PAGE);
    let mut known = Known::new(kind);
    watcher(api, config).default_backoff().map(move |event| futures::stream::iter(known.take(event))).flatten().boxed()
}

/// What is there, so that what vanished unseen can be told.
struct Known {
    kind: Kind,
    there: HashMap<Target, (Option<String>, String)>,
    listed: Option<HashMap<Target, (Option<String>, String)>>,
}

impl Known {
    fn new(kind: Kind) -> Self {
        Self { kind, there: HashMap::new(), listed: None }
    }

    fn take(&mut self, event: Result<watcher::Event<DynamicObject>, watcher::Error>) -> Vec<Event> {
        match event {
            Ok(watcher::Event::Init) => {
                self.listed = Some(HashMap::new());
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => self.seen(object),
            Ok(watcher::Event::Delete(object)) => Live::new(self.kind, object)
                .ok()
                .map(|live| self.gone(&live.target, live.entity.clone(), live.uid.clone()))
                .into_iter()
                .collect(),
            Ok(watcher::Event::InitDone) => {
                let before = std::mem::replace(&mut self.there, self.listed.take().unwrap_or_default());
                let mut events: Vec<Event> = before
                    .into_iter()
                    .filter(|(target, (_, uid))| self.there.get(target).is_none_or(|(_, now)| now != uid))
                    .map(|(target, (entity, uid))| Event::Gone { target, entity, uid })
                    .collect();
                events.push(Event::Synced(self.kind));
                events
            }
            Err(error) => vec![Event::Broken(self.kind, broken(error, self.kind))],
        }
    }

    fn seen(&mut self, object: DynamicObject) -> Vec<Event> {
        let live = match Live::new(self.kind, object) {
            Ok(live) => live,
            Err(error) => return vec![Event::Broken(self.kind, error)],
        };
        let mark = (live.entity.clone(), live.uid.clone());
        let mut events = Vec::new();
        if let Some(listed) = &mut self.listed {
            listed.insert(live.target.clone(), mark);
        } else if let Some((entity, uid)) = self.there.insert(live.target.clone(), mark)
            && uid != live.uid
        {
            events.push(Event::Gone { target: live.target.clone(), entity, uid });
        }
        events.push(Event::Seen(Box::new(live)));
        events
    }

    fn gone(&mut self, target: &Target, entity: Option<String>, uid: String) -> Event {
        self.there.remove(target);
        Event::Gone { target: target.clone(), entity, uid }
    }
}

fn broken(error: watcher::Error, kind: Kind) -> Error {
    let what = format!("watching {}s", kind.as_str());
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => from_kube(error, what),
        watcher::Error::WatchError(status) => from_kube(kube::Error::Api(status), what),
        watcher::Error::NoResourceVersion => Error::unavailable(what).caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(name: &str, uid: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant",
            "metadata": {"name": name, "uid": uid, "resourceVersion": "1", "labels": {"app.kubeop.io/tenant-id": name}},
        }))
        .unwrap()
    }

    fn told(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                Event::Seen(live) => format!("+{}", live.uid),
                Event::Gone { uid, .. } => format!("-{uid}"),
                Event::Synced(_) => "=".to_owned(),
                Event::Broken(..) => "!".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_deletion_during_a_broken_watch_is_told_after_the_next_list() {
        use watcher::Event as W;
        let mut known = Known::new(Kind::Tenant);
        let mut all = Vec::new();
        for event in [
            Ok(W::Init),
            Ok(W::InitApply(tenant("a", "1"))),
            Ok(W::InitApply(tenant("b", "2"))),
            Ok(W::InitDone),
            Ok(W::Apply(tenant("c", "3"))),
            Ok(W::Delete(tenant("c", "3"))),
            Err(watcher::Error::NoResourceVersion),
            Ok(W::Init),
            Ok(W::InitApply(tenant("a", "9"))),
            // A list that broke off says nothing.
            Ok(W::Init),
            Ok(W::InitApply(tenant("a", "9"))),
            Ok(W::InitDone),
        ] {
            all.extend(told(&known.take(event)));
        }
        let (before, after) = all.split_at(7);
        assert_eq!(before, ["+1", "+2", "=", "+3", "-3", "!", "+9"]);
        let mut gone = after[1..3].to_vec();
        gone.sort();
        assert_eq!((after[0].as_str(), gone, after[3].as_str()), ("+9", vec!["-1".to_owned(), "-2".to_owned()], "="));
    }
}
