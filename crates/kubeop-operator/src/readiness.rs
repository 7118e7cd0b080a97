//! Whether this process does its part, for a readiness probe.
//!
//! Invariant: a leader is ready once its caches are filled; any other once the API server told it who leads.

use kubeop_cluster::lease::Standing;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Tells what is not ready; clones tell of the same process.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    standing: Arc<OnceLock<watch::Receiver<Standing>>>,
    working: Arc<AtomicBool>,
}

impl Readiness {
    /// Why the process is not ready, a sentence each; empty if it is.
    pub fn problems(&self) -> Vec<String> {
        let standing = self.standing.get().map_or(Standing::Unknown, |standing| *standing.borrow());
        let problem = match standing {
            Standing::Unknown => "operator: the API server was not heard yet",
            Standing::Leads if !self.working.load(Ordering::Relaxed) => "operator: its caches are not filled yet",
            Standing::Leads | Standing::Follows => return Vec::new(),
        };
        vec![problem.to_owned()]
    }

    pub(crate) fn follow(&self, standing: watch::Receiver<Standing>) {
        // A second run in one process follows its own election; the first one's receiver is closed then.
        let _ = self.standing.set(standing);
    }

    pub(crate) fn working(&self, works: bool) {
        self.working.store(works, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_works_before_it_is_ready_and_a_follower_is_ready_at_once() {
        let readiness = Readiness::default();
        assert_eq!(readiness.problems().len(), 1);
        let (tell, told) = watch::channel(Standing::Unknown);
        readiness.follow(told);
        assert_eq!(readiness.problems().len(), 1);
        tell.send_replace(Standing::Follows);
        assert!(readiness.problems().is_empty());
        tell.send_replace(Standing::Leads);
        assert!(readiness.problems()[0].contains("caches"));
        readiness.working(true);
        assert!(readiness.problems().is_empty());
    }
}
