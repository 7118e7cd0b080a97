//! Many tenants brought to one cluster, against a raw apply of the same objects; status on its way back; and what another cluster notices of it,
//! of a cluster that is down and of one in a storm. No operator runs: its part, namespaces and status, is played, so that the figures are the
//! manager's.

use crate::figures::{Times, line, mib, ms};
use crate::home::Kind;
use anyhow::{Context, Result, bail};
use clap::Args;
use e2e::api::Api;
use e2e::api_server::{ApiServer, GROUP, path_of};
use e2e::control_plane::ControlPlane;
use e2e::faults::{FaultProxy, Faults};
use e2e::forest::{Forest, Shape};
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::proxy::Proxy;
use e2e::scenario::{self, phase, through};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Writes at once of the raw apply: as many as the manager's at most.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_mins(20);
/// Statuses whose way back is measured.
const SAMPLES: usize = 200;
/// Tenants whose way to the other cluster is measured in each weather.
const TRIPS: usize = 30;

/// Arguments.
#[derive(Args)]
pub(crate) struct Options {
    /// Tenants.
    #[arg(long, default_value_t = 1000)]
    tenants: usize,
    /// Projects of a tenant.
    #[arg(long, default_value_t = 5)]
    projects: usize,
    /// Apps of a project.
    #[arg(long, default_value_t = 2)]
    apps: usize,
    /// The manager's database.
    #[arg(long, value_enum, default_value = "postgres")]
    database: Kind,
}

struct Bench {
    shape: Shape,
    kubeop: Kubeop,
    api: Api,
    /// The cluster all is brought to, and the line to it.
    server: ApiServer,
    line: Proxy,
    cluster: String,
    /// Where the same is applied raw, and where the others are.
    other: ApiServer,
    near: String,
    stormy: String,
    storm: FaultProxy,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let planes = ControlPlane::start_many(3).await?;
    let [a, b, c] = &planes[..] else { bail!("three control planes were asked for") };
    let mut setup = Setup::new("manager").with("RUST_LOG", "warn,kubeop=info");
    let database = match options.database {
        Kind::Sqlite => None,
        Kind::Postgres => Some(Database::create().await?),
    };
    if let Some(database) = &database {
        setup = setup.with("KUBEOP_DB_URL", &database.url);
    }
    let kubeop = setup.start().await?;
    let api = kubeop.api(None)?;
    let line = Proxy::start(a.port()?).await?;
    let storm = FaultProxy::start(&c.kubeconfig_text()?).await?;
    let kubeconfig = through(&a.kubeconfig_text()?, a.port()?, line.port())?;
    let mut bench = Bench {
        shape: Shape { tenants: options.tenants, projects: options.projects, apps: options.apps },
        server: ApiServer::new(&a.kubeconfig_text()?)?,
        other: ApiServer::new(&b.kubeconfig_text()?)?,
        cluster: register(&api, "far", &kubeconfig).await?,
        near: register(&api, "near", &b.kubeconfig_text()?).await?,
        stormy: register(&api, "stormy", storm.kubeconfig()).await?,
        storm,
        line,
        kubeop,
        api,
    };
    let kind = options.database.as_str();
    println!(
        "\n{} tenants x {} projects x {} apps, manager on {kind}",
        options.tenants, options.projects, options.apps
    );
    bench.measure().await.with_context(|| bench.kubeop.tail())?;
    drop(bench);
    match database {
        Some(database) => database.drop_it().await,
        None => Ok(()),
    }
}

async fn register(api: &Api, name: &str, kubeconfig: &str) -> Result<String> {
    let body = json!({"name": name, "kubeconfig": kubeconfig, "autoBootstrap": true});
    let cluster = api.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    phase(api, &format!("/v1/clusters/{cluster}"), "Ready").await?;
    Ok(cluster)
}

impl Bench {
    async fn measure(&mut self) -> Result<()> {
        line("another cluster's tenant on its way, all calm", self.trips().await?);
        // Tenants and projects, then their apps: made while the line is cut, so that what is timed is the way to the cluster alone.
        self.cut().await?;
        let mut forest = Forest::plant(&self.api, &self.cluster, "scale", self.shape).await?;
        line("another cluster's tenant while the first is down", self.trips().await?);
        let (projects, tenants) = (forest.projects.len(), forest.tenants.len());
        let first = self.push(&[("tenants", tenants), ("projects", projects)]).await?;
        eprintln!("{} tenants and projects arrived after {first:?}", tenants + projects);
        let housed = self.house(&self.server).await?;
        eprintln!("{housed} namespaces made and reported");
        self.cut().await?;
        forest.grow(&self.api, self.shape).await?;
        let second = self.push(&[("apps", forest.apps.len())]).await?;
        eprintln!("{} apps arrived after {second:?}", forest.apps.len());
        let (now, most) = self.kubeop.process().memory()?;
        let pushed = first + second;

        let (count, raw) = self.raw().await?;
        line(
            &format!("{count} objects brought to a cluster"),
            format!(
                "{:.2} x raw apply: {:.1} s against {:.1} s",
                pushed.as_secs_f64() / raw.as_secs_f64(),
                pushed.as_secs_f64(),
                raw.as_secs_f64()
            ),
        );
        line("the manager's memory afterwards, and at most", format!("{}, {}", mib(now), mib(most)));
        line("status, from its write to the API", self.statuses().await?);
        self.weather().await?;
        let (now, most) = self.kubeop.process().memory()?;
        line("the manager's memory in the end, and at most", format!("{}, {}", mib(now), mib(most)));
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        self.line.cut();
        phase(&self.api, &format!("/v1/clusters/{}", self.cluster), "Unreachable").await.map(|_| ())
    }

    /// Mends the line; how long it takes from then on until the cluster holds so many of each kind.
    async fn push(&self, kinds: &[(&str, usize)]) -> Result<Duration> {
        self.line.mend();
        let begun = Instant::now();
        // A changed cluster is tried at once, whatever pause its worker is in.
        let label = json!({"labels": {"tried": format!("at-{}", kinds.len())}});
        self.api.call("PATCH", &format!("/v1/clusters/{}", self.cluster), Some(&label)).await?.expect(200)?;
        for (kind, wanted) in kinds {
            while self.count(kind).await? < *wanted {
                anyhow::ensure!(begun.elapsed() < PATIENCE, "{kind} did not arrive");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(begun.elapsed())
    }

    /// How many there are, by a list of one and the rest's count.
    async fn count(&self, kind: &str) -> Result<usize> {
        let page = self.server.get(&format!("{GROUP}/{kind}?limit=1")).await?;
        let shown = page["items"].as_array().map_or(0, Vec::len);
        let rest = page["metadata"]["remainingItemCount"].as_u64().unwrap_or_default();
        Ok(shown + usize::try_from(rest)?)
    }

    /// The operator's part: namespaces, and a report on each project.
    async fn house(&self, server: &ApiServer) -> Result<usize> {
        let projects = server.list(&format!("{GROUP}/projects")).await?;
        server
            .each(&projects, async |project| {
                server.post("/api/v1/namespaces", &namespace(&project["spec"]["namespace"])).await?;
                server.report(project).await
            })
            .await?;
        Ok(projects.len())
    }

    /// Applies the same objects to the other cluster, as fast as it takes them; how many, and how long it took.
    async fn raw(&self) -> Result<(usize, Duration)> {
        let mut waves = Vec::new();
        for kinds in [&["tenants", "projects"][..], &["apps"]] {
            let mut objects = Vec::new();
            for kind in kinds {
                objects.extend(self.server.list(&format!("{GROUP}/{kind}")).await?.into_iter().filter_map(bare));
            }
            waves.push(objects);
        }
        let spaces: BTreeSet<String> = waves
            .iter()
            .flatten()
            .filter_map(|object| object["metadata"]["namespace"].as_str().map(ToOwned::to_owned))
            .collect();
        self.other
            .each(spaces, async |name| {
                self.other.post("/api/v1/namespaces", &namespace(&name.into())).await.map(|_| ())
            })
            .await?;
        let count = waves.iter().map(Vec::len).sum();
        let mut took = Duration::ZERO;
        for wave in &waves {
            let begun = Instant::now();
            futures::stream::iter(wave.iter().map(|object| async move {
                let path = path_of(object)?;
                let list = path.rsplit_once('/').map_or(path.as_str(), |(list, _)| list);
                self.other.post(list, object).await.map(|_| ())
            }))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
            took += begun.elapsed();
        }
        Ok((count, took))
    }

    /// From the write of a status on the cluster until the API shows it.
    async fn statuses(&self) -> Result<Times> {
        let apps = self.server.list(&format!("{GROUP}/apps")).await?;
        let mut times = Vec::new();
        for (n, app) in apps.iter().step_by((apps.len() / SAMPLES).max(1)).take(SAMPLES).enumerate() {
            let id = app["metadata"]["labels"]["app.kubeop.io/app-id"].as_str().context("an app without id")?;
            let message = format!("sample {n}");
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Progressing", "message": message, "lastTransitionTime": "2026-03-01T00:00:00Z"}]}});
            self.server.merge(&format!("{}/status", path_of(app)?), &status).await?;
            let begun = Instant::now();
            while !self.api.get(&format!("/v1/apps/{id}")).await?.text.contains(&message) {
                anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "the status of an app is not mirrored");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times.push(begun.elapsed());
        }
        Ok(Times::new(times))
    }

    /// From a tenant's creation for the near cluster until it is there.
    async fn trips(&self) -> Result<Times> {
        let mut times = Vec::new();
        for _ in 0..TRIPS {
            let begun = Instant::now();
            let id = scenario::tenant(&self.api, &self.near, &scenario::unique("trip")).await?;
            while self.api.get(&format!("/v1/tenants/{id}")).await?.json["status"]["synced"] != true {
                anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "the near cluster is not served");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times.push(begun.elapsed());
        }
        Ok(Times::new(times))
    }

    /// A third cluster with work and a storm: nothing goes through at first, then two of five requests.
    async fn weather(&self) -> Result<()> {
        let shape = Shape { tenants: 100, projects: 5, apps: 0 };
        self.storm.set(Faults { too_many: 500, broken: 500, ..Faults::default() });
        Forest::plant(&self.api, &self.stormy, "storm", shape).await?;
        line("another cluster's tenant while one refuses everything", self.trips().await?);
        self.storm.set(Faults { too_many: 200, broken: 200, conflict: 200, ..Faults::default() });
        let begun = Instant::now();
        line("another cluster's tenant while one refuses most", self.trips().await?);
        let stormy = |page: &Value| {
            page.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|one| one["status"]["synced"] == true))
        };
        let path = format!("/v1/projects?limit=1000&cluster_id={}", self.stormy);
        while !stormy(&self.api.get(&path).await?.json) {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the storm was not ridden out");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let tally = self.storm.tally();
        let most = tally.most.load(Ordering::Relaxed);
        line("600 objects through that storm", format!("{}, at most {most} requests at once", ms(begun.elapsed())));
        Ok(())
    }
}

fn namespace(name: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// An object as it was applied.
fn bare(mut object: Value) -> Option<Value> {
    object.as_object_mut()?.remove("status");
    let meta = object.get_mut("metadata")?.as_object_mut()?;
    meta.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    Some(object)
}
