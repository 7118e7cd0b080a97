//! A control plane of a test's own: `xtask cluster run`, tied to us by its standard input.

use crate::kubectl::Kubectl;
use crate::supervised::Supervised;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Each takes 350 MB and a good part of a core while it starts.
static SLOTS: Semaphore = Semaphore::const_new(4);
/// A start takes five to ten seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// A running control plane; dropping it stops it.
#[derive(Debug)]
pub struct ControlPlane {
    // Before the slot, which is free once it has ended: fields are dropped in this order.
    supervised: Supervised,
    _slot: SemaphorePermit<'static>,
}

impl ControlPlane {
    /// Starts one and waits until it is usable.
    pub async fn start() -> Result<Self> {
        let mut all = Self::start_many(1).await?;
        all.pop().context("a control plane was asked for")
    }

    /// Starts several at the same time.
    pub async fn start_many(count: u32) -> Result<Vec<Self>> {
        // All slots at once: two tests that each wait for their second would wait for ever.
        let mut slots = SLOTS.acquire_many(count).await.context("no slot for a control plane")?;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Self::launch(slots.split(1).context("a slot per control plane")?)?);
        }
        for plane in &mut all {
            let line = plane.supervised.line(PATIENCE)?;
            ensure!(line == "ready", "the control plane said {line:?} instead of \"ready\"");
        }
        Ok(all)
    }

    fn launch(slot: SemaphorePermit<'static>) -> Result<Self> {
        let supervised = Supervised::start("the control plane", |folder, command| {
            command.args(["cluster", "run", "--kubeconfig"]).arg(folder.file("kubeconfig"));
        })?;
        Ok(Self { supervised, _slot: slot })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.supervised.folder().file("kubeconfig")
    }

    /// The text of that kubeconfig.
    pub fn kubeconfig_text(&self) -> Result<String> {
        fs::read_to_string(self.kubeconfig()).context("cannot read the control plane's kubeconfig")
    }

    /// The port of the API server on loopback.
    pub fn port(&self) -> Result<u16> {
        let text = self.kubeconfig_text()?;
        let server = text.lines().find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:"));
        server.context("the kubeconfig names no loopback server")?.parse().context("the server's port")
    }

    /// A kubeconfig of a ServiceAccount, with a token for an hour.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl()?.stdout(&format!("-n {namespace} create token {name} --duration=1h")).await?;
        let text = self.kubeconfig_text()?;
        let kept: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("client-")).collect();
        let text = kept.join("\n").replace("  user:\n", &format!("  user:\n    token: {}\n", token.trim()));
        let path = self.kubeconfig().with_file_name(format!("{namespace}-{name}.kubeconfig"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// kubectl as administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.kubeconfig())
    }
}
