//! Reviews asked for without a pause, for as long as something happens to admission.

use crate::api_server::ApiServer;
use crate::scenario;
use crate::wait::{Seen, until};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How many are under way at every moment.
const AT_ONCE: usize = 50;
/// How long a policy may take to be in force on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
const RIGHT: &str = "docker.io/library/nginx:1.25";
const WRONG: &str = "registry.example.com/bad:1";

/// Pods asked for as dry-runs, in turn one that the policy allows and one that it does not.
pub struct Reviews {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<String>>>,
    since: Instant,
}

impl Reviews {
    /// Begins in a project's namespace, once the policy, which allows images of `docker.io` alone, is in force.
    pub async fn start(server: &ApiServer, namespace: &str) -> Result<Self> {
        let caller = Caller { server: server.clone(), namespace: namespace.to_owned() };
        caller.answered().await?;
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..AT_ONCE)
            .map(|_| {
                let (caller, stop, asked) = (caller.clone(), Arc::clone(&stop), Arc::clone(&asked));
                tokio::spawn(async move {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        for image in [RIGHT, WRONG] {
                            asked.fetch_add(1, Ordering::Relaxed);
                            failures.extend(caller.ask(image).await.err());
                        }
                    }
                    failures
                })
            })
            .collect();
        Ok(Self { stop, asked, callers, since: Instant::now() })
    }

    /// Waits until a review in the namespace is answered as the policy says.
    pub async fn answered(server: &ApiServer, namespace: &str) -> Result<()> {
        Caller { server: server.clone(), namespace: namespace.to_owned() }.answered().await
    }

    /// Ends; fails unless many were asked for and each was answered as the policy says.
    pub async fn all_answered(self, during: &str) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.since.elapsed();
        let mut failures = Vec::new();
        for caller in self.callers {
            failures.extend(caller.await.context("a caller failed")?);
        }
        let asked = self.asked.load(Ordering::Relaxed);
        println!("{asked} reviews during {during} of {took:?}: {} failed", failures.len());
        ensure!(asked > 500, "only {asked} reviews were asked for");
        ensure!(failures.is_empty(), "{} of {asked} reviews failed: {:?}", failures.len(), failures.first());
        Ok(())
    }
}

#[derive(Clone)]
struct Caller {
    server: ApiServer,
    namespace: String,
}

impl Caller {
    /// Waits until the policy is in force: everywhere, so more than one answer counts.
    async fn answered(&self) -> Result<()> {
        until("reviews are answered as the policy says", PATIENCE, async || {
            let told = futures::future::join_all((0..AT_ONCE).map(|_| self.ask(WRONG))).await;
            let failed = told.into_iter().find_map(Result::err);
            Ok(Seen::when(failed.is_none(), (), failed.unwrap_or_default()))
        })
        .await
    }

    /// Asks for a pod of this image; what was wrong with the answer, if so.
    async fn ask(&self, image: &str) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", self.namespace);
        let answer = self.server.post(&path, &scenario::pod("probe", &self.namespace, &[image])).await;
        match (image, answer) {
            (RIGHT, Ok(_)) => Ok(()),
            (RIGHT, Err(error)) => Err(format!("{error:#}")),
            (_, Ok(_)) => Err(format!("{image} was let through")),
            (_, Err(error)) => {
                let told = format!("{error:#}");
                if told.contains("403") && told.contains(WRONG) { Ok(()) } else { Err(told) }
            }
        }
    }
}
