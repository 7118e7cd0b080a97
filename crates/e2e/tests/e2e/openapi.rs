//! The OpenAPI document in the hands of a stock generator: the client it makes talks to a real manager.

use anyhow::{Context, Result, ensure};
use e2e::folder::Folder;
use e2e::go;
use e2e::kubeop::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_reads_writes_and_meets_refusals() -> Result<()> {
    let kubeop = Setup::new("manager").with_auth().start().await?;
    let document = kubeop.api(None)?.get("/openapi.json").await?.expect(200)?.text;
    let folder = Folder::new("openapi")?;
    for name in ["go.mod", "go.sum", "main.go"] {
        let from = go::folder("openapi").join(name);
        std::fs::copy(&from, folder.file(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    std::fs::write(folder.file("kubeop.json"), document).context("cannot write the document")?;
    std::fs::create_dir(folder.file("client")).context("cannot make a folder")?;
    let generate = ["-generate", "types,client", "-package", "client", "-o", "client/client.go", "kubeop.json"];
    go::stdout(folder.path(), &[&["tool", "oapi-codegen"], &generate[..]].concat()).await?;
    let (base, token) = (kubeop.api(None)?.base().to_owned(), kubeop.token("admin", None)?);
    let said = go::stdout(folder.path(), &["run", ".", &base, &token]).await?;
    ensure!(said.contains("the generated client works"), "{said}");
    Ok(())
}
