//! What kubeOP is compiled for: static executables, so that one file is the whole program on any Linux and the tests run what the image ships.
//!
//! Invariant: the flags go to `cargo` as `--config`, never as environment variables, which would reach the programs that cargo starts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    environment,
    oci::config::Platform,
    step::{Runner, output},
};

/// Where the workspace, the registry's sources and the compiler's own are said to be: the machine has no part in the binary.
const WORKSPACE: &str = "/build";
const REGISTRY: &str = "/cargo";

/// A target triple and how to build for it; the host's plain build where static executables are not the custom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    triple: Option<&'static str>,
    configuration: Vec<String>,
    /// For the C code in dependencies, when it is not this machine that runs it.
    cross: Vec<(&'static str, &'static str)>,
}

impl Target {
    /// What tests on this machine run: static on Linux with glibc, else as cargo builds without being told. Its flags name no directory, so that
    /// checkouts in different places can share what is compiled.
    pub(crate) fn native() -> Result<Self> {
        match Platform::host().filter(|_| cfg!(all(target_os = "linux", target_env = "gnu"))) {
            Some(platform) => Self::with_flags(platform, &[STATIC.to_owned()]),
            None => Ok(Self { triple: None, configuration: Vec::new(), cross: Vec::new() }),
        }
    }

    /// A static executable to be shipped: the same wherever it is compiled.
    pub(crate) fn shipped(platform: Platform) -> Result<Self> {
        Self::with_flags(platform, &reproducible()?)
    }

    fn with_flags(platform: Platform, flags: &[String]) -> Result<Self> {
        let triple = triple(platform);
        let foreign = !(cfg!(target_os = "linux") && Platform::host() == Some(platform));
        let compiler = if foreign { format!("{}-gcc", tools(platform)) } else { "gcc".to_owned() };
        require_static_libc(&compiler, platform)?;
        let mut configuration = vec![
            format!("build.target={}", quoted(triple)),
            format!("target.{triple}.rustflags={}", list(flags)),
            format!("target.{triple}.rustdocflags={}", list(&[STATIC.to_owned()])),
        ];
        let mut cross = Vec::new();
        if foreign {
            configuration.push(format!("target.{triple}.linker={}", quoted(&compiler)));
            cross = match platform {
                Platform::LinuxAmd64 => vec![
                    ("CC_x86_64_unknown_linux_gnu", "x86_64-linux-gnu-gcc"),
                    ("CXX_x86_64_unknown_linux_gnu", "x86_64-linux-gnu-g++"),
                    ("AR_x86_64_unknown_linux_gnu", "x86_64-linux-gnu-ar"),
                ],
                Platform::LinuxArm64 => vec![
                    ("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc"),
                    ("CXX_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-g++"),
                    ("AR_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-ar"),
                ],
            };
        }
        Ok(Self { triple: Some(triple), configuration, cross })
    }

    /// `cargo <subcommand> <what makes it this target> <arguments>` in the workspace.
    pub(crate) fn cargo(&self, subcommand: &[&str], arguments: &[&str]) -> Result<Command> {
        let mut command = Runner::cargo(subcommand)?;
        for setting in &self.configuration {
            command.args(["--config", setting]);
        }
        command.args(arguments).envs(self.cross.iter().copied());
        if self.triple.is_some() {
            // These would replace ours, and with them what was built before.
            command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
        }
        Ok(command)
    }

    /// Where this target's executables of a profile (`debug`, `release`) are.
    pub(crate) fn directory(&self, profile: &str) -> Result<PathBuf> {
        let target = root()?;
        Ok(self.triple.map_or_else(|| target.clone(), |triple| target.join(triple)).join(profile))
    }

    /// binutils' `strip` for this target.
    pub(super) fn strip(platform: Platform) -> String {
        if Platform::host() == Some(platform) { "strip".to_owned() } else { format!("{}-strip", tools(platform)) }
    }
}

const STATIC: &str = "-Ctarget-feature=+crt-static";

pub(super) fn triple(platform: Platform) -> &'static str {
    match platform {
        Platform::LinuxAmd64 => "x86_64-unknown-linux-gnu",
        Platform::LinuxArm64 => "aarch64-unknown-linux-gnu",
    }
}

fn tools(platform: Platform) -> &'static str {
    match platform {
        Platform::LinuxAmd64 => "x86_64-linux-gnu",
        Platform::LinuxArm64 => "aarch64-linux-gnu",
    }
}

/// The directory above `debug` and `release`, from this executable's own place in it.
pub(crate) fn root() -> Result<PathBuf> {
    let own = environment::target_directory()?;
    own.parent().map(Path::to_path_buf).with_context(|| format!("{} is in no target directory", own.display()))
}

fn reproducible() -> Result<Vec<String>> {
    let workspace = environment::workspace_root()?;
    let mut flags = vec![STATIC.to_owned(), remap(&workspace, WORKSPACE)];
    let target = root()?;
    if !target.starts_with(&workspace) {
        flags.push(remap(&target, "/build/target"));
    }
    flags.extend(sources(&workspace)?.iter().map(|directory| remap(directory, REGISTRY)));
    let compiler = environment::variable("RUSTC").unwrap_or_else(|| "rustc".to_owned());
    let ask = |arguments: &[&str]| output(Command::new(&compiler).args(arguments).current_dir(&workspace));
    let sysroot = ask(&["--print", "sysroot"])?;
    let version = ask(&["--version", "--verbose"])?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    // The library's sources have this name unless the component rust-src is installed.
    flags.push(remap(&Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), &format!("/rustc/{commit}")));
    Ok(flags)
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// Where cargo unpacked the dependencies: a directory per registry, named after it.
fn sources(workspace: &Path) -> Result<BTreeSet<PathBuf>> {
    let metadata = output(&mut Runner::cargo(&["metadata", "--format-version", "1"])?)?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let manifests = metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    Ok(manifests
        .iter()
        .filter_map(|package| Path::new(package.get("manifest_path")?.as_str()?).parent()?.parent())
        .filter(|directory| !directory.starts_with(workspace))
        .map(Path::to_path_buf)
        .collect())
}

/// Without it the linker's message, a page of objects, says only `cannot find -lc`.
fn require_static_libc(compiler: &str, platform: Platform) -> Result<()> {
    let found = output(Command::new(compiler).arg("-print-file-name=libc.a"))
        .with_context(|| format!("compiling for linux/{} needs {compiler}", platform.architecture()))?;
    if Path::new(found.trim()).is_file() {
        return Ok(());
    }
    bail!(
        "{compiler} has no libc.a for a static executable: install Debian's libc6-dev (for linux/arm64 elsewhere: gcc-aarch64-linux-gnu, \
         libc6-dev-arm64-cross), or Fedora's glibc-static"
    )
}

/// TOML, whose basic strings are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    Value::from(texts).to_string()
}

#[cfg(all(test, target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_static_and_names_no_directory_of_this_machine() {
        let target = Target::shipped(Platform::host().unwrap()).unwrap();
        let command = target.cargo(&["build"], &["--workspace"]).unwrap();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        assert_eq!(arguments.first().unwrap(), "build");
        assert_eq!(arguments.last().unwrap(), "--workspace");
        let flags = arguments.iter().find(|argument| argument.contains(".rustflags=")).unwrap();
        assert!(flags.contains("+crt-static"), "{flags}");
        for (what, name) in [(environment::workspace_root().unwrap(), WORKSPACE), ("/".into(), REGISTRY)] {
            assert!(
                flags.contains(&format!("={}", what.display())) && flags.contains(&format!("={name}\"")),
                "{flags}"
            );
        }
        let native = Target::native().unwrap();
        let tested = native.configuration.iter().find(|setting| setting.contains(".rustflags=")).unwrap();
        assert!(tested.contains("+crt-static") && !tested.contains("remap"), "{tested}");
        assert!(command.get_envs().any(|(name, value)| name == "RUSTFLAGS" && value.is_none()));
        assert!(target.directory("debug").unwrap().ends_with(format!("{}/debug", target.triple.unwrap())));
    }
}
