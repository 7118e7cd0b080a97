//! The kubeconfig file as it is written, kept as texts and names of keys.
//!
//! Invariant: a value is read as the text that stands there, never retyped (`token: 0123` stays `0123`), and an unknown key is kept by name.
//! Source of the keys: <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use zeroize::Zeroizing;

/// The keys whose text we use; every other key is known by name only.
const TEXTS: [&str; 7] = [
    "server",
    "tls-server-name",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "token",
    "client-certificate-data",
    "client-key-data",
];

#[derive(serde::Deserialize)]
pub(super) struct File {
    #[serde(rename = "current-context", default)]
    pub(super) current_context: Option<String>,
    #[serde(default)]
    pub(super) clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    pub(super) contexts: Option<Vec<NamedContext>>,
    #[serde(default)]
    pub(super) users: Option<Vec<NamedUser>>,
}

#[derive(serde::Deserialize)]
pub(super) struct NamedCluster {
    pub(super) name: String,
    #[serde(default)]
    pub(super) cluster: Option<Entry>,
}

#[derive(serde::Deserialize)]
pub(super) struct NamedUser {
    pub(super) name: String,
    #[serde(default)]
    pub(super) user: Option<Entry>,
}

#[derive(serde::Deserialize)]
pub(super) struct NamedContext {
    pub(super) name: String,
    #[serde(default)]
    pub(super) context: Option<Context>,
}

#[derive(serde::Deserialize)]
pub(super) struct Context {
    #[serde(default)]
    pub(super) cluster: String,
    #[serde(default)]
    pub(super) user: String,
}

/// One cluster or user: texts by key, and the names of all other keys that carry something.
#[derive(Default)]
pub(super) struct Entry {
    texts: BTreeMap<String, Zeroizing<String>>,
    pub(super) others: BTreeSet<String>,
}

impl Entry {
    /// The text of a key, if it is there and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(|text| text.as_str())
    }

    /// The first key that is none of `known`.
    pub(super) fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.texts.keys().chain(&self.others).map(String::as_str).find(|key| !known.contains(key))
    }

    /// Whether the key carries anything.
    pub(super) fn has(&self, key: &str) -> bool {
        self.others.contains(key) || self.texts.contains_key(key)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::default();
                while let Some(key) = map.next_key::<String>()? {
                    if TEXTS.contains(&key.as_str()) {
                        if let Some(text) = map.next_value::<Option<String>>()?.filter(|text| !text.is_empty()) {
                            entry.texts.insert(key, Zeroizing::new(text));
                        }
                    } else if map.next_value::<Something>()?.0 {
                        entry.others.insert(key);
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Whether a value says anything: null, `""`, `{}` and `[]` do not (`kubectl` writes such).
struct Something(bool);

impl<'de> Deserialize<'de> for Something {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Something;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Something, E> {
                Ok(Something(false))
            }
            fn visit_none<E>(self) -> Result<Something, E> {
                Ok(Something(false))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Something, D::Error> {
                Something::deserialize(deserializer)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Something, E> {
                Ok(Something(true))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Something, E> {
                Ok(Something(true))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Something, E> {
                Ok(Something(true))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Something, E> {
                Ok(Something(true))
            }
            fn visit_str<E>(self, text: &str) -> Result<Something, E> {
                Ok(Something(!text.is_empty()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Something, A::Error> {
                let mut some = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    some = true;
                }
                Ok(Something(some))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Something, A::Error> {
                let mut some = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    some = true;
                }
                Ok(Something(some))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
