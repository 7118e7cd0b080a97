//! A kubeOP process to measure: started, waited for, asked for its memory, ended.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    environment, http,
    supervise::{
        children, ports, process,
        tied::{self, Farewell},
    },
};

/// A running `kubeop`; dropping it ends it.
pub(super) struct Daemon {
    child: Child,
    pub(super) address: SocketAddr,
    /// From the start of the process to the first 200 of `/readyz`.
    pub(super) ready_after: Duration,
}

impl Daemon {
    /// Starts `kubeop <role>` without authentication on a free port and waits until it is ready.
    pub(super) fn start(kubeop: &Path, role: &str, data: &Path, kubeconfig: Option<&Path>) -> Result<Self> {
        let [port] = ports::free(1)?.try_into().map_err(|_| anyhow::anyhow!("no port"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log_path = data.with_extension("log");
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command: Command = tied::command(&environment::own_executable()?, Farewell::Term, kubeop);
        command
            .arg(role)
            .env("KUBEOP_DATA_DIR", data)
            .env("KUBEOP_HTTP_ADDR", address.to_string())
            .env("KUBEOP_REQUIRE_AUTH", "false")
            .env("KUBEOP_DEV_INSECURE", "true")
            .env("KUBEOP_RATE_LIMIT", "0")
            .env_remove("KUBEOP_DB_URL")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", kubeop.display()))?;
        let mut daemon = Self { child, address, ready_after: Duration::ZERO };
        loop {
            if http::request(address, "GET", "/readyz", None).is_ok_and(|answer| answer.status == 200) {
                daemon.ready_after = start.elapsed();
                return Ok(daemon);
            }
            if let Some(status) = daemon.child.try_wait().context("cannot wait for kubeop")? {
                bail!(
                    "kubeop {role} ended while starting ({status}); the end of its log:\n{}",
                    children::tail(&log_path, 15)
                );
            }
            if start.elapsed() > Duration::from_mins(1) {
                bail!(
                    "kubeop {role} was not ready within a minute; the end of its log:\n{}",
                    children::tail(&log_path, 15)
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Resident memory in KiB, as `ps` tells it.
    pub(super) fn memory(&self) -> Option<u32> {
        let output = Command::new("ps").args(["-o", "rss=", "-p", &self.child.id().to_string()]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::signal(self.child.id(), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(12) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Both fail only if the process is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
