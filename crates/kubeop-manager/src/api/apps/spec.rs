//! The spec of an app, from the long form, the short form, or both.
//!
//! Invariant: what is accepted here can be delivered by this version and obeys the policy; the operator decides again by the same functions.

use kubeop_api::app::AppInput;
use kubeop_core::image::ImageRef;
use kubeop_core::name::Host;
use kubeop_core::policy::PlatformPolicy;
use kubeop_core::{Error, Result};
use kubeop_crds::app::{DeliveryKind, ImageSource};
use kubeop_crds::{App, AppSpec, PodSecurity};
use kubeop_plan::Identity;
use kubeop_plan::app::{Surroundings, validate};
use kubeop_store::project::Project;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A spec that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// As it is stored.
    pub spec: Value,
    /// Its hosts, canonical, each once.
    pub hosts: Vec<Host>,
}

/// Puts the forms together and checks the outcome.
pub fn accept(input: &AppInput, project: &Project, policy: &PlatformPolicy) -> Result<Accepted> {
    // Before it is read, for what the short form says may be left out of the long one.
    let mut given = input.spec.clone().unwrap_or_else(|| json!({"delivery": {}}));
    if let Some(image) = &input.image {
        take_image(&mut given, image)?;
    }
    let mut spec = AppSpec::parse_strict(&given)?;
    if let Some(host) = &input.host {
        let taken = spec.host_texts().iter().filter_map(|text| Host::parse(text).ok()).collect::<Vec<_>>();
        let host = Host::parse(host).map_err(|e| e.at("host"))?;
        if !taken.is_empty() && !taken.contains(&host) {
            return Err(Error::invalid(format!("host: {host} is not among the hosts of spec")));
        }
        if taken.is_empty() {
            spec.hosts = vec![host.to_string()];
        }
    }
    let kind = spec.delivery.kind().map_err(|e| e.at("spec.delivery"))?;
    if kind != DeliveryKind::Image {
        return Err(Error::invalid(format!(
            "spec.delivery.kind: {} cannot be delivered by this version, only Image",
            kind.as_str()
        )));
    }
    spec.delivery.kind = Some(kind);
    check_images(&spec, policy)?;
    let hosts = canonical_hosts(&spec)?;
    spec.host = None;
    spec.hosts = hosts.iter().map(ToString::to_string).collect();
    deliverable(&spec, project, policy)?;
    let spec = serde_json::to_value(&spec).map_err(Error::internal)?;
    Ok(Accepted { spec, hosts })
}

/// Asks the operator's own rules whether such an App could be built.
fn deliverable(spec: &AppSpec, project: &Project, policy: &PlatformPolicy) -> Result<()> {
    let mut app = App::new("app", spec.clone());
    app.metadata.uid = Some(Uuid::nil().to_string());
    app.metadata.namespace = Some(project.namespace.to_string());
    let identity = Identity {
        cluster_id: Some(project.cluster_id.to_string()),
        instance: None,
        tenant_id: project.tenant_id.to_string(),
        tenant: project.name.clone(),
        project_id: project.id.to_string(),
        project: project.name.clone(),
    };
    let around = Surroundings {
        project: &identity,
        project_uid: "",
        pod_security: PodSecurity::Baseline,
        suspended: false,
        policy,
        // Whoever issues certificates refuses no App.
        issuer: None,
    };
    validate(&app, &around).map(|_| ()).map_err(|refusal| Error::invalid(refusal.message))
}

/// Puts the image of the short form into the long one. What is of another type there is left to the parser, which says so.
fn take_image(spec: &mut Value, image: &str) -> Result<()> {
    ImageRef::parse(image).map_err(|e| e.at("image"))?;
    let Some(delivery) = block(spec, "delivery") else { return Ok(()) };
    if ["git", "helm", "raw"].into_iter().any(|kind| is_given(delivery.get(kind))) {
        return Err(Error::invalid("image: spec.delivery is of another kind"));
    }
    match delivery.get_mut("image") {
        Some(Value::String(reference)) => same_image(image, reference),
        Some(Value::Object(block)) => match block.get("ref") {
            Some(Value::String(reference)) => same_image(image, reference),
            Some(Value::Null) | None => {
                block.insert("ref".to_owned(), image.into());
                Ok(())
            }
            Some(_) => Ok(()),
        },
        Some(Value::Null) | None => {
            delivery.insert("image".to_owned(), image.into());
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

/// A part of an object, made if it is absent; `None` if either is something else.
fn block<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let part = value.as_object_mut()?.entry(name).or_insert(Value::Null);
    if part.is_null() {
        *part = Value::Object(Map::new());
    }
    part.as_object_mut()
}

fn is_given(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null())
}

fn same_image(image: &str, reference: &str) -> Result<()> {
    if reference == image {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "image: {:?} and spec.delivery.image {:?} differ",
        kubeop_core::id::shorten(image),
        kubeop_core::id::shorten(reference)
    )))
}

fn check_images(spec: &AppSpec, policy: &PlatformPolicy) -> Result<()> {
    let hooks = spec.hooks.iter().flat_map(|hooks| hooks.pre.iter().chain(&hooks.post));
    let images = spec
        .delivery
        .image
        .as_ref()
        .and_then(ImageSource::reference)
        .into_iter()
        .chain(hooks.filter_map(|hook| hook.image.as_deref()));
    policy.check_images(images)
}

fn canonical_hosts(spec: &AppSpec) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for text in spec.host_texts() {
        let host = Host::parse(text).map_err(|e| e.at("hosts"))?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(spec: Value, image: &str) -> Result<Value> {
        let mut spec = spec;
        take_image(&mut spec, image).map(|()| spec)
    }

    #[test]
    fn the_short_form_beside_a_spec_without_an_image_was_refused() {
        for (spec, expected) in [
            (json!({"hosts": ["a.b.c"]}), json!({"hosts": ["a.b.c"], "delivery": {"image": "nginx"}})),
            (json!({"delivery": null}), json!({"delivery": {"image": "nginx"}})),
            (json!({"delivery": {"image": null, "git": null}}), json!({"delivery": {"image": "nginx", "git": null}})),
            (
                json!({"delivery": {"image": {"replicas": 2}}}),
                json!({"delivery": {"image": {"replicas": 2, "ref": "nginx"}}}),
            ),
            (json!({"delivery": {"image": "nginx"}}), json!({"delivery": {"image": "nginx"}})),
            (json!({"delivery": {"image": {"ref": "nginx"}}}), json!({"delivery": {"image": {"ref": "nginx"}}})),
            // The parser's to refuse.
            (json!([]), json!([])),
            (json!({"delivery": 1}), json!({"delivery": 1})),
            (json!({"delivery": {"image": 1}}), json!({"delivery": {"image": 1}})),
            (json!({"delivery": {"image": {"ref": 1}}}), json!({"delivery": {"image": {"ref": 1}}})),
        ] {
            assert_eq!(taken(spec, "nginx").unwrap(), expected);
        }
        for spec in [
            json!({"delivery": {"image": "nginx:2"}}),
            json!({"delivery": {"image": {"ref": "nginx:2", "replicas": 2}}}),
            json!({"delivery": {"helm": {}}}),
        ] {
            let told = taken(spec, "nginx").unwrap_err();
            assert!(told.message().starts_with("image: "), "{told}");
        }
    }
}
