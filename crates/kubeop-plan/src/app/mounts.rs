//! Volumes, and `ConfigMaps` and Secrets as files or environment variables: references within the namespace.
//!
//! Invariant: every mount path is absolute and used once.

use crate::refusal::{Refusal, Validated};
use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, ConfigMapVolumeSource, EmptyDirVolumeSource, EnvFromSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, SecretEnvSource, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kubeop_core::quantity::Quantity;
use kubeop_crds::app::ImageDelivery;
use kubeop_crds::app::image::{ConfigRef, VolumeRef};

/// What the pod's template says of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounts {
    /// The pod's volumes.
    pub volumes: Vec<Volume>,
    /// Where the container sees them.
    pub mounts: Vec<VolumeMount>,
    /// Environment variables taken as a whole.
    pub env_from: Vec<EnvFromSource>,
}

#[derive(Clone, Copy)]
enum Source {
    ConfigMap,
    Secret,
}

/// Decides volumes, mounts and environment.
pub(super) fn validate(block: &ImageDelivery) -> Validated<Mounts> {
    let mut mounts = Mounts::default();
    for (index, volume) in block.volumes.iter().enumerate() {
        mounts.volume(index, volume)?;
    }
    for (index, config) in block.config_maps.iter().enumerate() {
        mounts.config(Source::ConfigMap, index, config)?;
    }
    for (index, config) in block.secrets.iter().enumerate() {
        mounts.config(Source::Secret, index, config)?;
    }
    Ok(mounts)
}

impl Mounts {
    fn volume(&mut self, index: usize, given: &VolumeRef) -> Validated<()> {
        let place = format!("spec.delivery.image.volumes[{index}]");
        let mut volume = Volume { name: format!("volume-{index}"), ..Volume::default() };
        if let Some(claim) = &given.claim {
            if given.size_limit.is_some() {
                return Err(Refusal::invalid(format!(
                    "{place}: sizeLimit is for scratch space, a claim has its own size"
                )));
            }
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: given.read_only.then_some(true),
            });
        } else {
            let limit = given.size_limit.as_ref().map(|amount| Quantity::parse(amount.as_str())).transpose();
            let limit = limit.map_err(|error| error.at(format!("{place}.sizeLimit")))?;
            volume.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: limit.map(|quantity| Text(quantity.canonical())),
                ..EmptyDirVolumeSource::default()
            });
        }
        let mount = VolumeMount {
            sub_path: given.sub_path.clone(),
            read_only: given.read_only.then_some(true),
            ..VolumeMount::default()
        };
        self.mount(&place, volume, &given.mount_path, mount)
    }

    fn config(&mut self, source: Source, index: usize, given: &ConfigRef) -> Validated<()> {
        let (list, noun) = match source {
            Source::ConfigMap => ("configMaps", "config"),
            Source::Secret => ("secrets", "secret"),
        };
        let place = format!("spec.delivery.image.{list}[{index}]");
        let optional = given.optional.then_some(true);
        let Some(path) = &given.mount_path else {
            if given.key.is_some() {
                return Err(Refusal::invalid(format!(
                    "{place}: key needs mountPath; one key as a variable is env[].valueFrom"
                )));
            }
            let (config_map_ref, secret_ref) = match source {
                Source::ConfigMap => (Some(ConfigMapEnvSource { name: given.name.clone(), optional }), None),
                Source::Secret => (None, Some(SecretEnvSource { name: given.name.clone(), optional })),
            };
            self.env_from.push(EnvFromSource { prefix: given.prefix.clone(), config_map_ref, secret_ref });
            return Ok(());
        };
        if given.prefix.is_some() {
            return Err(Refusal::invalid(format!(
                "{place}: prefix is for environment variables, and with mountPath there are none"
            )));
        }
        let items = given.key.as_ref().map(|key| vec![KeyToPath { key: key.clone(), path: key.clone(), mode: None }]);
        let mut volume = Volume { name: format!("{noun}-{index}"), ..Volume::default() };
        match source {
            Source::ConfigMap => {
                volume.config_map = Some(ConfigMapVolumeSource {
                    name: given.name.clone(),
                    items,
                    optional,
                    ..ConfigMapVolumeSource::default()
                });
            }
            Source::Secret => {
                volume.secret = Some(SecretVolumeSource {
                    secret_name: Some(given.name.clone()),
                    items,
                    optional,
                    ..SecretVolumeSource::default()
                });
            }
        }
        let mount = VolumeMount { sub_path: given.key.clone(), read_only: Some(true), ..VolumeMount::default() };
        self.mount(&place, volume, path, mount)
    }

    fn mount(&mut self, place: &str, volume: Volume, path: &str, mount: VolumeMount) -> Validated<()> {
        let fail = |why: &str| Err(Refusal::invalid(format!("{place}.mountPath: {path:?} {why}")));
        let path = path.trim_end_matches('/');
        if !path.starts_with('/') || path.contains(':') || path.split('/').any(|part| part == "..") {
            return fail("is not usable: an absolute path below / without ':' and '..' is needed");
        }
        if self.mounts.iter().any(|other| other.mount_path == path) {
            return fail("is used twice");
        }
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
            return Err(Refusal::invalid(format!(
                "{place}.subPath: {sub_path:?} is not usable: a relative path without '..' is needed"
            )));
        }
        self.mounts.push(VolumeMount { name: volume.name.clone(), mount_path: path.to_owned(), ..mount });
        self.volumes.push(volume);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(mut block: serde_json::Value) -> Validated<Mounts> {
        block["ref"] = json!("nginx");
        validate(&serde_json::from_value(block).unwrap())
    }

    #[test]
    fn files_with_a_path_variables_without() {
        let mounts = check(json!({
            "volumes": [{"claim": "data", "mountPath": "/data/", "readOnly": true}, {"mountPath": "/tmp", "sizeLimit": "1Gi"}],
            "configMaps": [{"name": "site", "mountPath": "/etc/nginx/conf.d/site.conf", "key": "site.conf"}, {"name": "vars", "prefix": "A_"}],
            "secrets": [{"name": "token", "mountPath": "/run/token", "optional": true}],
        }))
        .unwrap();
        let paths: Vec<_> =
            mounts.mounts.iter().map(|m| (m.name.as_str(), m.mount_path.as_str(), m.sub_path.as_deref())).collect();
        assert_eq!(
            paths,
            [
                ("volume-0", "/data", None),
                ("volume-1", "/tmp", None),
                ("config-0", "/etc/nginx/conf.d/site.conf", Some("site.conf")),
                ("secret-0", "/run/token", None),
            ]
        );
        assert_eq!(mounts.volumes.len(), 4);
        assert_eq!(mounts.env_from[0].config_map_ref.as_ref().unwrap().name, "vars");
    }

    #[test]
    fn paths_that_do_not_work_are_named() {
        for bad in [
            json!({"volumes": [{"mountPath": "data"}]}),
            json!({"volumes": [{"mountPath": "/"}]}),
            json!({"volumes": [{"mountPath": "/a/../b"}]}),
            json!({"volumes": [{"mountPath": "/a"}, {"mountPath": "/a/"}]}),
            json!({"volumes": [{"mountPath": "/a", "subPath": "../b"}]}),
            json!({"volumes": [{"mountPath": "/a", "claim": "c", "sizeLimit": "1Gi"}]}),
            json!({"configMaps": [{"name": "c", "key": "k"}]}),
            json!({"secrets": [{"name": "c", "mountPath": "/c", "prefix": "P_"}]}),
        ] {
            assert!(check(bad.clone()).unwrap_err().message.starts_with("spec.delivery.image."), "{bad}");
        }
    }
}
