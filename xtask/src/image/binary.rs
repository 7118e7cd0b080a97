//! The executable that goes into an image.
//!
//! Invariant: what is given to the image has no debugging information; what cargo built is left as it is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::target::Target;
use crate::step::output;
use crate::{oci::config::Platform, step::Runner};

/// How the binary is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// As shipped.
    Release,
    /// As tested: built in seconds, big and slow.
    Dev,
}

/// Compiles kubeOP for a platform; the path of the executable.
pub(crate) fn build(runner: &Runner<'_>, profile: Profile, platform: Platform) -> Result<PathBuf> {
    let target = match profile {
        Profile::Dev if Platform::host() == Some(platform) => Target::native()?,
        Profile::Dev | Profile::Release => Target::shipped(platform)?,
    };
    let (arguments, directory): (&[&str], _) = match profile {
        Profile::Release => (&["--release", "--locked", "--package", "kubeop"], "release"),
        Profile::Dev => (&["--package", "kubeop"], "debug"),
    };
    let title = format!("kubeop for linux/{}", platform.architecture());
    runner.run(&title, &target.cargo(&["build"], arguments)?)?;
    Ok(target.directory(directory)?.join("kubeop"))
}

/// A copy without symbols and debugging information. The executable must be static: the image has no libraries.
pub(crate) fn strip(binary: &Path, platform: Platform, into: &Path) -> Result<()> {
    let headers = output(Command::new("readelf").args(["--program-headers", "--wide"]).arg(binary).env("LC_ALL", "C"))
        .context("install binutils")?;
    if headers.lines().any(|line| line.trim_start().starts_with("INTERP")) {
        bail!("{} is not static: build it with cargo xtask image", binary.display());
    }
    output(Command::new(Target::strip(platform)).arg("--strip-all").arg("-o").arg(into).arg(binary))?;
    Ok(())
}
