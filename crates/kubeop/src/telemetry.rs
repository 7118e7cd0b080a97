//! Logs: text on a terminal, JSON elsewhere, always on stderr.
//!
//! Invariant: what is logged carries fields, and no secret, whatever filter is asked for.

use std::io::IsTerminal;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

const DEFAULT: &str = "info,kube_runtime=warn,hyper_util=warn,sqlx=warn";

/// Starts logging.
pub(crate) fn start(filter: Option<&str>) {
    let wanted = filter.unwrap_or(DEFAULT);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        eprintln!("kubeop: --log {wanted:?} is not a filter ({error}); using {DEFAULT}");
        EnvFilter::new(DEFAULT)
    });
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    // A second start (in tests) keeps the first.
    drop(tracing_subscriber::registry().with(lines.with_filter(filter_fn(tells_no_answer))).with(filter).try_init());
}

/// Whether a line is not of those in which kube's client prints an answer that it cannot read, as a whole: it may be a token's.
fn tells_no_answer(line: &Metadata<'_>) -> bool {
    let prints_answers = line.target().split("::").next() == Some("kube_client");
    !prints_answers || *line.level() == Level::ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// An answer to a request for a token that was cut off stood in the log, token and all.
    #[test]
    fn no_filter_has_the_client_print_the_answers_of_a_cluster() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_filter(filter_fn(tells_no_answer));
        let logged = tracing_subscriber::registry().with(layer).with(EnvFilter::new("trace,kube_client=trace"));
        tracing::subscriber::with_default(logged, || {
            tracing::warn!(target: "kube_client::client", "token hunter2");
            tracing::trace!(target: "kube_client", "token hunter2");
            tracing::error!(target: "kube_client::client::builder", "failed with status 500");
            tracing::warn!(target: "kube_clients", "another");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("hunter2") && text.contains("500") && text.contains("another"), "{text}");
    }
}
