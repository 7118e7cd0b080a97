//! What every resource shares: labels, status, timestamps, the error body, list parameters.
//!
//! Invariant: a `Status` says what is known now; `synced` means the cluster holds what was last asked for.

use jiff::Timestamp;
use kubeop_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What is wrong, with which value, and what is allowed.
    pub error: String,
}

/// Where a resource is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// On its way to the cluster or being brought up there.
    Pending,
    /// As asked for.
    Ready,
    /// The cluster could not bring it about; `message` says why.
    Degraded,
    /// Being deleted.
    Deleting,
    /// The cluster does not answer; what is shown is what was last seen.
    Unreachable,
    /// Switched off on request.
    Suspended,
}

/// One condition, as in Kubernetes (`metav1.Condition`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Its type, as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    #[serde(default)]
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// Since when, as the cluster tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// How far a resource is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// A sentence for people; empty if there is nothing to say.
    pub message: String,
    /// The conditions the cluster reports.
    pub conditions: Vec<Condition>,
    /// Whether the cluster holds what was last asked for.
    pub synced: bool,
}

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Checks a caller's labels by the rules of Kubernetes ("Labels and Selectors"); our own keys are ignored, so that an answer can be sent back.
pub fn check_labels(labels: Labels) -> Result<Labels> {
    let mut kept = Labels::new();
    for (key, value) in labels {
        if key.starts_with("app.kubeop.io/") {
            continue;
        }
        let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let word = |text: &str| {
            text.len() <= 63
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && text.bytes().next().is_none_or(|b| b.is_ascii_alphanumeric())
                && text.bytes().last().is_none_or(|b| b.is_ascii_alphanumeric())
        };
        let prefix_ok = prefix.is_none_or(|p| {
            !p.is_empty() && p.len() <= 253 && p.split('.').all(|part| kubeop_core::name::Label::parse(part).is_ok())
        });
        if name.is_empty() || !word(name) || !prefix_ok {
            return Err(Error::invalid(format!("labels: {:?} is not a label key", kubeop_core::id::shorten(&key))));
        }
        if !word(&value) {
            return Err(Error::invalid(format!(
                "labels.{key}: {:?} is not a label value: at most 63 of letters, digits, '-', '_' and '.' are allowed",
                kubeop_core::id::shorten(&value)
            )));
        }
        kept.insert(key, value);
    }
    if kept.len() > 64 {
        return Err(Error::invalid(format!("labels: {} are given, at most 64 are allowed", kept.len())));
    }
    Ok(kept)
}

/// Quota keys with quantities; a number is taken as its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct QuotaMap(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for QuotaMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Amount {
            Text(String),
            Whole(i64),
        }
        let map = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        map.into_iter()
            .map(|(key, value)| match serde_json::from_value(value) {
                Ok(Amount::Text(text)) => Ok((key, text)),
                Ok(Amount::Whole(number)) => Ok((key, number.to_string())),
                Err(_) => {
                    Err(serde::de::Error::custom(format_args!("{key}: a quantity such as \"500m\" or 2 is needed")))
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Parameters of a list; unknown ones are refused.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ListQuery {
    /// How many at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
    pub limit: Option<String>,
    /// Where to go on: from the `Link` of the page before.
    pub cursor: Option<String>,
    /// Only of this cluster.
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
    /// Only of this tenant.
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// Only of this project.
    #[schemars(extend("format" = "uuid"))]
    pub project_id: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
}

/// Parameters of a change or of a read of one item.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ItemQuery {
    /// Seconds to wait at most (0 to 60) until the resource is settled.
    #[schemars(with = "Option<i32>", range(min = 0, max = 60))]
    pub wait: Option<String>,
}

/// Parameters of a delete.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct DeleteQuery {
    /// Seconds to wait at most (0 to 60) until it is gone.
    #[schemars(with = "Option<i32>", range(min = 0, max = 60))]
    pub wait: Option<String>,
    /// Forget what an unreachable cluster still holds (admin).
    #[schemars(with = "Option<bool>")]
    pub force: Option<String>,
}

/// A time as RFC 3339 in UTC with `Z`.
pub type Time = Timestamp;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_rules_of_kubernetes() {
        let labels = |key: &str, value: &str| check_labels(Labels::from([(key.to_owned(), value.to_owned())]));
        assert!(labels("team", "a").is_ok());
        assert!(labels("example.com/team", "").is_ok());
        assert!(labels("app.kubeop.io/tenant-id", "forged").unwrap().is_empty());
        for (key, value) in
            [("", "a"), ("/a", "a"), ("a/", "a"), ("a b", "a"), ("a", "b c"), ("a", "-b"), ("A.b/c", "d")]
        {
            assert!(labels(key, value).is_err(), "{key}={value}");
        }
    }
}
