//! `deploy/compose` as Docker Compose's own loader resolves it, and the manager with exactly that environment over a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::control_plane::ControlPlane;
use e2e::environment::{kubeop, repository};
use e2e::folder::Folder;
use e2e::go;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::proxy::Proxy;
use e2e::scenario;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

/// A copy of the folder, which a test may change as a user would.
struct Copy(Folder);

impl Copy {
    fn new() -> Result<Self> {
        let folder = Folder::new("compose")?;
        for name in ["compose.yaml", ".env.example"] {
            let from = repository().join("deploy/compose").join(name);
            fs::copy(&from, folder.file(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(Self(folder))
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.0.file(name)).with_context(|| name.to_owned())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.0.file(name), text).with_context(|| name.to_owned())
    }

    /// What Compose makes of it, in a shell with these variables.
    async fn resolve(&self, shell: &[&str]) -> Result<Resolved> {
        let folder = self.0.path().display().to_string();
        let told = go::stdout(&go::folder("compose"), &[&["run", ".", &folder], shell].concat()).await?;
        Ok(Resolved(serde_json::from_str(&told).context("what the loader printed")?))
    }
}

/// `project`: what `docker compose config` shows; `variables`: those in `${...}`.
#[derive(Debug, PartialEq)]
struct Resolved(Value);

impl Resolved {
    fn service(&self, name: &str) -> &Value {
        &self.0["project"]["services"][name]
    }

    /// The environment of a service; what has no value is not set in the container.
    fn environment(&self, service: &str) -> Result<BTreeMap<&str, &str>> {
        let all = self.service(service)["environment"].as_object().context("environment")?;
        Ok(all.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect())
    }

    /// What the service's health check runs in its container.
    fn healthcheck(&self, service: &str) -> Result<Vec<&str>> {
        let test = self.service(service)["healthcheck"]["test"].as_array().context("a health check")?;
        let words: Vec<&str> = test.iter().filter_map(Value::as_str).collect();
        let (how, command) = words.split_first().context("an empty health check")?;
        ensure!(*how == "CMD", "{service}: no shell is needed: {words:?}");
        Ok(command.to_vec())
    }
}

/// The lines of the example that set a variable, those that are commented out too.
fn explained(example: &str) -> Vec<(&str, &str)> {
    let lines = example.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    lines.filter(|(name, _)| !name.contains(' ')).collect()
}

#[tokio::test]
async fn is_confined_and_every_variable_is_explained() -> Result<()> {
    let copy = Copy::new()?;
    let resolved = copy.resolve(&[]).await?;
    let project = &resolved.0["project"];
    let services = project["services"].as_object().context("services")?;
    assert_eq!(services.keys().collect::<Vec<_>>(), ["manager", "postgres"]);
    let mut used: BTreeSet<&str> =
        resolved.0["variables"].as_object().context("variables")?.keys().map(String::as_str).collect();
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service.get("privileged").is_none() && service.get("network_mode").is_none(), "{name}");
        resolved.healthcheck(name)?;
        for mount in service["volumes"].as_array().into_iter().flatten() {
            assert_eq!(mount["type"], "volume", "{name}: nothing of the machine is mounted");
        }
        let environment = service["environment"].as_object().context("environment")?;
        used.extend(environment.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.as_str()));
    }
    let ports =
        json!([{"mode": "ingress", "host_ip": "127.0.0.1", "target": 8080, "published": "18080", "protocol": "tcp"}]);
    assert_eq!(resolved.service("manager")["ports"], ports, "an open API is published on loopback alone");
    assert!(resolved.service("postgres").get("ports").is_none(), "the database is not published");
    assert_eq!(resolved.service("manager")["extra_hosts"], json!(["host.docker.internal=host-gateway"]));

    let example = copy.read(".env.example")?;
    let explained: BTreeSet<&str> = explained(&example).into_iter().map(|(name, _)| name).collect();
    assert_eq!(explained, used, ".env.example and compose.yaml name different variables");
    Ok(())
}

/// What nobody built or pushed is in no cluster's reach: clusters get the very image that runs here, unless it has another name there.
#[tokio::test]
async fn clusters_get_the_image_that_runs_here() -> Result<()> {
    let copy = Copy::new()?;
    let own = format!("ghcr.io/kubeop/kubeop:{}", env!("CARGO_PKG_VERSION"));
    for (shell, image, pulled) in [
        (&[][..], own.as_str(), own.as_str()),
        (&["KUBEOP_IMAGE=example.com/kubeop:1"], "example.com/kubeop:1", "example.com/kubeop:1"),
        (&["KUBEOP_OPERATOR_IMAGE=example.com/kubeop:2"], &own, "example.com/kubeop:2"),
    ] {
        let resolved = copy.resolve(shell).await?;
        assert_eq!(resolved.service("manager")["image"], image, "{shell:?}");
        assert_eq!(resolved.environment("manager")?["KUBEOP_OPERATOR_IMAGE"], pulled, "{shell:?}");
    }
    Ok(())
}

/// The example as `.env` changes nothing; with every line in force, each value arrives where it is meant to.
#[tokio::test]
async fn the_example_holds_the_defaults_and_every_line_of_it_works() -> Result<()> {
    let copy = Copy::new()?;
    let (bare, example) = (copy.resolve(&[]).await?, copy.read(".env.example")?);
    copy.write(".env", &example)?;
    assert_eq!(copy.resolve(&[]).await?, bare, "cp .env.example .env changes what runs");

    let all: Vec<(&str, String)> =
        explained(&example).into_iter().enumerate().map(|(at, (name, _))| (name, format!("{}", 20000 + at))).collect();
    let lines: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    copy.write(".env", &lines.join("\n"))?;
    let resolved = copy.resolve(&[]).await?;
    let (manager, postgres) = (resolved.environment("manager")?, resolved.environment("postgres")?);
    for (name, value) in &all {
        let found = match *name {
            "KUBEOP_IMAGE" => resolved.service("manager")["image"] == **value,
            "POSTGRES_IMAGE" => resolved.service("postgres")["image"] == **value,
            "KUBEOP_PORT" => resolved.service("manager")["ports"][0]["published"] == **value,
            "POSTGRES_PASSWORD" => postgres[name] == value && manager["KUBEOP_DB_URL"].contains(&format!(":{value}@")),
            _ => manager.get(name) == Some(&value.as_str()),
        };
        assert!(found, "{name}={value} is in .env and not where it belongs:\n{}", resolved.0);
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_are_refused() -> Result<()> {
    for (right, wrong, parts) in [
        // The schema.
        ("    read_only: true", "    readonly: true", &["services.manager.readonly", "schema"][..]),
        ("      retries: 5", "      retries: five", &["services.manager.healthcheck.retries"]),
        ("    cap_drop: [ALL]", "    cap_drop: ALL", &["services.manager.cap_drop", "array"]),
        // What refers to nothing.
        ("[\"manager-data:/", "[\"other-data:/", &["undefined volume other-data"]),
        ("      postgres: {condition", "      database: {condition", &["undefined service \"database\""]),
        // Variables.
        ("${KUBEOP_PORT:-18080}", "${KUBEOP_PORT:-18080", &["invalid interpolation", "services.manager.ports"]),
        ("${KUBEOP_LOG:-info}", "${KUBEOP_LOG}", &["\"KUBEOP_LOG\" variable is not set"]),
    ] {
        let copy = Copy::new()?;
        let text = copy.read("compose.yaml")?;
        ensure!(text.contains(right), "{right:?} is not in compose.yaml");
        copy.write("compose.yaml", &text.replacen(right, wrong, 1))?;
        let told = copy.resolve(&[]).await.map_or_else(|error| format!("{error:#}"), |taken| taken.0.to_string());
        let refused = told.contains("compose: ") && parts.iter().all(|part| told.contains(part));
        ensure!(refused, "{wrong:?}: {parts:?} was expected, got {told}");
    }
    Ok(())
}

/// A manager with the environment of its container. What differs here is where things are: the port, the data folder, the database, the gateway.
async fn manager(resolved: &Resolved, database: &Database) -> Result<Kubeop> {
    let mut setup = Setup::plain("manager");
    for (name, value) in resolved.environment("manager")? {
        setup = match name {
            "KUBEOP_DATA_DIR" => setup,
            "KUBEOP_HTTP_ADDR" => setup.with(name, &value.replace("8080", "0")),
            "KUBEOP_DB_URL" => {
                let password = resolved.environment("postgres")?["POSTGRES_PASSWORD"];
                let expected = format!("postgres://kubeop:{password}@postgres:5432/kubeop?sslmode=disable");
                ensure!(value == expected, "{value}");
                setup.with(name, &database.url)
            }
            "KUBEOP_HOST_GATEWAY" => setup.with(name, "127.0.0.2"),
            _ => setup.with(name, value),
        };
    }
    setup.start().await
}

/// Runs the health check as the container does: with the manager's environment, but for the port.
fn healthcheck(resolved: &Resolved, port: &str) -> Result<Output> {
    let command = resolved.healthcheck("manager")?;
    let (program, arguments) = command.split_first().context("an empty health check")?;
    ensure!(*program == "kubeop", "the image holds nothing but kubeop: {command:?}");
    let mut environment = resolved.environment("manager")?;
    let address = environment["KUBEOP_HTTP_ADDR"].replace("8080", port);
    environment.insert("KUBEOP_HTTP_ADDR", &address);
    Command::new(kubeop()?).args(arguments).env_clear().envs(environment).output().context("cannot start kubeop")
}

/// Healthy while it runs, and not when it is gone.
fn stop(mut manager: Kubeop, resolved: &Resolved) -> Result<()> {
    let base = manager.api(None)?.base().to_owned();
    let port = base.rsplit(':').next().unwrap_or_default();
    let healthy = healthcheck(resolved, port)?;
    ensure!(healthy.status.success(), "the health check of a healthy manager: {healthy:?}");
    manager.kill();
    let gone = healthcheck(resolved, port)?;
    let told = String::from_utf8_lossy(&gone.stderr);
    ensure!(!gone.status.success() && told.contains("does not answer"), "the health check of nobody: {gone:?}");
    Ok(())
}

/// The first steps of the walkthrough, with a kubeconfig as kind writes it: a server on loopback, which from in here is only behind the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_works_with_exactly_that_environment() -> Result<()> {
    let resolved = Copy::new()?.resolve(&[]).await?;
    let (plane, database) = tokio::join!(ControlPlane::start(), Database::create());
    let (plane, database) = (plane?, database?);
    let gateway = Proxy::start_at(Ipv4Addr::new(127, 0, 0, 2), plane.port()?).await?;
    let manager = manager(&resolved, &database).await?;
    let api = manager.api(None)?;

    let kubeconfig = scenario::through(&plane.kubeconfig_text()?, plane.port()?, gateway.port())?;
    let cluster = scenario::register(&api, "kind-kubeop", &kubeconfig).await?;
    let shown = api.get(&format!("/v1/clusters/{cluster}")).await?.expect(200)?;
    ensure!(
        shown.text_at("/server")? == format!("https://127.0.0.1:{}", gateway.port()),
        "tenants keep their address: {}",
        shown.text
    );
    let status = api.get(&format!("/v1/clusters/{cluster}/status")).await?.expect(200)?;
    ensure!(status.json["reachable"] == true && status.json["webhookCABundle"].is_boolean(), "{}", status.text);
    let kubectl = plane.kubectl()?;
    ensure!(kubectl.exists("crd apps.platform.kubeop.io").await?, "bootstrap did not reach the cluster");

    let tenant = scenario::tenant(&api, &cluster, "acme").await?;
    let project = scenario::project(&api, &tenant, "web").await?;
    ensure!(project.text_at("/namespace")? == "kubeop-acme-web", "{}", project.text);
    let policy = json!({
        "imageAllowlist": ["docker.io", "ghcr.io"], "egressBaseline": ["10.0.0.0/8", "172.16.0.0/12"],
        "quotaMax": {"requestsCPU": "4", "requestsMemory": "8Gi"},
    });
    api.put("/v1/platform/policy", &policy).await?.expect(200)?;
    let synced = e2e::wait::until("the project on the cluster", scenario::PATIENCE, async || {
        Ok(e2e::wait::Seen::when(kubectl.exists("project acme.web").await?, (), "not there"))
    });
    synced.await.with_context(|| manager.tail())?;
    stop(manager, &resolved)?;
    database.drop_it().await
}

/// Every line of the example in force, with what it asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_takes_every_variable_of_the_example() -> Result<()> {
    let (copy, database) = (Copy::new()?, Database::create().await?);
    let key = |byte: u8| BASE64_STANDARD.encode([byte; 32]);
    let mut lines = Vec::new();
    for (name, value) in explained(&copy.read(".env.example")?) {
        let value = match name {
            "KUBEOP_OPERATOR_IMAGE" => "example.com/kubeop:1".to_owned(),
            "KUBEOP_JWT_SIGNING_KEY" => key(1),
            "KUBEOP_KMS_MASTER_KEY" => key(2),
            "KUBEOP_KMS_MASTER_KEY_PREVIOUS" => key(3),
            "KUBEOP_JWT_SIGNING_KEY_PREVIOUS" => key(4),
            "KUBEOP_HOOK_URL" | "KUBEOP_CLUSTER_READY_HOOK" => "https://127.0.0.1:1/".to_owned(),
            "KUBEOP_HOOK_SECRET" | "KUBEOP_CLUSTER_READY_HOOK_SECRET" => "a secret of the hooks, 32 bytes.".to_owned(),
            _ => value.to_owned(),
        };
        ensure!(!value.is_empty(), "{name}: what does the example ask for?");
        lines.push(format!("{name}={value}"));
    }
    copy.write(".env", &lines.join("\n"))?;
    let resolved = copy.resolve(&[]).await?;
    let manager = manager(&resolved, &database).await?;
    for name in ["jwt-signing.key", "master.key"] {
        ensure!(!manager.data().join(name).exists(), "{name} was made although one is given");
    }
    stop(manager, &resolved)?;
    database.drop_it().await
}
