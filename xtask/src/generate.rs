//! `cargo xtask generate`: writes the committed files that the code determines (CRDs, OpenAPI), or checks that they are current. kubeOP itself knows how.

use anyhow::Result;
use clap::Args;

use crate::{environment, step::Runner, supervise::lifeline};

/// Arguments of `generate`.
#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// Only fail if a file is not current.
    #[arg(long)]
    check: bool,
}

/// Runs `kubeop generate`.
pub(crate) fn run(options: Options) -> Result<()> {
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    let mut command = Runner::cargo(&["run", "--quiet", "--package", "kubeop", "--", "generate"])?;
    if options.check {
        command.arg("--check");
    }
    runner.run(if options.check { "generated files are current" } else { "generate" }, &command)
}
