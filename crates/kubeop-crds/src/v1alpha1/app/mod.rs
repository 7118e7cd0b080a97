//! `App`: what is delivered into a project's namespace, under which host names, with which hooks.
//!
//! Invariant: the kind of delivery is the given one, or that of the only block present; [`Delivery::kind`] decides it in one place.

pub mod delivery;
pub mod hooks;
pub mod image;
pub mod sources;

pub use delivery::{Delivery, DeliveryKind};
pub use hooks::{Hook, Hooks};
pub use image::{ImageDelivery, ImageSource};
pub use sources::{GitDelivery, HelmDelivery, RawDelivery};

use crate::strict;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// What is delivered, and how it is reached.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "App",
    namespaced,
    status = "AppStatus",
    derive = "PartialEq",
    shortname = "kapp",
    category = "kubeop",
    doc = "An application in a project's namespace: an image, a Git repository, a Helm chart or raw manifests, with host names and hooks.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Kind", type_ = "string", json_path = ".status.kind"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.hosts[0]"),
    printcolumn(name = "Pods", type_ = "string", description = "ready of wanted", json_path = ".status.pods"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of an App is 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"),
    validation = Rule::new("!self.metadata.name.startsWith('kubeop-')").message("names that begin with kubeop- are the platform's: choose another name for the App")
)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// What is delivered: one of `image`, `git`, `helm` and `raw`.
    pub delivery: Delivery,
    /// Host names under which the app is reached; each is held by one App of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64), inner(length(max = 253)))]
    pub hosts: Vec<String>,
    /// A host name, beside those in `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub host: Option<String>,
    /// Jobs that run before and after each revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Scales the app to nothing and keeps everything else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

impl AppSpec {
    /// An app of one image.
    pub fn image(reference: impl Into<String>) -> Self {
        Self {
            delivery: Delivery { image: Some(ImageSource::Ref(reference.into())), ..Delivery::default() },
            ..Self::default()
        }
    }

    /// `host` and `hosts` as written, each once, in order.
    pub fn host_texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = Vec::new();
        for text in self.host.iter().chain(&self.hosts) {
            if !texts.contains(&text.as_str()) {
                texts.push(text);
            }
        }
        texts
    }

    /// Reads a spec from outside, where nothing may be unknown (the API server prunes; the REST API must not).
    ///
    /// # Errors
    /// Names the field that is unknown (and the nearest known one), missing or of the wrong type.
    pub fn parse_strict(value: &serde_json::Value) -> kubeop_core::Result<Self> {
        strict::parse_strict(schema(&["spec"])?, value, "spec")
    }
}

/// Reads `delivery.image` where it is a block.
fn image_block(value: &serde_json::Value) -> kubeop_core::Result<ImageDelivery> {
    strict::parse_strict(schema(&["spec", "delivery", "image"])?, value, "spec.delivery.image")
}

/// The part of App's schema at `path`; made once, since it costs milliseconds.
fn schema(path: &[&str]) -> kubeop_core::Result<&'static JSONSchemaProps> {
    static SCHEMA: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(strict::schema_of::<App>);
    path.iter()
        .try_fold(SCHEMA.as_ref(), |schema, field| Some(schema?.properties.as_ref()?.get(*field)))
        .flatten()
        .ok_or_else(|| kubeop_core::Error::internal(format!("App's schema has no {}", path.join("."))))
}

/// What was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// `Ready`, `ImageAllowed`, `HooksSucceeded`, `Available`, `Progressing`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The kind of delivery in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The image in force, for an app of kind Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The host names, canonical.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Ready of wanted pods: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// How many pods are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Number of the revision in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}
