//! A control plane of a test's own: `xtask cluster run`, tied to us by its standard input.

use crate::folder::Folder;
use crate::kubectl::Kubectl;
use crate::{environment, process};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Each takes 350 MB and a good part of a core while it starts.
static SLOTS: Semaphore = Semaphore::const_new(4);
/// A start takes five to ten seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// A running control plane; dropping it stops it.
#[derive(Debug)]
pub struct ControlPlane {
    folder: Folder,
    child: Child,
    lifeline: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
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
            plane.expect_line("ready", PATIENCE)?;
        }
        Ok(all)
    }

    fn launch(slot: SemaphorePermit<'static>) -> Result<Self> {
        let folder = Folder::new("cluster")?;
        let errors = File::create(folder.file("xtask.log")).context("cannot write the control plane's log")?;
        let mut command = Command::new(environment::xtask()?);
        command
            .args(["cluster", "run", "--kubeconfig"])
            .arg(folder.file("kubeconfig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0);
        let mut child = process::spawn(command)?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take().context("the control plane has no output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { folder, child, lifeline, lines: Mutex::new(lines), _slot: slot })
    }

    fn expect_line(&mut self, expected: &str, limit: Duration) -> Result<()> {
        let received = tokio::task::block_in_place(|| {
            self.lines.get_mut().map_err(|_| RecvTimeoutError::Disconnected)?.recv_timeout(limit)
        });
        let log = || process::tail(&fs::read_to_string(self.folder.file("xtask.log")).unwrap_or_default(), 20);
        match received {
            Ok(line) if line == expected => Ok(()),
            Ok(line) => bail!("the control plane said {line:?} instead of {expected:?}:\n{}", log()),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the control plane did not say {expected:?} within {} s:\n{}", limit.as_secs(), log())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the control plane ended:\n{}", log()),
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.file("kubeconfig")
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
        let path = self.folder.file(&format!("{namespace}-{name}.kubeconfig"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// kubectl as administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.kubeconfig())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.lifeline = None;
        // It ends by itself; its slot is free once it has.
        let _ = self.child.wait();
    }
}
