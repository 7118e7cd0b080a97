//! Following one object by name.
//!
//! Invariant: the object is called absent only after a complete list without it, or its deletion; a failing API server changes nothing.

use crate::metrics::Metrics;
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

/// After this time the object is listed anew, so that a watch that silently stopped delivering costs no more than that.
const RELIST: Duration = Duration::from_mins(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Calls `on_change` with the object and each later version of it, and with `None` once it is known to be absent. Never returns.
pub(crate) async fn follow<K>(api: Api<K>, name: &'static str, metrics: Metrics, mut on_change: impl FnMut(Option<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut seen = Seen::Nothing;
    let mut pause = Pause::default();
    loop {
        let events = pin!(watcher(api.clone(), config.clone()));
        // The time is up: list anew.
        let _ =
            tokio::time::timeout(RELIST, drain(events, name, &metrics, &mut seen, &mut pause, &mut on_change)).await;
    }
}

async fn drain<K: Resource>(
    mut events: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    name: &str,
    metrics: &Metrics,
    seen: &mut Seen,
    pause: &mut Pause,
    on_change: &mut impl FnMut(Option<K>),
) {
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = false,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                listed = true;
                if seen.is_new(Some(&object)) {
                    on_change(Some(object));
                }
            }
            Ok(Event::InitDone) => {
                pause.reset();
                if !listed && seen.is_new(None::<&K>) {
                    on_change(None);
                }
            }
            Ok(Event::Delete(_)) => {
                if seen.is_new(None::<&K>) {
                    on_change(None);
                }
            }
            Err(error) => {
                metrics.watch_failed();
                let pause = pause.next();
                tracing::warn!(object = name, %error, ?pause, "watching failed; the last known state stays in force");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What was handed on last.
#[derive(PartialEq, Eq)]
enum Seen {
    Nothing,
    Absence,
    Version { uid: String, version: String },
}

impl Seen {
    /// Whether `object` is not what was handed on last; then it is from now on.
    fn is_new<K: Resource>(&mut self, object: Option<&K>) -> bool {
        let next = object.map_or(Self::Absence, |object| Self::Version {
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
        });
        // Without a version nothing proves that two objects are the same.
        let unversioned = matches!(&next, Self::Version { version, .. } if version.is_empty());
        let new = unversioned || *self != next;
        *self = next;
        new
    }
}

/// Doubling pauses between failures.
struct Pause(Duration);

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pause
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(250))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use prometheus_client::registry::Registry;

    fn map(version: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.uid = Some("u".to_owned());
        map.metadata.resource_version = Some(version.to_owned());
        map
    }

    async fn changes(events: Vec<watcher::Result<Event<ConfigMap>>>) -> Vec<Option<String>> {
        let (metrics, mut changes) = (Metrics::register(&mut Registry::default()), Vec::new());
        let (mut seen, mut pause) = (Seen::Nothing, Pause::default());
        let mut on_change = |map: Option<ConfigMap>| changes.push(map.and_then(|map| map.metadata.resource_version));
        drain(stream::iter(events), "x", &metrics, &mut seen, &mut pause, &mut on_change).await;
        changes
    }

    #[tokio::test(start_paused = true)]
    async fn absence_needs_a_complete_list_or_a_deletion() {
        let one = || Some("1".to_owned());
        assert_eq!(changes(vec![Ok(Event::Init)]).await, []);
        assert_eq!(changes(vec![Ok(Event::Init), Ok(Event::InitDone)]).await, [None]);
        assert_eq!(changes(vec![Ok(Event::Init), Ok(Event::InitApply(map("1"))), Ok(Event::InitDone)]).await, [one()]);
        let failing = || Err(watcher::Error::NoResourceVersion);
        assert_eq!(
            changes(vec![
                Ok(Event::Init),
                Ok(Event::InitApply(map("1"))),
                Ok(Event::InitDone),
                failing(),
                Ok(Event::Init),
                failing()
            ])
            .await,
            [one()]
        );
        assert_eq!(changes(vec![Ok(Event::Apply(map("1"))), Ok(Event::Delete(map("2")))]).await, [one(), None]);
    }

    #[tokio::test]
    async fn the_same_version_is_handed_on_once() {
        let relist = || [Ok(Event::Init), Ok(Event::InitApply(map("1"))), Ok(Event::InitDone)];
        let events = relist().into_iter().chain(relist()).chain([Ok(Event::Apply(map("2")))]).collect();
        assert_eq!(changes(events).await, [Some("1".to_owned()), Some("2".to_owned())]);
    }
}
