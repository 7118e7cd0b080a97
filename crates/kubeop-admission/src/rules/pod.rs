//! Images of a pod: every container of every kind, and image volumes.
//!
//! Invariant: a list of the pod's spec whose name ends in `ontainers` holds containers, also one that this version has never heard of.

use super::{Operation, read};
use crate::metrics::Metrics;
use crate::review::Text;
use kubeop_core::id::shorten;
use kubeop_core::image::ImageRef;
use kubeop_core::policy::PlatformPolicy;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// Judges the images of `object`, on update those that it did not have before.
pub(super) fn judge(
    policy: &PlatformPolicy,
    operation: Operation<'_>,
    object: &RawValue,
    metrics: &Metrics,
) -> Result<(), String> {
    let spec = read::<Pod<'_>>(object)?.spec;
    if let Some(field) = &spec.unknown {
        metrics.unknown_pod_field();
        tracing::warn!(field = shorten(field), "a pod has a field this version of kubeop does not know");
    }
    if spec.images.is_empty() {
        return Err("spec.containers is empty, so there is no image to judge".to_owned());
    }
    let Err(denial) = spec.images.iter().try_for_each(|used| used.check(policy)) else { return Ok(()) };
    let Operation::Update(old) = operation else { return Err(denial) };
    let old = read::<Pod<'_>>(old)?.spec;
    let known: HashSet<&str> = old.images.iter().filter_map(|used| used.image.as_deref()).collect();
    spec.images
        .iter()
        .filter(|used| used.image.as_deref().is_none_or(|image| !known.contains(image)))
        .try_for_each(|used| used.check(policy))
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    spec: PodSpec<'a>,
}

struct PodSpec<'a> {
    images: Vec<UsedImage<'a>>,
    /// A field of the spec that is not in [`KNOWN`].
    unknown: Option<Text<'a>>,
}

struct UsedImage<'a> {
    list: Text<'a>,
    index: usize,
    image: Option<Text<'a>>,
}

impl UsedImage<'_> {
    fn check(&self, policy: &PlatformPolicy) -> Result<(), String> {
        let place = || {
            let field = if &*self.list == VOLUMES { "image.reference" } else { "image" };
            format!("spec.{}[{}].{field}", shorten(&self.list), self.index)
        };
        let Some(image) = &self.image else { return Err(format!("{} is missing", place())) };
        ImageRef::parse(image)
            .and_then(|image| policy.image_allowlist.decide(&image))
            .map_err(|error| error.at(place()).message().to_owned())
    }
}

const VOLUMES: &str = "volumes";

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow, default)]
    image: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Volume<'a> {
    #[serde(borrow, default)]
    image: Option<VolumeImage<'a>>,
}

#[derive(Deserialize)]
struct VolumeImage<'a> {
    #[serde(borrow, default)]
    reference: Option<Text<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for PodSpec<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = PodSpec<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pod's spec")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<PodSpec<'de>, A::Error> {
        let mut spec = PodSpec { images: Vec::new(), unknown: None };
        while let Some(field) = fields.next_key::<Text<'de>>()? {
            let known = KNOWN.contains(&&*field);
            if field.ends_with("ontainers") {
                let containers = fields.next_value::<Option<Vec<Container<'de>>>>()?.unwrap_or_default();
                spec.images.extend(containers.into_iter().enumerate().map(|(index, container)| UsedImage {
                    list: field.clone(),
                    index,
                    image: container.image,
                }));
            } else if &*field == VOLUMES {
                let volumes = fields.next_value::<Option<Vec<Volume<'de>>>>()?.unwrap_or_default();
                spec.images.extend(volumes.into_iter().enumerate().filter_map(|(index, volume)| {
                    volume.image.map(|image| UsedImage { list: field.clone(), index, image: image.reference })
                }));
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
            if !known {
                spec.unknown = Some(field);
            }
        }
        Ok(spec)
    }
}

/// The fields of `PodSpec` up to Kubernetes 1.36 (`k8s.io/api/core/v1`).
const KNOWN: [&str; 43] = [
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];
