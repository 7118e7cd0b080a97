//! Autoscaling of kubeOP's own Deployments in `kubeop-system`.
//!
//! Invariant: only the `HorizontalPodAutoscalers` named as the Deployments are written, and only those that were written here are removed.

use crate::bootstrap::managed_by;
use crate::error::{Doing, is_gone};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::names;
use serde_json::json;

/// The Deployments that can be scaled, and how many replicas each keeps at least: one of admission's may always be taken away.
pub const SCALED: [(&str, i32); 2] = [(names::OPERATOR_ACCOUNT, 1), (names::ADMISSION_ACCOUNT, 2)];

/// The bounds of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest replicas, at least 1.
    pub min: i32,
    /// Most replicas.
    pub max: i32,
    /// Average CPU use in percent of the requests that is aimed at, 1 to 100.
    pub target_cpu: i32,
}

impl Bounds {
    /// Checks the bounds.
    pub fn new(min: i32, max: i32, target_cpu: i32) -> Result<Self> {
        if !(1..=100).contains(&min) {
            return Err(Error::invalid(format!("min {min}: 1 to 100 replicas are allowed")));
        }
        if !(min..=100).contains(&max) {
            return Err(Error::invalid(format!("max {max}: from min ({min}) to 100 replicas are allowed")));
        }
        if !(1..=100).contains(&target_cpu) {
            return Err(Error::invalid(format!("targetCPU {target_cpu}: 1 to 100 percent are allowed")));
        }
        Ok(Self { min, max, target_cpu })
    }

    fn at_least(self, least: i32) -> Self {
        Self { min: self.min.max(least), max: self.max.max(least), ..self }
    }
}

/// Sets (`Some`) or removes (`None`) the autoscalers.
pub async fn autoscale(client: &Client, bounds: Option<Bounds>) -> Result<()> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for (name, least) in SCALED {
        match bounds.map(|bounds| bounds.at_least(least)) {
            Some(bounds) => {
                let patch = Patch::Apply(autoscaler(name, bounds));
                let params = PatchParams::apply(labels::MANAGER).force();
                api.patch(name, &params, &patch).await.doing(format_args!("applying autoscaler {name}"))?;
            }
            None => remove(&api, name).await?,
        }
    }
    Ok(())
}

/// Removes it if it is ours; another's of that name is another's.
async fn remove(api: &Api<HorizontalPodAutoscaler>, name: &str) -> Result<()> {
    let live = api.get_opt(name).await.doing(format_args!("reading autoscaler {name}"))?;
    let Some(live) = live.filter(|live| managed_by(live) == Some(labels::MANAGER)) else { return Ok(()) };
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: live.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.doing(format_args!("removing autoscaler {name}")).map(drop),
    }
}

fn autoscaler(name: &str, bounds: Bounds) -> serde_json::Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": { labels::MANAGED_BY: labels::MANAGER, labels::PART_OF: labels::PART_OF_KUBEOP },
        },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": bounds.min,
            "maxReplicas": bounds.max,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": bounds.target_cpu } },
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let one = Bounds::new(1, 1, 70).unwrap().at_least(2);
        assert_eq!((one.min, one.max), (2, 2));
        for (min, max, cpu, needle) in [
            (0, 5, 70, "min 0"),
            (3, 2, 70, "max 2"),
            (1, 101, 70, "max 101"),
            (1, 2, 0, "targetCPU 0"),
            (1, 2, 101, "targetCPU 101"),
        ] {
            let message = Bounds::new(min, max, cpu).unwrap_err().message().to_owned();
            assert!(message.starts_with(needle), "{message}");
        }
    }
}
