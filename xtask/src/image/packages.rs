//! Debian packages for an image, downloaded by `apt` with a state of its own, which changes nothing on this machine; for development, installed ones if they fit.
//!
//! Invariant: everything comes from the machine's own Debian sources, checked by apt's keys.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::binary::Profile;
use crate::step::output;
use crate::{
    environment,
    oci::{config::Platform, debian::Tree},
    progress,
};

/// Dependencies for scripts and for set-up on a whole system, which images leave out.
const LEFT_OUT: [&str; 8] = ["perl", "libperl", "liberror-perl", "git-man", "debconf", "cdebconf", "passwd", "adduser"];

/// A tree with these packages and the libraries they need. What is shipped has today's versions: a machine may have been installed years ago, and
/// trust certificate authorities that are no longer trusted.
pub(super) fn tree(profile: Profile, platform: Platform, names: &[&str]) -> Result<Tree> {
    if environment::program("dpkg-query").is_none() {
        bail!(
            "the files of an image come from Debian packages: build it on Debian or Ubuntu, or use deploy/docker/Dockerfile"
        );
    }
    // Packages without programs are the same for every platform.
    if profile == Profile::Dev && (Platform::host() == Some(platform) || names == ["ca-certificates"]) {
        let installed = Tree::installed()?;
        if installed.has(names) {
            return Ok(installed);
        }
    }
    download(platform, names)
}

fn download(platform: Platform, names: &[&str]) -> Result<Tree> {
    let architecture = platform.architecture();
    let state = environment::cache_directory()?.join("debian").join(architecture);
    let archives = state.join("archives");
    for directory in [state.join("lists/partial"), state.join("cache/archives/partial")] {
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    remove(&archives)?;
    fs::create_dir_all(&archives).with_context(|| format!("cannot create {}", archives.display()))?;
    fs::write(state.join("status"), "").context("cannot write apt's state")?;
    progress::note(&format!("downloading Debian packages for {architecture}: {}", names.join(", ")));
    output(apt("apt-get", &state, architecture).args(["--quiet", "update"]))?;
    let listed = output(
        apt("apt-cache", &state, architecture)
            .args([
                "depends",
                "--recurse",
                "--no-recommends",
                "--no-suggests",
                "--no-conflicts",
                "--no-breaks",
                "--no-replaces",
                "--no-enhances",
            ])
            .args(names),
    )?;
    let wanted: Vec<&str> = listed
        .lines()
        .filter(|line| !line.starts_with([' ', '|', '<']) && !LEFT_OUT.iter().any(|left| line.starts_with(left)))
        .collect();
    output(apt("apt-get", &state, architecture).args(["--quiet", "download"]).args(&wanted).current_dir(&archives))?;
    let mut found: Vec<PathBuf> = fs::read_dir(&archives)
        .with_context(|| format!("cannot read {}", archives.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read {}", archives.display()))?;
    found.sort();
    let root = state.join("root");
    remove(&root)?;
    Tree::unpacked(&found, &root)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

/// apt for one architecture, with nothing installed, and all it writes below `state`.
fn apt(program: &str, state: &Path, architecture: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").args(["-o", &format!("APT::Architecture={architecture}")]);
    command.args(["-o", &format!("APT::Architectures::={architecture}"), "-o", "APT::Sandbox::User=root"]);
    for (option, path) in [("Dir::State::Lists", "lists"), ("Dir::State::status", "status"), ("Dir::Cache", "cache")] {
        command.arg("-o").arg(format!("{option}={}", state.join(path).display()));
    }
    command
}
