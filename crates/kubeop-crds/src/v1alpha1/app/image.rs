//! Delivery of one container image.
//!
//! Invariant: any JSON value of `delivery.image` deserializes; what is no reference and no readable block is kept with the reason.

use crate::Amount;
use k8s_openapi::api::core::v1::{EnvVar, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use kubeop_core::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// `delivery.image` as written: a reference, or a block.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// Only the reference.
    Ref(String),
    /// The block.
    Block(Box<ImageDelivery>),
    /// Neither, or a block with a field nobody knows; the schema cannot keep this out, and it must not stop a watch.
    Unreadable {
        /// What was written.
        value: Value,
        /// What is wrong, with the path.
        why: String,
    },
}

impl ImageSource {
    /// The block, a bare reference being a block of which only `ref` is given.
    ///
    /// # Errors
    /// What was written is neither.
    pub fn block(&self) -> Result<Cow<'_, ImageDelivery>> {
        match self {
            Self::Ref(reference) => {
                Ok(Cow::Owned(ImageDelivery { reference: reference.clone(), ..ImageDelivery::default() }))
            }
            Self::Block(block) => Ok(Cow::Borrowed(block)),
            Self::Unreadable { why, .. } => Err(Error::invalid(why.clone())),
        }
    }

    /// The reference as written.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Ref(reference) => Some(reference),
            Self::Block(block) => Some(&block.reference),
            Self::Unreadable { .. } => None,
        }
    }
}

impl Serialize for ImageSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Ref(reference) => serializer.serialize_str(reference),
            Self::Block(block) => block.serialize(serializer),
            Self::Unreadable { value, .. } => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Value::String(reference) = value {
            return Ok(Self::Ref(reference));
        }
        Ok(match super::image_block(&value) {
            Ok(block) => Self::Block(Box::new(block)),
            Err(error) => Self::Unreadable { why: error.message().to_owned(), value },
        })
    }
}

impl JsonSchema for ImageSource {
    fn schema_name() -> Cow<'static, str> {
        "ImageSource".into()
    }

    /// The block's schema without its type: a structural schema cannot say "string or object", but one without a type that preserves unknown
    /// fields admits both, and still checks the named fields of an object.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ImageDelivery::json_schema(generator);
        schema.remove("type");
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
        schema
    }
}

/// One container image as a Deployment and a Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ImageDelivery {
    /// The image reference; a missing registry is `docker.io`, a missing tag `latest`.
    #[serde(rename = "ref")]
    #[schemars(extend("minLength" = 1, "maxLength" = 512))]
    pub reference: String,
    /// How many pods run; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 1000))]
    pub replicas: Option<i32>,
    /// Ports of the container and of the Service. By default one, `http`, 80 on both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 64))]
    pub ports: Option<Vec<Port>>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub args: Vec<String>,
    /// Environment variables, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 500))]
    pub env: Vec<EnvVar>,
    /// Compute of each pod: a preset, or requests and limits. By default the preset `small`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ComputeResources>,
    /// Probes, as in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// How pods are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// PersistentVolumeClaims of the namespace, or scratch space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub volumes: Vec<VolumeRef>,
    /// ConfigMaps of the namespace, as files or environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub config_maps: Vec<ConfigRef>,
    /// Secrets of the namespace, as files or environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub secrets: Vec<ConfigRef>,
}

/// A port of container and Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name (IANA service name, at most 15 characters); the Ingress points to `http`, else to the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 15))]
    pub name: Option<String>,
    /// The port the container listens on.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub container_port: i32,
    /// The port of the Service; the container's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub service_port: Option<i32>,
    /// `TCP` (default), `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// A transport protocol.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A preset, or requests and limits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ComputeResources {
    /// `nano`, `small`, `medium` or `large`; `requests` and `limits` replace single values of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// What is reserved, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub requests: BTreeMap<String, Amount>,
    /// What may be used at most, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub limits: BTreeMap<String, Amount>,
}

/// A named size of a pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// 25m / 32Mi, up to 100m / 64Mi.
    Nano,
    /// 100m / 128Mi, up to 500m / 256Mi.
    #[default]
    Small,
    /// 500m / 512Mi, up to 1 / 1Gi.
    Medium,
    /// 1 / 2Gi, up to 2 / 4Gi.
    Large,
}

/// Probes of the container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// Whether the pod may get requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
    /// Whether the container must be restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
    /// Whether the container has started; the others wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
}

/// How pods are replaced.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Pods above the wanted number: a number or a percentage; `25%` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Pods that may be missing meanwhile: a number or a percentage; 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Seconds without progress after which the rollout counts as failed; 600 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 86400))]
    pub progress_deadline_seconds: Option<i32>,
}

/// A volume: a claim, or scratch space that dies with the pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRef {
    /// Name of a PersistentVolumeClaim of the namespace; without it the volume is scratch space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub claim: Option<String>,
    /// Where it appears in the container.
    #[schemars(extend("minLength" = 1, "maxLength" = 1024))]
    pub mount_path: String,
    /// A path within the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1024))]
    pub sub_path: Option<String>,
    /// Whether the container may only read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The most that scratch space may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Amount")]
    pub size_limit: Option<Amount>,
}

/// A ConfigMap or Secret: files with `mountPath`, environment variables without.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRef {
    /// Its name in the namespace.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
    /// Where its keys appear as files; without it they become environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 1024))]
    pub mount_path: Option<String>,
    /// One key, mounted as the file `mountPath` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub key: Option<String>,
    /// What the names of the environment variables begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 100))]
    pub prefix: Option<String>,
    /// Whether the pod starts without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_value_deserializes_and_serializes_back() {
        for value in [
            json!("nginx"),
            json!({"ref": "nginx", "replicas": 2}),
            json!(5),
            json!([]),
            json!({"replicas": 1}),
            json!({"ref": "a", "rollout": {"maxSurge": 5_000_000_000_i64}}),
            json!({"ref": "a", "replica": 3}),
        ] {
            let source: ImageSource = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&source).unwrap(), value);
        }
    }

    #[test]
    fn a_slip_in_the_block_is_reported_though_the_schema_lets_it_through() {
        let why =
            |value| serde_json::from_value::<ImageSource>(value).unwrap().block().unwrap_err().message().to_owned();
        assert_eq!(
            why(json!({"ref": "a", "replica": 3})),
            "spec.delivery.image.replica is not a known field: did you mean replicas?"
        );
        assert_eq!(why(json!(5)), "spec.delivery.image is a number: a text or an object is needed");
        assert!(
            why(json!({"ref": "a", "rollout": {"maxSurge": 5_000_000_000_i64}})).starts_with("spec.delivery.image: ")
        );
    }
}
