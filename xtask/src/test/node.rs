//! The suite on a real node: its cluster, kubeOP's image in the cluster's registry, helm, and the tests, one after the other.
//!
//! Invariant: on CI as root it is never left out; elsewhere a machine that can have no node is told why, in one line.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

use super::{Options, Services, first_line, previous::Release};
use crate::{
    cluster::node::{
        programs,
        requirements::{self, Reason},
    },
    environment,
    image::{self, Profile, Request, Variant, target::Target},
    oci::layout::Layout,
    progress,
    step::{Beside, Runner},
    supervise::{held::Held, workdir},
};

/// What the tests take for the next version: the same image.
const NEXT: &str = "-next";
/// The image of the release before.
const PREVIOUS: &str = "-previous";

/// Whether this machine can have a node; if not, says so. What is missing is installed on CI.
pub(super) fn possible() -> Result<bool> {
    match requirements::install_if(false)? {
        Ok(()) => Ok(true),
        Err(reason) if environment::is_ci() && reason != Reason::NotRoot => {
            bail!("the tests on a node cannot run, and CI must run them: {reason}")
        }
        Err(reason) => {
            progress::heading(&format!("tests on a node: skipped: {reason}"));
            Ok(false)
        }
    }
}

/// Builds what takes long the first time.
pub(super) fn prepare() -> Result<()> {
    programs::Programs::resolve().map(drop)
}

/// Starts `cargo xtask test --node` with the services of this run.
pub(super) fn beside(runner: &Runner<'_>, services: &Services<'_>) -> Result<Beside> {
    let mut command = Command::new(&runner.executable);
    command.args(["test", "--node"]).current_dir(environment::workspace_root()?);
    runner.beside("tests on a node", &services.with_environment(command), &image::target::root()?.join("log"))
}

/// Starts the cluster, pushes the image, runs the tests.
pub(super) fn run(
    runner: &Runner<'_>,
    options: &Options,
    target: &Target,
    services: &Services<'_>,
    previous: Option<&Release>,
) -> Result<()> {
    progress::heading("cluster with a node");
    let start = Instant::now();
    let name = format!("node-{}", std::process::id());
    let mut cluster =
        Held::start(&runner.executable, &["cluster", "run", "--name", &name, "--node", "--wait", "metrics"])?;
    let layout = packed(runner, services.programs.kubeop, Variant::Plain, "image")?;
    let again = packed(runner, services.programs.kubeop, Variant::Plain, "image/again")?;
    if layout.top.digest != again.top.digest {
        bail!("the same executable gave two images: {} and {}", layout.top.digest, again.top.digest);
    }
    let git = packed(runner, services.programs.kubeop, Variant::Git, "image")?;
    let before =
        previous.map(|release| packed(runner, &release.kubeop(), Variant::Plain, "image/previous")).transpose()?;
    first_line(&mut cluster, runner.signals, "the cluster with a node")?;
    progress::note(&format!("it is up: {}", progress::since(start)));
    if options.filter.is_none() {
        // What the tests rest on: that policies are enforced, say.
        let mut check = Command::new(&runner.executable);
        check.args(["cluster", "check", "--name", &name]);
        runner.run("the node itself", &check)?;
    }

    let registry = programs::registry().parse().context("the registry's address")?;
    image::push(&layout, registry)?;
    image::push(&git, registry)?;
    let mut next = layout.clone();
    next.name.tag.push_str(NEXT);
    image::push(&next, registry)?;

    let facts = workdir::base()?.join(format!("cluster-{name}")).join("node.json");
    let mut command = target.cargo(&["test"], &["--workspace", "--test", "node"])?;
    command.args(&options.filter).args(["--", "--ignored", "--test-threads=1"]).args(&options.extra);
    command
        .env("KUBEOP_TEST_NODE", facts)
        .env("KUBEOP_TEST_NODE_NAME", &name)
        .env("KUBEOP_TEST_IMAGE", layout.name.to_string());
    if let (Some(release), Some(mut layout)) = (previous, before) {
        layout.name.tag.push_str(PREVIOUS);
        image::push(&layout, registry)?;
        command
            .env("KUBEOP_TEST_PREVIOUS_BIN", release.kubeop())
            .env("KUBEOP_TEST_PREVIOUS_CHART", release.chart())
            .env("KUBEOP_TEST_PREVIOUS_IMAGE", layout.name.to_string());
    }
    runner.run("tests on a node", &services.with_environment(command))
}

/// The image of an executable, made in a folder of the target directory.
fn packed(runner: &Runner<'_>, kubeop: &Path, variant: Variant, folder: &str) -> Result<Layout> {
    let output = image::target::root()?.join(folder);
    let request =
        Request { profile: Profile::Dev, variant, platforms: &[image::host()?], binary: Some(kubeop), output: &output };
    image::build(runner, &request)
}
