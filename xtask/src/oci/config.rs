//! The image configuration: what runs, as whom, and where it comes from.
//! Specification: <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>.
//!
//! Invariant: every key is written in one order, since the image's identity is the digest of this text.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::layer::Written;

/// A platform an image is for; Go's names, as registries use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Platform {
    LinuxAmd64,
    LinuxArm64,
}

impl Platform {
    pub(crate) const ALL: [Self; 2] = [Self::LinuxAmd64, Self::LinuxArm64];

    /// The platform of the machine this runs on; `None` where no image can run natively.
    pub(crate) fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::LinuxAmd64),
            "aarch64" => Some(Self::LinuxArm64),
            _ => None,
        }
    }

    /// `linux/amd64`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "linux/amd64" => Ok(Self::LinuxAmd64),
            "linux/arm64" => Ok(Self::LinuxArm64),
            _ => bail!("platform {text:?} is not supported: linux/amd64 or linux/arm64"),
        }
    }

    /// `amd64`: also Debian's name of it.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
        }
    }

    /// Debian's name of the directory for libraries.
    pub(super) fn multiarch(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "x86_64-linux-gnu",
            Self::LinuxArm64 => "aarch64-linux-gnu",
        }
    }

    pub(super) fn json(self) -> Value {
        json!({ "architecture": self.architecture(), "os": "linux" })
    }
}

/// What a container of the image runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) platform: Platform,
    /// `65532:65532`; numbers, so that Kubernetes can check `runAsNonRoot`.
    pub(crate) user: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) working_dir: String,
    /// `8080/tcp`.
    pub(crate) exposed_ports: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Config {
    /// The document; `created` is RFC 3339.
    pub(super) fn json(&self, layers: &[Written], created: &str) -> Value {
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ports: BTreeMap<&str, Value> = self.exposed_ports.iter().map(|port| (port.as_str(), json!({}))).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let history: Vec<Value> =
            layers.iter().map(|_| json!({ "created": created, "created_by": "cargo xtask image" })).collect();
        json!({
            "created": created,
            "architecture": self.platform.architecture(),
            "os": "linux",
            "config": {
                "User": self.user,
                "ExposedPorts": ports,
                "Env": env,
                "Entrypoint": self.entrypoint,
                "WorkingDir": self.working_dir,
                "Labels": self.labels,
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        })
    }
}
