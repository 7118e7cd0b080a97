//! What the test command tells the tests (`cargo xtask test`). The only module that reads the environment.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// A variable of the contract.
fn required(name: &str) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment what they run against")]
    let value = std::env::var(name);
    value.ok().filter(|text| !text.is_empty()).with_context(|| format!("{name} is not set: run cargo xtask test"))
}

/// The `kubeop` executable.
pub fn kubeop() -> Result<PathBuf> {
    required("KUBEOP_TEST_BIN").map(PathBuf::from)
}

/// Stock kubectl of the test cluster's version.
pub fn kubectl() -> Result<PathBuf> {
    required("KUBEOP_TEST_KUBECTL").map(PathBuf::from)
}

/// Stock helm: named by the environment, else the one in `PATH`; none if there is none, which in CI is an error.
pub fn helm() -> Result<Option<PathBuf>> {
    if let Ok(path) = required("KUBEOP_TEST_HELM") {
        return Ok(Some(PathBuf::from(path)));
    }
    let found =
        required("PATH")?.split(':').map(|folder| PathBuf::from(folder).join("helm")).find(|path| path.is_file());
    match required("CI").as_deref() {
        Ok("true" | "1") if found.is_none() => bail!("KUBEOP_TEST_HELM is not set and there is no helm in PATH"),
        _ => Ok(found),
    }
}

/// The controllers of cert-manager (`testcluster/cert-manager`), if the run built them; in CI it must have.
pub fn cert_manager() -> Result<Option<PathBuf>> {
    match (required("KUBEOP_TEST_CERT_MANAGER"), required("CI").as_deref()) {
        (Ok(path), _) => Ok(Some(PathBuf::from(path))),
        (Err(error), Ok("true" | "1")) => Err(error),
        _ => Ok(None),
    }
}

/// The project's tool, which runs control planes.
pub fn xtask() -> Result<PathBuf> {
    required("KUBEOP_TEST_XTASK").map(PathBuf::from)
}

/// The PostgreSQL server in which tests make their databases.
pub fn postgres() -> Result<String> {
    required("KUBEOP_TEST_POSTGRES_URL")
}

/// The directory of PostgreSQL's own tools; none if the machine has none, which in CI is an error.
pub fn postgres_tools() -> Result<Option<PathBuf>> {
    match (required("KUBEOP_TEST_POSTGRES_TOOLS"), required("CI").as_deref()) {
        (Ok(path), _) => Ok(Some(PathBuf::from(path))),
        (Err(missing), Ok("true" | "1")) => Err(missing),
        (Err(_), _) => Ok(None),
    }
}

/// What there is to know of the cluster with a real node (`node.json`).
pub fn node() -> Result<PathBuf> {
    required("KUBEOP_TEST_NODE").map(PathBuf::from)
}

/// The name of that cluster, for `xtask cluster`.
pub fn node_name() -> Result<String> {
    required("KUBEOP_TEST_NODE_NAME")
}

/// kubeOP's image in that cluster's registry.
pub fn node_image() -> Result<String> {
    required("KUBEOP_TEST_IMAGE")
}

/// The release before this one.
pub struct Previous {
    /// Its executable.
    pub kubeop: PathBuf,
    /// Its image, in the registry of the cluster with a real node.
    pub image: String,
    /// Its chart.
    pub chart: PathBuf,
}

/// The release before this one, unless the repository's history here is too short for it.
pub fn previous() -> Result<Option<Previous>> {
    let Ok(kubeop) = required("KUBEOP_TEST_PREVIOUS_BIN") else { return Ok(None) };
    let (image, chart) = (required("KUBEOP_TEST_PREVIOUS_IMAGE")?, required("KUBEOP_TEST_PREVIOUS_CHART")?);
    Ok(Some(Previous { kubeop: PathBuf::from(kubeop), image, chart: PathBuf::from(chart) }))
}

/// The search path, with the directory of the test's kubectl first.
pub fn path() -> Result<String> {
    let kubectl = kubectl()?;
    let directory = kubectl.parent().context("KUBEOP_TEST_KUBECTL is in no directory")?;
    Ok(format!("{}:{}", directory.display(), required("PATH")?))
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
