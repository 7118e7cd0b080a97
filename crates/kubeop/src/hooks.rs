//! Options of webhooks to the outside: who is told of what happens.
//!
//! Invariant: a hook without a secret stops the start; a URL is never repeated, since it may hold a secret too.

use crate::keys::Given;
use anyhow::{Context, bail};
use clap::Args;
use kubeop_manager::events::hook::Target;
use secrecy::SecretString;
use std::path::PathBuf;

/// Who is told of what happens.
#[derive(Args, Clone)]
pub(crate) struct HookArgs {
    /// URL that is told of everything that happens, as CloudEvents.
    #[arg(long, env = "KUBEOP_HOOK_URL", hide_env_values = true)]
    pub(crate) hook_url: Option<String>,
    /// What is sent there is signed with: at least 16 bytes.
    #[arg(long, env = "KUBEOP_HOOK_SECRET", hide_env_values = true)]
    pub(crate) hook_secret: Option<SecretString>,
    /// A file with that secret.
    #[arg(long, env = "KUBEOP_HOOK_SECRET_FILE")]
    pub(crate) hook_secret_file: Option<PathBuf>,
    /// URL that is told of clusters that became ready, and of nothing else.
    #[arg(long, env = "KUBEOP_CLUSTER_READY_HOOK", hide_env_values = true)]
    pub(crate) cluster_ready_hook: Option<String>,
    /// What is sent there is signed with: at least 16 bytes.
    #[arg(long, env = "KUBEOP_CLUSTER_READY_HOOK_SECRET", hide_env_values = true)]
    pub(crate) cluster_ready_hook_secret: Option<SecretString>,
    /// A file with that secret.
    #[arg(long, env = "KUBEOP_CLUSTER_READY_HOOK_SECRET_FILE")]
    pub(crate) cluster_ready_hook_secret_file: Option<PathBuf>,
}

impl HookArgs {
    /// Who is told of everything.
    pub(crate) fn events(&self) -> anyhow::Result<Option<Target>> {
        let (text, file) = (self.hook_secret.as_ref(), self.hook_secret_file.as_ref());
        target("KUBEOP_HOOK_URL", self.hook_url.as_deref(), &Given { variable: "KUBEOP_HOOK_SECRET", text, file })
    }

    /// Who is told of clusters that became ready.
    pub(crate) fn cluster_ready(&self) -> anyhow::Result<Option<Target>> {
        let (text, file) = (self.cluster_ready_hook_secret.as_ref(), self.cluster_ready_hook_secret_file.as_ref());
        let secret = Given { variable: "KUBEOP_CLUSTER_READY_HOOK_SECRET", text, file };
        target("KUBEOP_CLUSTER_READY_HOOK", self.cluster_ready_hook.as_deref(), &secret)
    }
}

/// Reads a hook; an empty URL is none, so that a deployment can leave the variable in place.
fn target(variable: &str, url: Option<&str>, secret: &Given<'_>) -> anyhow::Result<Option<Target>> {
    let Some(url) = url.filter(|url| !url.trim().is_empty()) else { return Ok(None) };
    let Some(key) = secret.text()? else {
        bail!("{variable} is set and {} is not: events are sent signed", secret.variable)
    };
    let target = Target::parse(url, SecretString::from(key)).with_context(|| variable.to_owned())?;
    if target.is_open() {
        tracing::warn!(variable, "events are sent over plain HTTP: signed, but readable on the way");
    }
    Ok(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_needs_a_url_and_a_secret_and_names_the_variable_that_is_wrong() {
        let read = |url: Option<&str>, secret: Option<&str>| {
            let secret = secret.map(SecretString::from);
            let given = Given { variable: "KUBEOP_HOOK_SECRET", text: secret.as_ref(), file: None };
            target("KUBEOP_HOOK_URL", url, &given).map(|found| found.is_some()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read(None, None), Ok(false));
        assert_eq!(read(Some(" "), Some("x")), Ok(false));
        assert_eq!(read(Some("https://a/"), Some("0123456789abcdef\n")), Ok(true));
        assert!(read(Some("https://a/s3cret"), None).unwrap_err().contains("KUBEOP_HOOK_SECRET"));
        assert!(read(Some("https://a/"), Some("short")).unwrap_err().contains("at least 16"));
        let told = read(Some("gopher://a/s3cret"), Some("0123456789abcdef")).unwrap_err();
        assert!(told.contains("KUBEOP_HOOK_URL") && !told.contains("s3cret"), "{told}");
    }
}
