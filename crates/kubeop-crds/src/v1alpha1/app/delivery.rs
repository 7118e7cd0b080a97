//! The delivery of an App: exactly one block.
//!
//! Invariant: a spec with no block, two blocks, or a `kind` that is not its block's has no kind.

use super::image::ImageSource;
use super::sources::{GitDelivery, HelmDelivery, RawDelivery};
use kube::KubeSchema;
use kubeop_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Exactly one of `image`, `git`, `helm` and `raw`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.git), has(self.helm), has(self.raw)].filter(given, given).size() <= 1")
        .message("spec.delivery has exactly one of image, git, helm and raw"),
    validation = Rule::new("!has(self.kind) || self.kind != 'Git' || has(self.git)").message("spec.delivery.kind is Git, so spec.delivery.git is needed"),
    validation = Rule::new("!has(self.kind) || self.kind != 'Helm' || has(self.helm)").message("spec.delivery.kind is Helm, so spec.delivery.helm is needed"),
    validation = Rule::new("!has(self.kind) || self.kind != 'Raw' || has(self.raw)").message("spec.delivery.kind is Raw, so spec.delivery.raw is needed"),
    validation = Rule::new("!has(self.kind) || self.kind != 'Image' || !(has(self.git) || has(self.helm) || has(self.raw))")
        .message("spec.delivery.kind is Image, so spec.delivery.image is needed and no other block")
)]
pub struct Delivery {
    /// `Image`, `Git`, `Helm` or `Raw`; by default that of the block that is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeliveryKind>,
    /// One container image: a reference such as `docker.io/library/nginx:1.25`, or a block of the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImageSource")]
    pub image: Option<ImageSource>,
    /// Manifests or a kustomization in a Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitDelivery>,
    /// A Helm chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmDelivery>,
    /// Manifests written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawDelivery>,
}

/// How an App is delivered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryKind {
    /// One container image.
    Image,
    /// A Git repository.
    Git,
    /// A Helm chart.
    Helm,
    /// Manifests in the spec.
    Raw,
}

impl DeliveryKind {
    /// As the spec spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Git => "Git",
            Self::Helm => "Helm",
            Self::Raw => "Raw",
        }
    }
}

impl fmt::Display for DeliveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Delivery {
    /// The kind: that of the only block present, which a given `kind` must name.
    ///
    /// # Errors
    /// No block, several blocks, or a `kind` whose block is not the one present.
    pub fn kind(&self) -> Result<DeliveryKind> {
        let blocks = [
            (DeliveryKind::Image, self.image.is_some()),
            (DeliveryKind::Git, self.git.is_some()),
            (DeliveryKind::Helm, self.helm.is_some()),
            (DeliveryKind::Raw, self.raw.is_some()),
        ];
        let mut present = blocks.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind);
        let (Some(found), None) = (present.next(), present.next()) else {
            return Err(Error::invalid("spec.delivery has exactly one of image, git, helm and raw"));
        };
        match self.kind {
            Some(named) if named != found => Err(Error::invalid(format!(
                "spec.delivery.kind is {named}, so spec.delivery.{} is needed instead of spec.delivery.{}",
                named.as_str().to_ascii_lowercase(),
                found.as_str().to_ascii_lowercase()
            ))),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kind_is_that_of_the_only_block() {
        let kind = |value: serde_json::Value| serde_json::from_value::<Delivery>(value).unwrap().kind();
        assert_eq!(kind(json!({"image": "nginx"})).unwrap(), DeliveryKind::Image);
        assert_eq!(kind(json!({"kind": "Raw", "raw": {"manifests": []}})).unwrap(), DeliveryKind::Raw);
        for bad in [
            json!({}),
            json!({"kind": "Image"}),
            json!({"kind": "Git", "image": "nginx"}),
            json!({"image": "a", "raw": {"manifests": []}}),
        ] {
            assert!(kind(bad.clone()).is_err(), "{bad}");
        }
    }
}
