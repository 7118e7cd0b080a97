//! Stock helm with the chart of this repository.

use crate::environment;
use crate::folder::Folder;
use crate::kubectl::Ran;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_mins(2);

/// helm of one kubeconfig, with caches of its own.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    home: Folder,
}

impl Helm {
    /// helm, if there is one; else says why a test is skipped.
    pub fn find(kubeconfig: Option<&Path>) -> Result<Option<Self>> {
        let Some(program) = environment::helm()? else {
            eprintln!("skipped: there is no helm (KUBEOP_TEST_HELM is not set, and PATH has none)");
            return Ok(None);
        };
        Ok(Some(Self { program, kubeconfig: kubeconfig.map(Path::to_path_buf), home: Folder::new("helm")? }))
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it with words separated by spaces, whatever comes of it.
    pub async fn run(&self, words: &str) -> Result<Ran> {
        let mut command = Command::new(&self.program);
        command
            .args(words.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .with_context(|| format!("helm {words} did not end"))?
            .context("cannot start helm")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// What it prints; fails unless it exits with 0.
    pub async fn stdout(&self, words: &str) -> Result<String> {
        let ran = self.run(words).await?;
        if ran.ok { Ok(ran.stdout) } else { bail!("helm {words}: {}{}", ran.stdout, ran.stderr.trim()) }
    }

    /// Fails unless it is refused with all these words.
    pub async fn expect_refusal(&self, words: &str, parts: &[&str]) -> Result<()> {
        let ran = self.run(words).await?;
        let told = format!("{}{}", ran.stdout, ran.stderr);
        if !ran.ok && parts.iter().all(|part| told.contains(part)) {
            return Ok(());
        }
        bail!("helm {words}: a refusal with {parts:?} was expected, got ok={} {told}", ran.ok)
    }
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    environment::repository().join("charts/kubeop")
}
