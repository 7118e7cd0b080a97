//! Apps: they are not too large, their images and hooks come from the allow-list, their host names are usable.
//!
//! Invariant: the sentence is the one the REST API gives. Pods are judged again when they are made; this one only comes earlier.

use super::{Operation, read};
use crate::metrics::Rule;
use kubeop_core::name::Host;
use kubeop_core::policy::PlatformPolicy;
use kubeop_plan::app::check_size;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

type Denial = (Rule, String);

/// Judges size, images and hosts of `object`, on update if its spec changed.
pub(super) fn judge(policy: &PlatformPolicy, operation: Operation<'_>, object: &RawValue) -> Result<(), Denial> {
    let unread = |why: String| (Rule::Review, why);
    let object: App = read(object).map_err(unread)?;
    let Err(denial) = check(policy, &object.spec) else { return Ok(()) };
    if let Operation::Update(old) = operation
        && read::<App>(old).map_err(unread)?.spec == object.spec
    {
        return Ok(());
    }
    Err(denial)
}

#[derive(Deserialize)]
struct App {
    spec: Value,
}

fn check(policy: &PlatformPolicy, spec: &Value) -> Result<(), Denial> {
    let delivery = at(spec, "spec", "delivery")?;
    let has_manifests = !at(delivery, "spec.delivery", "raw")?.is_null();
    check_size(spec, has_manifests).map_err(|error| (Rule::Size, error.message().to_owned()))?;
    let image = at(delivery, "spec.delivery", "image")?;
    match image {
        Value::Null => {}
        Value::String(_) => check_image(policy, "spec.delivery.image", image)?,
        Value::Object(_) => check_image(policy, "spec.delivery.image.ref", at(image, "spec.delivery.image", "ref")?)?,
        _ => return Err(not_understood("spec.delivery.image")),
    }
    let hooks = at(spec, "spec", "hooks")?;
    for phase in ["pre", "post"] {
        let list = format!("spec.hooks.{phase}");
        for (index, hook) in elements(at(hooks, "spec.hooks", phase)?, &list)?.iter().enumerate() {
            let place = format!("{list}[{index}]");
            match at(hook, &place, "image")? {
                // By default the App's own.
                Value::Null => {}
                image => check_image(policy, &format!("{place}.image"), image)?,
            }
        }
    }
    match at(spec, "spec", "host")? {
        Value::Null => {}
        host => check_host("spec.host", host)?,
    }
    for (index, host) in elements(at(spec, "spec", "hosts")?, "spec.hosts")?.iter().enumerate() {
        check_host(&format!("spec.hosts[{index}]"), host)?;
    }
    Ok(())
}

fn check_image(policy: &PlatformPolicy, place: &str, image: &Value) -> Result<(), Denial> {
    let image = image.as_str().ok_or_else(|| not_understood(place))?;
    policy.check_image(image).map(|_| ()).map_err(|error| (Rule::Images, error.at(place).message().to_owned()))
}

fn check_host(place: &str, host: &Value) -> Result<(), Denial> {
    let host = host.as_str().ok_or_else(|| not_understood(place))?;
    Host::parse(host).map(|_| ()).map_err(|error| (Rule::Hosts, error.at(place).message().to_owned()))
}

/// A field of an object; null where either is missing.
fn at<'a>(value: &'a Value, place: &str, field: &str) -> Result<&'a Value, Denial> {
    match value {
        Value::Null => Ok(&Value::Null),
        Value::Object(fields) => Ok(fields.get(field).unwrap_or(&Value::Null)),
        _ => Err(not_understood(place)),
    }
}

fn elements<'a>(value: &'a Value, place: &str) -> Result<&'a [Value], Denial> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(elements) => Ok(elements),
        _ => Err(not_understood(place)),
    }
}

fn not_understood(place: &str) -> Denial {
    (Rule::Review, format!("{place} is not understood"))
}
