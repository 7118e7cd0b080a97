//! What an App says, understood beside its project and the platform policy.
//!
//! Invariant: a valid app is of kind Image, has an allowed image in its one full spelling, and hosts in canonical form.

use super::compute::{self, Compute};
use super::mounts::{self, Mounts};
use super::ports::{self, ValidPort};
use super::size::check_size;
use crate::identity::{Identity, OwnedBy, id};
use crate::providers::Issuer;
use crate::refusal::{Refusal, Validated};
use k8s_openapi::api::core::v1::EnvVar;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubeop_core::image::ImageRef;
use kubeop_core::name::{Host, Label};
use kubeop_core::policy::PlatformPolicy;
use kubeop_crds::app::image::Probes;
use kubeop_crds::app::{DeliveryKind, ImageDelivery};
use kubeop_crds::conditions::reason;
use kubeop_crds::{App, PodSecurity, labels};

/// What is decided beside: all of it read from the cluster beforehand.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The project, as its namespace's labels tell it.
    pub project: &'a Identity,
    /// The Project resource's uid, which owns hosts beside the app.
    pub project_uid: &'a str,
    /// The Pod Security Standard that pods must meet.
    pub pod_security: PodSecurity,
    /// Whether the project or its tenant is suspended.
    pub suspended: bool,
    /// The platform policy.
    pub policy: &'a PlatformPolicy,
    /// Who issues certificates, if anybody does.
    pub issuer: Option<Issuer>,
}

/// How pods are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Pods above the wanted number.
    pub max_surge: IntOrString,
    /// Pods that may be missing.
    pub max_unavailable: IntOrString,
    /// Seconds without progress after which it counts as failed.
    pub progress_deadline: i32,
}

/// An App of kind Image that obeys the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidApp {
    /// Whose it is.
    pub project: Identity,
    /// The Project resource's uid.
    pub project_uid: String,
    /// The App resource, which owns all objects.
    pub owner: OwnedBy,
    /// Its name.
    pub name: Label,
    /// Its namespace.
    pub namespace: String,
    /// Its id: the manager's, else the resource's uid.
    pub id: String,
    /// The image.
    pub image: ImageRef,
    /// How many pods; 0 while suspended.
    pub replicas: i32,
    /// Whether the app, its project or its tenant is suspended.
    pub suspended: bool,
    /// Ports of container and Service.
    pub ports: Vec<ValidPort>,
    /// Hosts, canonical, each once.
    pub hosts: Vec<Host>,
    /// Who issues certificates for them, if anybody does.
    pub issuer: Option<Issuer>,
    /// The container's command, if replaced.
    pub command: Vec<String>,
    /// The container's arguments, if replaced.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// Requests and limits.
    pub compute: Compute,
    /// Probes.
    pub probes: Probes,
    /// How pods are replaced.
    pub rollout: Rollout,
    /// Volumes, files and environment from `ConfigMaps` and Secrets.
    pub mounts: Mounts,
    /// The Pod Security Standard that pods must meet.
    pub pod_security: PodSecurity,
}

/// Understands an App.
///
/// # Errors
/// `UnsupportedDelivery`, `UnsupportedHooks`, `ImageNotAllowed`, or `Invalid` with the field at fault.
pub fn validate(app: &App, around: &Surroundings<'_>) -> Validated<ValidApp> {
    let name = Label::parse(app.metadata.name.as_deref().unwrap_or_default())?;
    if name.as_str().starts_with(labels::RESERVED_NAME_PREFIX) {
        return Err(Refusal::invalid(format!(
            "names that begin with kubeop- are the platform's: {name:?} cannot be an App's"
        )));
    }
    check_size(&app.spec, app.spec.delivery.raw.is_some())?;
    let block = image_block(app)?;
    let hosts = hosts(app)?;
    check_hooks(app, around.policy)?;
    let image = check_image("spec.delivery.image", &block.reference, around.policy)?;
    let ports = ports::validate(&name, block.ports.as_deref())?;
    if !hosts.is_empty() && ports::ingress_port(&ports).is_none() {
        return Err(Refusal::invalid("spec.hosts: a host needs a TCP port in spec.delivery.image.ports to lead to"));
    }
    let suspended = app.spec.suspended || around.suspended;
    Ok(ValidApp {
        project: around.project.clone(),
        project_uid: around.project_uid.to_owned(),
        owner: OwnedBy::of(&app.metadata)?,
        namespace: app.metadata.namespace.clone().unwrap_or_default(),
        id: id(app, labels::APP_ID)?,
        image,
        replicas: if suspended { 0 } else { replicas(&block)? },
        suspended,
        ports,
        hosts,
        issuer: around.issuer,
        compute: compute::validate(block.resources.as_ref())?,
        rollout: rollout(&block)?,
        mounts: mounts::validate(&block)?,
        command: block.command,
        args: block.args,
        env: block.env,
        probes: block.probes.unwrap_or_default(),
        pod_security: around.pod_security,
        name,
    })
}

fn image_block(app: &App) -> Validated<ImageDelivery> {
    let delivery = &app.spec.delivery;
    match (delivery.kind()?, &delivery.image) {
        (DeliveryKind::Image, Some(image)) => Ok(image.block()?.into_owned()),
        (kind, _) => Err(Refusal::new(
            reason::UNSUPPORTED_DELIVERY,
            format!("spec.delivery: this version of kubeOP cannot deliver kind {kind}: Image is possible"),
        )),
    }
}

fn hosts(app: &App) -> Validated<Vec<Host>> {
    let mut hosts: Vec<Host> = Vec::new();
    for text in app.spec.host_texts() {
        let host = Host::parse(text).map_err(|error| error.at("spec.hosts"))?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn check_hooks(app: &App, policy: &PlatformPolicy) -> Validated<()> {
    let Some(hooks) = app.spec.hooks.as_ref().filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
    for (place, list) in [("pre", &hooks.pre), ("post", &hooks.post)] {
        for (index, hook) in list.iter().enumerate() {
            if let Some(image) = &hook.image {
                check_image(&format!("spec.hooks.{place}[{index}].image"), image, policy)?;
            }
        }
    }
    Err(Refusal::new(reason::UNSUPPORTED_HOOKS, "spec.hooks: this version of kubeOP cannot run hooks: leave them out"))
}

/// The image in its one full spelling, if it is one and allowed; the allow-list's own sentence otherwise.
fn check_image(place: &str, text: &str, policy: &PlatformPolicy) -> Validated<ImageRef> {
    let image = ImageRef::parse(text).map_err(|error| error.at(place))?;
    let decision = policy.image_allowlist.decide(&image);
    decision.map_err(|error| Refusal::new(reason::IMAGE_NOT_ALLOWED, error.at(place).message()))?;
    Ok(image)
}

fn replicas(block: &ImageDelivery) -> Validated<i32> {
    match block.replicas.unwrap_or(1) {
        count @ 0..=1000 => Ok(count),
        other => Err(Refusal::invalid(format!(
            "spec.delivery.image.replicas: {other} is out of range: 0 to 1000 is allowed"
        ))),
    }
}

fn rollout(block: &ImageDelivery) -> Validated<Rollout> {
    let given = block.rollout.clone().unwrap_or_default();
    let rollout = Rollout {
        max_surge: given.max_surge.unwrap_or_else(|| IntOrString::String("25%".to_owned())),
        max_unavailable: given.max_unavailable.unwrap_or(IntOrString::Int(0)),
        progress_deadline: given.progress_deadline_seconds.unwrap_or(600),
    };
    let surge = share("maxSurge", &rollout.max_surge, i32::MAX)?;
    let unavailable = share("maxUnavailable", &rollout.max_unavailable, 100)?;
    if surge == 0 && unavailable == 0 {
        return Err(Refusal::invalid("spec.delivery.image.rollout: maxSurge and maxUnavailable cannot both be 0"));
    }
    if !(1..=86_400).contains(&rollout.progress_deadline) {
        return Err(Refusal::invalid(format!(
            "spec.delivery.image.rollout.progressDeadlineSeconds: {} is out of range: 1 to 86400 is allowed",
            rollout.progress_deadline
        )));
    }
    Ok(rollout)
}

/// A number of pods or a percentage.
fn share(field: &str, value: &IntOrString, most_percent: i32) -> Validated<i32> {
    let number = match value {
        IntOrString::Int(count) => Some(*count),
        IntOrString::String(text) => {
            text.strip_suffix('%').and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= most_percent)
        }
    };
    number.filter(|number| *number >= 0).ok_or_else(|| {
        let shown = serde_json::to_string(value).unwrap_or_default();
        Refusal::invalid(format!("spec.delivery.image.rollout.{field}: {shown} is not understood: a number such as 1 or a percentage such as 25% is needed"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::{app, identity};
    use kubeop_core::policy::RawPolicy;
    use serde_json::json;

    /// The app `name` under this policy.
    pub(crate) fn check_under(app: &App, images: &[&str]) -> Validated<ValidApp> {
        let raw =
            RawPolicy { image_allowlist: images.iter().map(ToString::to_string).collect(), ..RawPolicy::default() };
        let policy = PlatformPolicy::parse(&raw).unwrap();
        let around = Surroundings {
            project: &identity(),
            project_uid: "uid-project-acme.web",
            pod_security: PodSecurity::Baseline,
            suspended: false,
            policy: &policy,
            issuer: None,
        };
        validate(app, &around)
    }

    fn refusal(spec: serde_json::Value) -> (&'static str, String) {
        let refusal = check_under(&app("shop", spec), &["docker.io"]).unwrap_err();
        (refusal.reason, refusal.message)
    }

    #[test]
    fn the_seed_s_short_form_is_enough() {
        let valid =
            check_under(&app("shop", json!({"delivery": {"image": "nginx:1.25"}, "host": "Web.Local."})), &[]).unwrap();
        assert_eq!(valid.image.to_string(), "docker.io/library/nginx:1.25");
        assert_eq!(valid.hosts.iter().map(Host::as_str).collect::<Vec<_>>(), ["web.local"]);
        assert_eq!((valid.replicas, valid.ports.len(), valid.ports[0].container), (1, 1, 80));
        assert_eq!(valid.id, "uid-app-shop");
    }

    #[test]
    fn what_cannot_be_delivered_is_refused_with_its_reason() {
        assert_eq!(refusal(json!({"delivery": {"git": {"url": "https://x/y"}}})).0, reason::UNSUPPORTED_DELIVERY);
        assert_eq!(refusal(json!({"delivery": {"raw": {"manifests": []}}})).0, reason::UNSUPPORTED_DELIVERY);
        let hooks = json!({"delivery": {"image": "nginx"}, "hooks": {"pre": [{"name": "a", "image": "nginx"}]}});
        assert_eq!(refusal(hooks).0, reason::UNSUPPORTED_HOOKS);
    }

    #[test]
    fn images_outside_the_allow_list_are_named_with_the_place() {
        let (why, message) = refusal(json!({"delivery": {"image": "ghcr.io/acme/web:1"}}));
        assert_eq!(why, reason::IMAGE_NOT_ALLOWED);
        assert!(message.starts_with("spec.delivery.image: ") && message.contains("docker.io"), "{message}");
        let hook = json!({"delivery": {"image": "nginx"}, "hooks": {"post": [{"name": "a", "image": "ghcr.io/x/y"}]}});
        let (why, message) = refusal(hook);
        assert_eq!(why, reason::IMAGE_NOT_ALLOWED);
        assert!(message.starts_with("spec.hooks.post[0].image: "), "{message}");
    }

    #[test]
    fn bad_values_name_their_field() {
        let block = |more: serde_json::Value| {
            let mut block = json!({"ref": "nginx"});
            block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"delivery": {"image": block}})
        };
        for (spec, start) in [
            (json!({"delivery": {"image": "nginx"}, "hosts": ["*.local"]}), "spec.hosts: "),
            (json!({"delivery": {"image": "NGINX"}}), "spec.delivery.image: "),
            (block(json!({"rollout": {"maxSurge": "many"}})), "spec.delivery.image.rollout.maxSurge: \"many\""),
            (block(json!({"rollout": {"maxSurge": 0, "maxUnavailable": 0}})), "spec.delivery.image.rollout: "),
            (block(json!({"rollout": {"maxUnavailable": "101%"}})), "spec.delivery.image.rollout.maxUnavailable"),
            (block(json!({"replica": 2})), "spec.delivery.image.replica is not a known field"),
        ] {
            // The fixture parses strictly; these come as the API server would let them through.
            let mut odd = app("shop", json!({"delivery": {"image": "nginx"}}));
            odd.spec = serde_json::from_value(spec).unwrap();
            let message = check_under(&odd, &[]).unwrap_err().message;
            assert!(message.starts_with(start), "{message}");
        }
        let mut reserved = app("shop", json!({"delivery": {"image": "nginx"}}));
        reserved.metadata.name = Some("kubeop-shop".to_owned());
        assert!(check_under(&reserved, &[]).is_err());
    }

    /// A tenant with a hundred such apps made lists of apps larger than any client reads.
    #[test]
    fn a_spec_that_is_too_large_is_refused_with_its_size() {
        let env: Vec<_> = (0..300).map(|n| json!({"name": format!("A{n}"), "value": "x".repeat(1000)})).collect();
        let (why, message) = refusal(json!({"delivery": {"image": {"ref": "nginx", "env": env}}}));
        assert_eq!(why, reason::INVALID);
        assert!(message.starts_with("spec: has 3") && message.ends_with("at most 262144 are allowed"), "{message}");
    }

    #[test]
    fn suspending_scales_to_nothing() {
        let spec = json!({"delivery": {"image": {"ref": "nginx", "replicas": 3}}, "suspended": true});
        let valid = check_under(&app("shop", spec), &[]).unwrap();
        assert_eq!((valid.replicas, valid.suspended), (0, true));
    }
}
