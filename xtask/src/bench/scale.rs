//! Figures at scale: builds `bench` and `kubeop` together, brings a PostgreSQL, and runs the one against the other.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{build, built};
use crate::{
    cluster::binaries,
    environment, postgres, progress,
    step::Runner,
    supervise::{held::Held, lifeline},
};

/// Runs `bench <what> <arguments>`.
pub(super) fn run(release: bool, what: &str, arguments: &[String]) -> Result<()> {
    let binaries = binaries::resolve()?;
    let given = environment::variable("KUBEOP_TEST_POSTGRES_URL");
    if given.is_none() {
        postgres::prepare()?;
    }
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    runner.run("build", &build(&["kubeop", "bench"], release)?)?;

    progress::heading("PostgreSQL");
    let name = format!("bench-{}", std::process::id());
    // Held until the figures are there.
    let (url, _held) = if let Some(url) = given {
        (url, None)
    } else {
        let mut held = Held::start(&runner.executable, &["postgres", "run", "--name", &name])?;
        (held.line(&signals, Duration::from_mins(5)).context("PostgreSQL")?, Some(held))
    };
    let mut command = Command::new(built("bench", release)?);
    command
        .arg(what)
        .args(arguments)
        .env("KUBEOP_TEST_POSTGRES_URL", url)
        .env("KUBEOP_TEST_BIN", built("kubeop", release)?)
        .env("KUBEOP_TEST_KUBECTL", &binaries.kubectl)
        .env("KUBEOP_TEST_CLUSTER_BIN", &binaries.directory)
        .env("KUBEOP_TEST_XTASK", &runner.executable);
    runner.run(if release { "release build" } else { "debug build" }, &command)
}
