//! The walkthroughs of the documents as shell scripts, run with a home, a path and a scratch folder of their own.

use crate::environment;
use crate::folder::Folder;
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Runs `crates/e2e/<name>` against a manager. The kubeconfig becomes `~/.kube/config`; a token, if any, is added to each request by `~/.curlrc`.
///
/// Only two things of the documents' text are replaced: their `/tmp`, so that two runs do not share it, and their `http://localhost:18080`.
pub async fn run(name: &str, manager: &str, kubeconfig: &str, token: Option<&str>, admin: &str) -> Result<String> {
    let folder = Folder::new("script")?;
    let home = folder.file("home");
    fs::create_dir_all(home.join(".kube")).context("cannot make a home")?;
    fs::write(home.join(".kube/config"), kubeconfig).context("cannot write the kubeconfig")?;
    if let Some(token) = token {
        fs::write(home.join(".curlrc"), format!("header = \"Authorization: Bearer {token}\"\n"))
            .context("cannot write .curlrc")?;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let scratch = folder.path().display().to_string();
    let script = folder.file("script.sh");
    let text = text.replace("/tmp/", &format!("{scratch}/")).replace("http://localhost:18080", manager);
    fs::write(&script, text).context("cannot write the script")?;
    let output = Command::new("bash")
        .arg(&script)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", environment::path()?)
        .env("HOME", &home)
        .env("MGR", manager)
        .env("ADMIN", admin)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(4), output)
        .await
        .with_context(|| format!("{name} did not end within four minutes"))?
        .context("cannot run bash")?;
    let shown = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(shown)
    } else {
        bail!("{name} failed ({}):\n{}", output.status, process::tail(&shown, 60))
    }
}
