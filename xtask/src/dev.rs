//! `cargo xtask dev`: kubeOP as a developer uses it, on a test cluster of its own or on the cluster of a kubeconfig, until Ctrl-C.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    cluster::binaries::{self, Binaries},
    environment, http, progress,
    step::Runner,
    supervise::{
        held::Held,
        lifeline::{self, Event},
        workdir,
    },
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:18080";

/// Arguments of `dev`.
#[derive(Args)]
pub(crate) struct Options {
    /// Use this cluster instead of a local test cluster (default: `KUBECONFIG`, if set).
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Where kubeOP keeps its database and keys (default: with the test cluster, thrown away with it; `.kubeop/dev` for a cluster of your own).
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// A cluster to work on.
struct Target {
    kubeconfig: PathBuf,
    data: PathBuf,
    /// The test cluster's kubectl, for those who have none.
    kubectl: Option<PathBuf>,
    held: Option<Held>,
}

/// Runs until Ctrl-C or until something ends by itself.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let address = address()?;
    check_free(address)?;
    let given = given_kubeconfig(options)?;
    // Before signals are ours: what takes long the first time can be ended like any command.
    let binaries = if given.is_none() { Some(binaries::resolve()?) } else { None };
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    runner.run("build", &Runner::cargo(&["build", "--package", "kubeop"])?)?;
    let mut target = match (given, binaries) {
        (Some(kubeconfig), _) => own_cluster(options, kubeconfig)?,
        (None, Some(binaries)) => test_cluster(options, &runner, address, binaries)?,
        (None, None) => bail!("there is no cluster to use"),
    };

    progress::heading("kubeop dev");
    let command = kubeop(&target, address, &["dev"])?;
    let mut kubeop_dev = Held::guard(&runner.executable, &command)?;
    wait_ready(&mut kubeop_dev, &signals, address)?;
    println!("{}", welcome(&target, address)?);

    let outcome = watch(&mut kubeop_dev, &mut target, &signals);
    progress::heading("stopping");
    // kubeOP first: it takes its webhook configuration out of the cluster.
    kubeop_dev.stop();
    drop(target);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// `KUBEOP_HTTP_ADDR`, in which an absent host means all addresses.
fn address() -> Result<SocketAddr> {
    let text = environment::variable("KUBEOP_HTTP_ADDR").unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    parse_address(&text)
}

fn parse_address(text: &str) -> Result<SocketAddr> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replace("localhost:", "127.0.0.1:"),
    };
    full.parse().with_context(|| format!("KUBEOP_HTTP_ADDR is {text:?}: use host:port, like {DEFAULT_ADDRESS}"))
}

fn check_free(address: SocketAddr) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "port {} is taken: stop what listens on it (another `cargo xtask dev`?), or choose another: KUBEOP_HTTP_ADDR=127.0.0.1:{} cargo xtask dev",
                address.port(),
                address.port().wrapping_add(1)
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// The first file that the option or `KUBECONFIG` names.
fn given_kubeconfig(options: &Options) -> Result<Option<PathBuf>> {
    let (path, origin) = match (&options.kubeconfig, environment::variable("KUBECONFIG")) {
        (Some(path), _) => (path.clone(), "--kubeconfig"),
        (None, Some(list)) => match list.split(':').find(|path| !path.is_empty()) {
            Some(path) => (PathBuf::from(path), "KUBECONFIG"),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    if !path.is_file() {
        bail!(
            "{origin} names {}, which does not exist: correct it, or leave it out and a local test cluster is started",
            path.display()
        );
    }
    std::path::absolute(&path).map(Some).with_context(|| format!("cannot make {} absolute", path.display()))
}

fn own_cluster(options: &Options, kubeconfig: PathBuf) -> Result<Target> {
    let data = match &options.data_dir {
        Some(directory) => directory.clone(),
        None => environment::workspace_root()?.join(".kubeop/dev"),
    };
    Ok(Target { kubeconfig, data, kubectl: None, held: None })
}

fn test_cluster(options: &Options, runner: &Runner<'_>, address: SocketAddr, binaries: Binaries) -> Result<Target> {
    progress::heading("test cluster");
    let start = Instant::now();
    let name = format!("dev-{}", address.port());
    let mut held = Held::start(&runner.executable, &["cluster", "run", "--name", &name])?;
    held.line(runner.signals, Duration::from_mins(5)).context("the test cluster")?;
    progress::note(&format!("up: {}", progress::since(start)));
    let directory = workdir::base()?.join(format!("cluster-{name}"));
    let data = options.data_dir.clone().unwrap_or_else(|| directory.join("kubeop"));
    Ok(Target { kubeconfig: directory.join("kubeconfig"), data, kubectl: Some(binaries.kubectl), held: Some(held) })
}

/// A `kubeop` command with the environment of this run.
fn kubeop(target: &Target, address: SocketAddr, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(environment::target_directory()?.join("kubeop"));
    command
        .args(arguments)
        .env("KUBECONFIG", &target.kubeconfig)
        .env("KUBEOP_DATA_DIR", std::path::absolute(&target.data).context("cannot make the data directory absolute")?)
        .env("KUBEOP_HTTP_ADDR", address.to_string());
    for (name, default) in [("KUBEOP_REQUIRE_AUTH", "false"), ("KUBEOP_DEV_INSECURE", "true")] {
        command.env(name, environment::variable(name).unwrap_or_else(|| default.to_owned()));
    }
    Ok(command)
}

fn wait_ready(kubeop: &mut Held, signals: &Receiver<Event>, address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let local = loopback(address);
    loop {
        if let Some(status) = kubeop.ended()? {
            bail!("kubeop dev ended while starting ({status}); the reason is above");
        }
        if http::request(local, "GET", "/readyz", None).is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        if signals.try_recv().is_ok() {
            bail!("interrupted");
        }
        if start.elapsed() > Duration::from_mins(1) {
            bail!("kubeop dev did not answer 200 on http://{local}/readyz within 60 s");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// How we reach what listens on `address`.
fn loopback(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}

/// What to do now, ready to be pasted into another terminal.
fn welcome(target: &Target, address: SocketAddr) -> Result<String> {
    let url = format!("http://{}", loopback(address)).replace("//127.0.0.1:", "//localhost:");
    let with_auth = environment::variable("KUBEOP_REQUIRE_AUTH").is_some_and(|value| value != "false" && value != "0");
    let token = if with_auth { Some(admin_token(target, address)?) } else { None };
    Ok(welcome_text(&url, target, token.as_deref(), environment::program("kubectl").is_none()))
}

fn welcome_text(url: &str, target: &Target, token: Option<&str>, without_kubectl: bool) -> String {
    let (auth, header) = match token {
        None => ("off (KUBEOP_REQUIRE_AUTH=true turns it on)".to_owned(), ""),
        Some(token) => (
            format!("on; an administrator's token:\n\n  export TOKEN={token}\n"),
            " -H \"Authorization: Bearer $TOKEN\"",
        ),
    };
    let kubeconfig = target.kubeconfig.display();
    // A kubeconfig of a person's own may refer to other files; the API wants their content.
    let (kind, content) = match &target.kubectl {
        Some(_) => ("a local test cluster, gone when this command ends", "base64 < \"$KUBECONFIG\" | tr -d '\\n'"),
        None => ("yours", "kubectl config view --raw --flatten --minify | base64 | tr -d '\\n'"),
    };
    let kubectl = match &target.kubectl {
        Some(path) if without_kubectl => format!("\n  alias kubectl={}", path.display()),
        _ => String::new(),
    };
    format!(
        "
kubeOP is ready: {url}   (OpenAPI: {url}/openapi.json)
  authentication  {auth}
  cluster         {kind}: {kubeconfig}
  data            {data}

Try, in another terminal:

  export MGR={url} KUBECONFIG={kubeconfig}; export KCFG_B64=$({content}){kubectl}

  curl -sS -X POST \"$MGR/v1/clusters\"{header} -H 'Content-Type: application/json' -d '{{\"name\":\"local\",\"kubeconfig\":\"'\"$KCFG_B64\"'\",\"autoBootstrap\":true,\"installAdmission\":true,\"withMocks\":true}}' | tee /tmp/cluster.json

  curl -sS{header} \"$MGR/v1/clusters/$(jq -r .id /tmp/cluster.json)/status\"

Ctrl-C stops everything this command started.",
        data = target.data.display()
    )
}

fn admin_token(target: &Target, address: SocketAddr) -> Result<String> {
    let output = kubeop(target, address, &["token", "--role", "admin"])?
        .env("KUBEOP_KEY_DIR", &target.data)
        .output()
        .context("cannot run kubeop token")?;
    if !output.status.success() {
        bail!("kubeop token failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn watch(kubeop: &mut Held, target: &mut Target, signals: &Receiver<Event>) -> Result<()> {
    loop {
        if signals.recv_timeout(Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        if let Some(status) = kubeop.ended()? {
            bail!("kubeop dev ended by itself ({status})");
        }
        if let Some(held) = target.held.as_mut()
            && let Some(status) = held.ended()?
        {
            bail!("the test cluster ended by itself ({status})");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_host_is_all_addresses() {
        for (text, full) in [
            (":8080", "0.0.0.0:8080"),
            ("localhost:1", "127.0.0.1:1"),
            ("127.0.0.1:18080", "127.0.0.1:18080"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), full);
        }
        assert!(parse_address("8080").unwrap_err().to_string().contains("KUBEOP_HTTP_ADDR is \"8080\""));
    }

    #[test]
    fn a_taken_port_is_a_sentence() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let text = check_free(listener.local_addr().unwrap()).unwrap_err().to_string();
        assert!(text.contains("is taken") && text.contains("KUBEOP_HTTP_ADDR="), "{text}");
    }

    #[test]
    fn the_welcome_can_be_pasted() {
        let target =
            Target { kubeconfig: "/k".into(), data: "/d".into(), kubectl: Some("/b/kubectl".into()), held: None };
        let text = welcome_text("http://localhost:18080", &target, None, true);
        assert!(
            text.contains("export MGR=http://localhost:18080 KUBECONFIG=/k; ")
                && text.contains("alias kubectl=/b/kubectl"),
            "{text}"
        );
        assert!(!text.contains("Bearer"));
        assert!(
            welcome_text("http://localhost:18080", &target, Some("t"), false)
                .contains("-H \"Authorization: Bearer $TOKEN\"")
        );
    }
}
