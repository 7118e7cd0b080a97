//! `cluster up`, `down` and `status`: named instances that outlive the command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use rustix::process::Signal;

use super::{Named, binaries, node};
use crate::{
    environment, progress,
    supervise::{
        held::Held,
        lifeline, process,
        workdir::{self, Live},
    },
};

/// Starts a cluster that runs until [`down`]; one that runs already is only shown.
pub(crate) fn up(options: &Named) -> Result<ExitCode> {
    let name = &options.name.name;
    workdir::check_name(name)?;
    if let Some(found) = find(name)? {
        progress::note(&format!("the test cluster {name:?} is running already"));
        if options.node.wanted {
            // Fails if that one has no node.
            node::facts::read(&found.path)?;
        }
        show(name, &found.path.join("kubeconfig"));
        return Ok(ExitCode::SUCCESS);
    }
    if options.node.wanted {
        // Before what takes long.
        if let Err(reason) = node::requirements::install_if(options.node.install)? {
            return super::unavailable(&reason);
        }
        // What a dead one left must not count as one that runs.
        workdir::sweep()?;
        drop(node::Claim::take(name)?);
    }
    let binaries = binaries::resolve()?;
    if options.node.wanted {
        node::programs::Programs::resolve()?;
    }
    let signals = lifeline::signals()?;
    let start = Instant::now();
    let kubeconfig = options
        .kubeconfig
        .as_deref()
        .map(std::path::absolute)
        .transpose()
        .context("cannot make the kubeconfig's path absolute")?;
    let mut arguments: Vec<String> = ["cluster", "run", "--detached", "--name", name].map(str::to_owned).to_vec();
    arguments.extend(["--kube-api-qps".to_owned(), options.limits.kube_api_qps.to_string()]);
    arguments.extend(["--kube-api-burst".to_owned(), options.limits.kube_api_burst.to_string()]);
    if options.node.wanted {
        let until = options.node.wait.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        arguments.extend(["--node".to_owned(), format!("--wait={until}")]);
    }
    if let Some(path) = &kubeconfig {
        arguments.extend(["--kubeconfig".to_owned(), path.display().to_string()]);
    }
    let mut held = Held::start_detached(&environment::own_executable()?, &arguments)?;
    let outcome = held.line(&signals, Duration::from_mins(5)).with_context(|| format!("the test cluster {name:?}"));
    if let Err(error) = outcome {
        // A detached supervisor does not end with its lifeline.
        held.terminate();
        return Err(error);
    }
    held.release();
    progress::note(&format!(
        "the test cluster {name:?} is up: {} (kubectl: {})",
        progress::since(start),
        binaries.kubectl.display()
    ));
    let directory = workdir::base()?.join(format!("cluster-{name}"));
    if options.node.wanted {
        progress::note(&format!("what tests must know: {}", directory.join("node.json").display()));
    }
    show(name, &kubeconfig.unwrap_or_else(|| directory.join("kubeconfig")));
    Ok(ExitCode::SUCCESS)
}

/// The directory of a running cluster.
pub(crate) fn directory(name: &str) -> Result<PathBuf> {
    workdir::check_name(name)?;
    match find(name)? {
        Some(found) => Ok(found.path),
        None => bail!("no test cluster {name:?} is running (start one: cargo xtask cluster up)"),
    }
}

fn show(name: &str, kubeconfig: &Path) {
    println!("export KUBECONFIG={}", kubeconfig.display());
    let option = if name == "default" { String::new() } else { format!(" --name {name}") };
    progress::note(&format!("stop it with: cargo xtask cluster down{option}"));
}

/// Stops a cluster and waits until all of it is gone.
pub(crate) fn down(name: &str) -> Result<()> {
    workdir::check_name(name)?;
    let found = find(name)?;
    if let Some(found) = found {
        let Some(supervisor) = found.supervisor else {
            bail!("the test cluster {name:?} is just starting: try again");
        };
        process::signal(supervisor, Signal::TERM);
        if !workdir::wait_released(&found.path, Duration::from_secs(30))? {
            bail!(
                "the test cluster {name:?} does not stop: end its process {supervisor} with `kill -9 {supervisor}` and run this again"
            );
        }
        progress::note(&format!("the test cluster {name:?} is stopped"));
    } else {
        progress::note(&format!("no test cluster {name:?} is running"));
    }
    workdir::sweep()
}

/// One line for each running cluster.
pub(crate) fn status() -> Result<()> {
    workdir::sweep()?;
    let found = workdir::live("cluster")?;
    if found.is_empty() {
        println!("no test cluster is running (start one: cargo xtask cluster up)");
        return Ok(());
    }
    for live in found {
        let server = fs::read_to_string(live.path.join("server")).unwrap_or_else(|_| "starting".to_owned());
        let age = fs::metadata(live.path.join("lock"))
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        println!(
            "{}  {server}  up {}  KUBECONFIG={}  supervisor {}",
            live.name,
            age.map_or_else(|| "?".to_owned(), progress::elapsed),
            kubeconfig_of(&live).display(),
            live.supervisor.map_or_else(|| "?".to_owned(), |id| id.to_string())
        );
    }
    Ok(())
}

fn kubeconfig_of(live: &Live) -> PathBuf {
    live.path.join("kubeconfig")
}

fn find(name: &str) -> Result<Option<Live>> {
    Ok(workdir::live("cluster")?.into_iter().find(|live| live.name == name))
}
