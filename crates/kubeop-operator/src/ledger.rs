//! What we applied and what the watches have shown since: whether an object needs another apply, and whose drift it is.
//!
//! Invariant: an apply is spared only while the wanted content is what was applied last *and* no watch has shown a later state that differs from
//! the API server's answer to that apply; anything unknown means apply. The ledger is a cache: losing it costs applies, never correctness.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Resource;
use kube::api::ObjectMeta;
use kubeop_crds::{Certificate, DnsRecord};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

/// A kind whose objects the operator makes, and how a change of one shows.
pub(crate) trait Tracked: Resource<DynamicType = ()> + serde::Serialize {
    /// The kind's name.
    const KIND: &'static str;
    /// Whether the kind's status changes often, so that its content rather than its version is compared (its watch holds whole objects).
    const BY_CONTENT: bool;
}

macro_rules! tracked {
    ($($kind:ident => $by_content:literal),* $(,)?) => {
        $(impl Tracked for $kind {
            const KIND: &'static str = stringify!($kind);
            const BY_CONTENT: bool = $by_content;
        })*
    };
}

tracked! {
    Namespace => true,
    ResourceQuota => true,
    Deployment => true,
    DnsRecord => true,
    Certificate => true,
    LimitRange => false,
    NetworkPolicy => false,
    RoleBinding => false,
    ServiceAccount => false,
    Service => false,
    Ingress => false,
}

/// Kind and namespace of objects.
type Place = (&'static str, Option<String>);

/// A state of an object as the API server told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Its version; 0 if it could not be read as a number, which never spares an apply.
    version: u64,
    /// What is compared when the version moved on.
    print: u64,
}

/// What was wanted at the last apply, and what the API server answered.
#[derive(Clone, Debug)]
struct Answer {
    digest: u64,
    state: State,
    uid: String,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    applied: Option<Answer>,
    seen: Option<State>,
}

impl Entry {
    /// The last answer, if nothing has happened since.
    fn stands(&self) -> Option<&Answer> {
        let after = self.applied.as_ref()?;
        let current = match self.seen {
            None => after.state.version > 0,
            Some(seen) => seen.print == after.state.print || (seen.version > 0 && seen.version <= after.state.version),
        };
        current.then_some(after)
    }
}

/// The ledger, shared by all reconcilers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    places: Mutex<HashMap<Place, BTreeMap<String, Entry>>>,
    hasher: RandomState,
}

impl Ledger {
    /// A digest of what is wanted, or of anything else that serializes.
    pub(crate) fn digest<T: serde::Serialize>(&self, value: &T) -> u64 {
        // What cannot be serialized cannot be sent either; a constant then only means one more apply.
        self.hasher.hash_one(serde_json::to_vec(value).unwrap_or_default())
    }

    /// The state of a whole object.
    pub(crate) fn state<K: Tracked>(&self, object: &K) -> State {
        let meta = object.meta();
        let version = version(meta);
        if !K::BY_CONTENT {
            return State { version, print: version };
        }
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
            if let Some(meta) = map.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                for moving in ["resourceVersion", "managedFields", "generation", "creationTimestamp"] {
                    meta.remove(moving);
                }
            }
        }
        State { version, print: self.digest(&value) }
    }

    /// The uid of the object, if exactly this was applied and still stands.
    pub(crate) fn stands<K: Tracked>(&self, meta: &ObjectMeta, digest: u64) -> Option<String> {
        let places = self.lock();
        let answer = places.get(&place::<K>(meta))?.get(meta.name.as_ref()?)?.stands()?;
        (answer.digest == digest).then(|| answer.uid.clone())
    }

    /// Whether anything is known of an object: if not, it most likely does not exist yet.
    pub(crate) fn knows<K: Tracked>(&self, meta: &ObjectMeta) -> bool {
        let Some(name) = &meta.name else { return false };
        self.lock().get(&place::<K>(meta)).is_some_and(|names| names.contains_key(name))
    }

    /// Notes the answer to an apply.
    pub(crate) fn applied<K: Tracked>(&self, digest: u64, live: &K) {
        let answer = Answer { digest, state: self.state(live), uid: live.meta().uid.clone().unwrap_or_default() };
        self.change::<K, _>(live.meta(), |entry| entry.applied = Some(answer));
    }

    /// Notes what a watch shows; whether that is something else than what was applied.
    pub(crate) fn seen<K: Tracked>(&self, meta: &ObjectMeta, state: State) -> bool {
        self.change::<K, _>(meta, |entry| {
            entry.seen = Some(state);
            entry.stands().is_none()
        })
        .unwrap_or(false)
    }

    /// Notes that an object is gone.
    pub(crate) fn gone<K: Tracked>(&self, meta: &ObjectMeta) {
        let Some(name) = &meta.name else { return };
        let place = place::<K>(meta);
        let mut places = self.lock();
        if let Some(names) = places.get_mut(&place) {
            names.remove(name);
            if names.is_empty() {
                places.remove(&place);
            }
        }
    }

    /// Forgets everything in a namespace: it was made anew, whatever the watches have not told yet.
    pub(crate) fn forget_namespace(&self, namespace: &str) {
        self.lock().retain(|(_, of), _| of.as_deref() != Some(namespace));
    }

    /// After a watch has listed everything anew: forgets what was not in the list, returning it.
    pub(crate) fn keep<K: Tracked>(&self, listed: &HashSet<(Option<String>, String)>) -> Vec<(Option<String>, String)> {
        let mut lost = Vec::new();
        let mut places = self.lock();
        for ((_, namespace), names) in places.iter_mut().filter(|((of, _), _)| *of == K::KIND) {
            names.retain(|name, entry| {
                let key = (namespace.clone(), name.clone());
                // Applied but never seen: younger than the list, perhaps.
                let stays = listed.contains(&key) || entry.seen.is_none();
                if !stays {
                    lost.push(key);
                }
                stays
            });
        }
        places.retain(|_, names| !names.is_empty());
        lost
    }

    /// The names known in a place.
    pub(crate) fn names<K: Tracked>(&self, namespace: Option<&str>) -> Vec<String> {
        let place = (K::KIND, namespace.map(ToOwned::to_owned));
        self.lock().get(&place).map(|names| names.keys().cloned().collect()).unwrap_or_default()
    }

    fn change<K: Tracked, R>(&self, meta: &ObjectMeta, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let name = meta.name.clone()?;
        let mut places = self.lock();
        Some(change(places.entry(place::<K>(meta)).or_default().entry(name).or_default()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, BTreeMap<String, Entry>>> {
        self.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn place<K: Tracked>(meta: &ObjectMeta) -> Place {
    (K::KIND, meta.namespace.clone())
}

/// Resource versions are decimal numbers that grow (KEP-5504); one that is not spares nothing.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The state that a watch of metadata shows.
pub(crate) fn metadata_state(meta: &ObjectMeta) -> State {
    let version = version(meta);
    State { version, print: version }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(version: &str, pods: &str, used: &str) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "q", "namespace": "n", "resourceVersion": version},
            "spec": {"hard": {"pods": pods}}, "status": {"used": {"pods": used}},
        }))
        .unwrap()
    }

    fn policy(version: &str) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": version}}))
            .unwrap()
    }

    #[test]
    fn an_apply_is_spared_until_somebody_changes_the_object() {
        let ledger = Ledger::default();
        let (wanted, live) = (quota("", "5", "0"), quota("10", "5", "0"));
        let digest = ledger.digest(&wanted);
        assert!(ledger.stands::<ResourceQuota>(&wanted.metadata, digest).is_none());
        ledger.applied(digest, &live);
        assert!(ledger.stands::<ResourceQuota>(&wanted.metadata, digest).is_some());
        assert!(ledger.stands::<ResourceQuota>(&wanted.metadata, digest ^ 1).is_none(), "something else is wanted");
        let see = |object: &ResourceQuota| ledger.seen::<ResourceQuota>(&object.metadata, ledger.state(object));
        assert!(!see(&live));
        assert!(!see(&quota("11", "5", "3")), "only the status moved");
        assert!(ledger.stands::<ResourceQuota>(&wanted.metadata, digest).is_some());
        assert!(see(&quota("12", "500", "3")), "somebody changed it");
        assert!(ledger.stands::<ResourceQuota>(&wanted.metadata, digest).is_none());
    }

    #[test]
    fn a_foreign_change_seen_before_our_answer_is_not_overlooked() {
        let ledger = Ledger::default();
        let digest = 7;
        assert!(ledger.seen::<NetworkPolicy>(&policy("11").metadata, metadata_state(&policy("11").metadata)));
        // The answer to our apply (version 10) is noted after the watch has shown somebody's version 11.
        ledger.applied(digest, &policy("10"));
        assert!(ledger.stands::<NetworkPolicy>(&policy("").metadata, digest).is_none());
        // An older event that comes after our answer changes nothing.
        ledger.applied(digest, &policy("12"));
        ledger.seen::<NetworkPolicy>(&policy("11").metadata, metadata_state(&policy("11").metadata));
        assert!(ledger.stands::<NetworkPolicy>(&policy("").metadata, digest).is_some());
    }

    #[test]
    fn what_is_gone_or_missing_from_a_list_is_forgotten() {
        let ledger = Ledger::default();
        ledger.applied(7, &policy("10"));
        ledger.gone::<NetworkPolicy>(&policy("10").metadata);
        assert!(!ledger.knows::<NetworkPolicy>(&policy("").metadata));
        ledger.applied(7, &policy("10"));
        assert!(ledger.keep::<NetworkPolicy>(&HashSet::new()).is_empty(), "applied after the list was made, perhaps");
        ledger.seen::<NetworkPolicy>(&policy("10").metadata, metadata_state(&policy("10").metadata));
        assert_eq!(ledger.keep::<NetworkPolicy>(&HashSet::new()), [(Some("n".to_owned()), "p".to_owned())]);
        assert!(!ledger.knows::<NetworkPolicy>(&policy("").metadata));
    }

    #[test]
    fn versions_that_are_no_numbers_spare_nothing() {
        let ledger = Ledger::default();
        ledger.applied(7, &policy("abc"));
        assert!(ledger.stands::<NetworkPolicy>(&policy("").metadata, 7).is_none());
    }
}
