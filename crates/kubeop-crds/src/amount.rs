//! A resource quantity as somebody wrote it, not yet judged.
//!
//! Invariant: every number and every string deserializes; `kubeop_core::quantity` decides later whether it is a quantity.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A Kubernetes quantity as written: `500m`, `2` (a bare number is accepted too), `8Gi`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl Amount {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Amount {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Amount {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keys and texts of a map, as `kubeop_core::quota::Quotas::parse` takes them.
pub fn amounts(map: &BTreeMap<String, Amount>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(key, amount)| (key.as_str(), amount.as_str()))
}

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as 500m, 2 or 8Gi")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Amount, E> {
        Ok(Amount(value.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Amount, E> {
        Ok(Amount(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Amount, E> {
        Ok(Amount(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Amount, E> {
        Ok(Amount(value.to_string()))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 64,
            "description": "A resource quantity: 500m, 2, 8Gi.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_are_kept_as_written() {
        let map: BTreeMap<String, Amount> =
            serde_json::from_str(r#"{"a": 2, "b": "500m", "c": 0.5, "d": "nonsense", "e": -1}"#).unwrap();
        let texts: Vec<_> = amounts(&map).map(|(_, text)| text).collect();
        assert_eq!(texts, ["2", "500m", "0.5", "nonsense", "-1"]);
        assert_eq!(serde_json::to_string(&map["a"]).unwrap(), "\"2\"");
    }
}
