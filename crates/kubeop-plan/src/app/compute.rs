//! Compute of an App's pods: presets, and single values that replace those of a preset.
//!
//! Invariant: no request is above its limit.

use crate::refusal::{Refusal, Validated};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kubeop_core::quantity::Quantity;
use kubeop_crds::Amount;
use kubeop_crds::app::image::{ComputeResources, Preset};
use std::collections::BTreeMap;

/// Requests and limits by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// What is reserved.
    pub requests: BTreeMap<String, Quantity>,
    /// What may be used at most.
    pub limits: BTreeMap<String, Quantity>,
}

/// CPU and memory of a preset: requests, then limits.
const fn preset(preset: Preset) -> [[&'static str; 2]; 2] {
    match preset {
        Preset::Nano => [["25m", "32Mi"], ["100m", "64Mi"]],
        Preset::Small => [["100m", "128Mi"], ["500m", "256Mi"]],
        Preset::Medium => [["500m", "512Mi"], ["1", "1Gi"]],
        Preset::Large => [["1", "2Gi"], ["2", "4Gi"]],
    }
}

/// Decides requests and limits.
pub(super) fn validate(given: Option<&ComputeResources>) -> Validated<Compute> {
    let [base_requests, base_limits] = preset(given.and_then(|given| given.preset).unwrap_or_default());
    let base = |values: [&'static str; 2]| {
        ["cpu", "memory"]
            .into_iter()
            .zip(values)
            .map(|(name, text)| (name.to_owned(), Amount::from(text)))
            .collect::<BTreeMap<_, _>>()
    };
    let given_requests = parse("requests", given.map(|given| &given.requests))?;
    let given_limits = parse("limits", given.map(|given| &given.limits))?;
    let mut requests = parse("requests", Some(&base(base_requests)))?;
    let mut limits = parse("limits", Some(&base(base_limits)))?;
    requests.extend(given_requests.clone());
    limits.extend(given_limits.clone());
    for (name, limit) in &mut limits {
        let Some(request) = requests.get_mut(name).filter(|request| *request > limit) else { continue };
        // The one that was given decides; a preset's other half follows.
        match (given_requests.contains_key(name), given_limits.contains_key(name)) {
            (true, false) => *limit = request.clone(),
            (false, true) => *request = limit.clone(),
            _ => {
                return Err(Refusal::invalid(format!(
                    "spec.delivery.image.resources: {name} requests {request}, which is above its limit {limit}"
                )));
            }
        }
    }
    Ok(Compute { requests, limits })
}

fn parse(kind: &str, amounts: Option<&BTreeMap<String, Amount>>) -> Validated<BTreeMap<String, Quantity>> {
    let mut parsed = BTreeMap::new();
    for (name, amount) in amounts.into_iter().flatten() {
        let place = format!("spec.delivery.image.resources.{kind}.{name}");
        let quantity = Quantity::parse(amount.as_str()).map_err(|error| error.at(&place))?;
        if quantity.nanos() < 0 {
            return Err(Refusal::invalid(format!("{place}: {amount} is negative: 0 or more is needed")));
        }
        parsed.insert(name.clone(), quantity);
    }
    Ok(parsed)
}

impl Compute {
    /// As a container says it.
    pub fn requirements(&self) -> ResourceRequirements {
        let texts = |of: &BTreeMap<String, Quantity>| {
            of.iter().map(|(name, quantity)| (name.clone(), Text(quantity.canonical()))).collect()
        };
        ResourceRequirements { requests: Some(texts(&self.requests)), limits: Some(texts(&self.limits)), claims: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(given: serde_json::Value) -> Validated<[String; 4]> {
        let given: ComputeResources = serde_json::from_value(given).unwrap();
        let compute = validate(Some(&given))?;
        Ok([&compute.requests["cpu"], &compute.requests["memory"], &compute.limits["cpu"], &compute.limits["memory"]]
            .map(ToString::to_string))
    }

    #[test]
    fn presets_and_single_values() {
        assert_eq!(check(json!({})).unwrap(), ["100m", "128Mi", "500m", "256Mi"]);
        assert_eq!(check(json!({"preset": "nano"})).unwrap(), ["25m", "32Mi", "100m", "64Mi"]);
        assert_eq!(
            check(json!({"requests": {"cpu": 1}})).unwrap(),
            ["1", "128Mi", "1", "256Mi"],
            "the preset's limit follows"
        );
        assert_eq!(check(json!({"limits": {"memory": "64Mi"}})).unwrap(), ["100m", "64Mi", "500m", "64Mi"]);
    }

    #[test]
    fn a_request_above_its_own_limit_is_refused() {
        let refusal = check(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}})).unwrap_err();
        assert!(refusal.message.contains("cpu requests 2, which is above its limit 1500m"), "{refusal}");
        assert!(check(json!({"requests": {"cpu": "-1"}})).is_err());
        assert!(check(json!({"requests": {"cpu": "much"}})).is_err());
    }
}
