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
use serde_json::Value;
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
    let mut spec = match &input.spec {
        Some(value) => AppSpec::parse_strict(value)?,
        None => AppSpec::default(),
    };
    if let Some(image) = &input.image {
        take_image(&mut spec, image)?;
    }
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

fn take_image(spec: &mut AppSpec, image: &str) -> Result<()> {
    ImageRef::parse(image).map_err(|e| e.at("image"))?;
    let other_kind = spec.delivery.git.is_some() || spec.delivery.helm.is_some() || spec.delivery.raw.is_some();
    match spec.delivery.image.as_ref().and_then(ImageSource::reference) {
        Some(reference) if reference == image => Ok(()),
        Some(reference) => Err(Error::invalid(format!(
            "image: {:?} and spec.delivery.image {:?} differ",
            kubeop_core::id::shorten(image),
            kubeop_core::id::shorten(reference)
        ))),
        None if other_kind => Err(Error::invalid("image: spec.delivery is of another kind")),
        None => {
            spec.delivery.image = Some(ImageSource::Ref(image.to_owned()));
            Ok(())
        }
    }
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
