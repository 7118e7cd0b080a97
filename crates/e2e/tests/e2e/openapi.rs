//! The OpenAPI document in the hands of a stock generator: the client it makes talks to a real manager.

use anyhow::{Context, Result, bail, ensure};
use e2e::environment;
use e2e::folder::Folder;
use e2e::kubeop::Setup;
use std::path::Path;
use std::process::Command;

/// Runs Go on the module's copy.
fn go(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("go");
    command.args(arguments).current_dir(folder).envs([
        ("GOWORK", "off"),
        ("GOFLAGS", "-mod=readonly"),
        ("CGO_ENABLED", "0"),
    ]);
    let output = command.output().context("cannot start go")?;
    if !output.status.success() {
        bail!("go {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_reads_writes_and_meets_refusals() -> Result<()> {
    let kubeop = Setup::new("manager").with_auth().start().await?;
    let document = kubeop.api(None)?.get("/openapi.json").await?.expect(200)?.text;
    let folder = Folder::new("openapi")?;
    for name in ["go.mod", "go.sum", "main.go"] {
        let from = environment::repository().join("testcluster/openapi").join(name);
        std::fs::copy(&from, folder.file(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    std::fs::write(folder.file("kubeop.json"), document).context("cannot write the document")?;
    std::fs::create_dir(folder.file("client")).context("cannot make a folder")?;
    let (home, base, token) =
        (folder.path().to_path_buf(), kubeop.api(None)?.base().to_owned(), kubeop.token("admin", None)?);
    let said = tokio::task::spawn_blocking(move || {
        let generate = ["-generate", "types,client", "-package", "client", "-o", "client/client.go", "kubeop.json"];
        go(&home, &[&["tool", "oapi-codegen"], &generate[..]].concat())?;
        go(&home, &["run", ".", &base, &token])
    })
    .await??;
    ensure!(said.contains("the generated client works"), "{said}");
    Ok(())
}
