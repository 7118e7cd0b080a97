//! Stock kubectl with a given kubeconfig.

use crate::environment;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_mins(1);

/// kubectl of one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a run of kubectl gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Whether it exited with 0.
    pub ok: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Kubectl {
    /// kubectl of this kubeconfig.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        Ok(Self { program: environment::kubectl()?, kubeconfig: kubeconfig.to_path_buf() })
    }

    /// kubectl of this text, kept in `path`.
    pub fn of_text(path: &Path, text: &str) -> Result<Self> {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Self::new(path)
    }

    /// Runs it with words separated by spaces, whatever comes of it.
    pub async fn run(&self, words: &str) -> Result<Ran> {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>(), None).await
    }

    /// Runs it with arguments and perhaps an input.
    pub async fn run_with(&self, arguments: &[&str], input: Option<&str>) -> Result<Ran> {
        let cache = self.kubeconfig.with_extension("cache");
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(cache)
            .arg("--request-timeout=20s")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        // kubectl may end without reading.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .with_context(|| format!("kubectl {arguments:?} did not end"))?
            .context("cannot wait for kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// A forward from a port of this host, chosen by kubectl, to one of a pod or Service (`-n NAMESPACE pod/NAME`); it lasts as long as the child.
    pub async fn port_forward(&self, target: &str, port: u16) -> Result<(Child, u16)> {
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("port-forward")
            .args(target.split_whitespace())
            .arg(format!(":{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        let output = child.stdout.take().context("kubectl has no output")?;
        let mut lines = BufReader::new(output).lines();
        let first =
            tokio::time::timeout(LIMIT, lines.next_line()).await.context("kubectl port-forward says nothing")??;
        // kubectl goes on talking, and must not be stopped by a pipe that nobody reads.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let local = first
            .as_deref()
            .and_then(|line| line.strip_prefix("Forwarding from 127.0.0.1:")?.split_whitespace().next()?.parse().ok());
        let local = local.with_context(|| format!("kubectl port-forward said {first:?}"))?;
        Ok((child, local))
    }

    /// What it prints; fails unless it exits with 0.
    pub async fn stdout(&self, words: &str) -> Result<String> {
        let ran = self.run(words).await?;
        if ran.ok { Ok(ran.stdout) } else { bail!("kubectl {words}: {}", ran.stderr.trim()) }
    }

    /// An object or a list as JSON.
    pub async fn json(&self, words: &str) -> Result<Value> {
        let text = self.stdout(&format!("{words} -o json")).await?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {words} printed no JSON"))
    }

    /// Whether an object is there.
    pub async fn exists(&self, words: &str) -> Result<bool> {
        let ran = self.run(&format!("get {words} -o name")).await?;
        if ran.ok {
            return Ok(true);
        }
        if ran.stderr.contains("NotFound") { Ok(false) } else { bail!("kubectl get {words}: {}", ran.stderr.trim()) }
    }

    /// Creates an object.
    pub async fn create(&self, object: &Value) -> Result<Ran> {
        self.run_with(&["create", "-f", "-"], Some(&object.to_string())).await
    }

    /// Fails unless it is forbidden.
    pub async fn expect_forbidden(&self, words: &str) -> Result<()> {
        let ran = self.run(words).await?;
        if !ran.ok && ran.stderr.contains("orbidden") {
            return Ok(());
        }
        bail!("kubectl {words}: forbidden was expected, got ok={} {} {}", ran.ok, ran.stdout.trim(), ran.stderr.trim())
    }
}
