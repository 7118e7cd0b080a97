//! Logs: text on a terminal, JSON elsewhere, always on stderr.
//!
//! Invariant: what is logged carries fields, and no secret.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

const DEFAULT: &str = "info,kube_runtime=warn,hyper_util=warn,sqlx=warn";

/// Starts logging.
pub(crate) fn start(filter: Option<&str>) {
    let wanted = filter.unwrap_or(DEFAULT);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        eprintln!("kubeop: --log {wanted:?} is not a filter ({error}); using {DEFAULT}");
        EnvFilter::new(DEFAULT)
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) keeps the first.
    let started = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    drop(started);
}
