//! What an image holds beside the executable, and how it is run.
//!
//! Invariant: nothing is writable for the process but its data directory, which deployments mount; no shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{binary::Profile, packages, source::Source};
use crate::oci::{
    config::{Config, Platform},
    debian::{Package, Tree},
    layer::Layer,
    layout::Name,
    rfc3339::rfc3339,
};

/// The user that containers run as: nobody's number on hosts, the one distroless images made customary.
pub(crate) const USER: u32 = 65_532;
/// Where registries keep it.
pub(crate) const REPOSITORY: &str = "ghcr.io/kubeop/kubeop";
const BINARY: &str = "/usr/local/bin/kubeop";
const DATA: &str = "/var/lib/kubeop";
/// What `git clone` over HTTPS and SSH needs. Left out: perl, and with it everything in git that is a script.
const GIT: [&str; 6] = [
    "/usr/bin/git",
    "/usr/bin/ssh",
    "/usr/lib/git-core/git",
    "/usr/lib/git-core/git-remote-http",
    "/usr/lib/git-core/git-remote-https",
    "/usr/share/git-core/templates",
];
const GIT_PACKAGES: [&str; 3] = ["ca-certificates", "git", "openssh-client"];

/// Which image of the same binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// The binary and certificate authorities.
    Plain,
    /// Also `git` and `ssh`, for apps that are delivered from repositories.
    Git,
}

impl Variant {
    /// The image's name with its tag: `0.1.0`, `0.1.0-git`.
    pub(crate) fn name(self, source: &Source) -> Name {
        let suffix = match self {
            Self::Plain => "",
            Self::Git => "-git",
        };
        Name { repository: REPOSITORY.to_owned(), tag: format!("{}{suffix}", source.version) }
    }
}

/// The layer below the binary, and the Debian packages it is from. It changes rarely, so that nodes keep it.
pub(crate) fn base(profile: Profile, variant: Variant, platform: Platform) -> Result<(Layer, BTreeSet<Package>)> {
    let mut layer = Layer::default();
    layer.bytes("/etc/passwd", 0o644, passwd())?;
    layer.bytes("/etc/group", 0o644, group())?;
    layer.owned_directory(DATA, 0o700, USER)?;
    let tree = match variant {
        Variant::Plain => packages::tree(profile, platform, &["ca-certificates"])?,
        Variant::Git => packages::tree(profile, platform, &GIT_PACKAGES)?,
    };
    let (bundle, authorities) = tree.certificates()?;
    layer.bytes("/etc/ssl/certs/ca-certificates.crt", 0o644, bundle)?;
    let mut packages = BTreeSet::from([authorities]);
    if variant == Variant::Git {
        packages.append(&mut tree.add(&mut layer, &GIT)?);
    }
    licences(&tree, &mut layer, &packages)?;
    Ok((layer, packages))
}

fn passwd() -> String {
    format!("root:x:0:0:root:/:/none\nkubeop:x:{USER}:{USER}:kubeOP:{DATA}:/none\n")
}

fn group() -> String {
    format!("root:x:0:\nkubeop:x:{USER}:\n")
}

/// Each package's licence text, which redistribution asks for.
fn licences(tree: &Tree, layer: &mut Layer, packages: &BTreeSet<Package>) -> Result<()> {
    for package in packages {
        let path = format!("/usr/share/doc/{}/copyright", package.name);
        tree.add(layer, &[&path]).with_context(|| format!("the licence of {}", package.name))?;
    }
    Ok(())
}

/// The layer of the binary itself.
pub(crate) fn binary(executable: &Path) -> Result<Layer> {
    let mut layer = Layer::default();
    layer.file(BINARY, 0o755, executable)?;
    Ok(layer)
}

/// How it is run. `deploy/docker/Dockerfile` says the same, and a test compares them.
pub(crate) fn config(platform: Platform, source: &Source, name: &Name) -> Config {
    let labels = [
        ("created", rfc3339(source.epoch)),
        ("description", "A multi-tenant application platform for Kubernetes".to_owned()),
        ("documentation", "https://github.com/kubeop/kubeop/blob/main/README.md".to_owned()),
        ("licenses", "Apache-2.0".to_owned()),
        ("ref.name", name.tag.clone()),
        ("revision", source.revision.clone()),
        ("source", "https://github.com/kubeop/kubeop".to_owned()),
        ("title", "kubeOP".to_owned()),
        ("vendor", "kubeOP".to_owned()),
        ("version", source.version.to_owned()),
    ];
    Config {
        platform,
        user: format!("{USER}:{USER}"),
        env: BTreeMap::from([
            ("HOME".to_owned(), DATA.to_owned()),
            ("KUBEOP_DATA_DIR".to_owned(), DATA.to_owned()),
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin".to_owned()),
        ]),
        entrypoint: vec![BINARY.to_owned()],
        // Not the data directory, which other users than this one, if a cluster imposes them, may not enter.
        working_dir: "/".to_owned(),
        exposed_ports: vec!["8080/tcp".to_owned(), "9090/tcp".to_owned(), "9443/tcp".to_owned()],
        labels: labels.into_iter().map(|(name, value)| (format!("org.opencontainers.image.{name}"), value)).collect(),
    }
}

#[cfg(test)]
mod tests;
