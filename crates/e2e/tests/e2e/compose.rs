//! `deploy/compose` as it says: its structure, and the manager with exactly its environment over a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::environment::{kubeop, repository};
use e2e::kubeop::Setup;
use e2e::postgres::Database;
use e2e::proxy::Proxy;
use e2e::scenario;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

fn compose() -> Result<Value> {
    let text = fs::read_to_string(repository().join("deploy/compose/compose.yaml")).context("compose.yaml")?;
    serde_saphyr::from_str(&text).context("compose.yaml")
}

/// The innermost `${NAME:-default}` of a text: where it is, its name, its default.
fn variable(text: &str) -> Option<(std::ops::Range<usize>, &str, &str)> {
    let end = text.find('}')?;
    let start = text.get(..end)?.rfind("${")?;
    let (name, default) = text.get(start + 2..end)?.split_once(":-")?;
    Some((start..end + 1, name, default))
}

/// The text with every default in place, and the names of the variables.
fn expanded(text: &str) -> (String, BTreeSet<String>) {
    let (mut text, mut names) = (text.to_owned(), BTreeSet::new());
    while let Some((place, name, default)) = variable(&text) {
        names.insert(name.to_owned());
        let default = default.to_owned();
        text.replace_range(place, &default);
    }
    (text, names)
}

fn filled(text: &str) -> String {
    expanded(text).0
}

/// Every string in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn is_confined_and_every_variable_is_explained() -> Result<()> {
    let compose = compose()?;
    let services = compose["services"].as_object().context("services")?;
    assert_eq!(services.keys().collect::<Vec<_>>(), ["manager", "postgres"]);
    let mut used = BTreeSet::new();
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service["healthcheck"]["test"][0], "CMD", "{name}: no shell is needed");
        assert!(service.get("privileged").is_none() && service.get("network_mode").is_none(), "{name}");
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let volume = mount.as_str().and_then(|text| text.split(':').next()).context("a volume")?;
            assert!(compose["volumes"].as_object().is_some_and(|all| all.contains_key(volume)), "{volume}");
        }
        used.extend(texts(service).iter().flat_map(|text| expanded(text).1));
        let environment = service["environment"].as_object().context("environment")?;
        used.extend(environment.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone()));
    }
    // What nobody built or pushed is in no cluster's reach: clusters get the very image that runs here, unless it has another name there.
    let (manager, image) = (&services["manager"], format!("ghcr.io/kubeop/kubeop:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(manager["image"], format!("${{KUBEOP_IMAGE:-{image}}}"));
    let operator = &manager["environment"]["KUBEOP_OPERATOR_IMAGE"];
    assert_eq!(*operator, format!("${{KUBEOP_OPERATOR_IMAGE:-${{KUBEOP_IMAGE:-{image}}}}}"));
    let ports: Vec<String> = services["manager"]["ports"]
        .as_array()
        .context("ports")?
        .iter()
        .map(|p| filled(p.as_str().unwrap_or_default()))
        .collect();
    assert_eq!(ports, ["127.0.0.1:18080:8080"], "an open API is published on loopback alone");
    assert!(services["postgres"].get("ports").is_none(), "the database is not published");
    assert_eq!(services["manager"]["extra_hosts"], json!(["host.docker.internal:host-gateway"]));

    let example = fs::read_to_string(repository().join("deploy/compose/.env.example")).context(".env.example")?;
    let lines = example.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    let explained: BTreeSet<String> =
        lines.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(' ')).collect();
    assert_eq!(explained, used, ".env.example and compose.yaml name different variables");
    Ok(())
}

/// The first steps of the walkthrough, with a kubeconfig as kind writes it: a server on loopback, which from in here is only behind the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_works_with_exactly_that_environment() -> Result<()> {
    let compose = compose()?;
    let (plane, database) = tokio::join!(ControlPlane::start(), Database::create());
    let (plane, database) = (plane?, database?);
    let gateway = Proxy::start_at(Ipv4Addr::new(127, 0, 0, 2), plane.port()?).await?;
    let mut setup = Setup::plain("manager");
    for (name, value) in compose["services"]["manager"]["environment"].as_object().context("environment")? {
        let Some(value) = value.as_str() else { continue };
        let value = filled(value);
        // What differs here is where things are: ports, folder and host names.
        setup = match name.as_str() {
            "KUBEOP_DATA_DIR" => setup,
            "KUBEOP_HTTP_ADDR" => setup.with(name, &value.replace("8080", "0")),
            "KUBEOP_DB_URL" => {
                ensure!(value == "postgres://kubeop:kubeop@postgres:5432/kubeop?sslmode=disable", "{value}");
                setup.with(name, &database.url)
            }
            "KUBEOP_HOST_GATEWAY" => setup.with(name, "127.0.0.2"),
            _ => setup.with(name, &value),
        };
    }
    let manager = setup.start().await?;
    let api = manager.api(None)?;
    let healthcheck = compose["services"]["manager"]["healthcheck"]["test"].as_array().context("a health check")?;
    ensure!(healthcheck.iter().skip(1).eq([&json!("kubeop"), &json!("healthcheck")]), "{healthcheck:?}");
    let healthy = Command::new(kubeop()?).arg("healthcheck").arg(format!("{}/readyz", api.base())).status()?;
    ensure!(healthy.success(), "the health check says {healthy}");

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
    drop(manager);
    database.drop_it().await
}
