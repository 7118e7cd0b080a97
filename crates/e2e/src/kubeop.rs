//! `kubeop` processes: started on a free port, killed, started again on the same data.

use crate::api::Api;
use crate::environment;
use crate::folder::Folder;
use crate::process::{self, Process};
use crate::wait::{Seen, until};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a `kubeop` is started.
#[derive(Clone, Debug)]
pub struct Setup {
    role: &'static str,
    program: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A role with authentication off, unless it is switched on.
    pub fn new(role: &'static str) -> Self {
        let setup = Self::plain(role);
        match role {
            "dev" | "manager" => setup
                .with("KUBEOP_HTTP_ADDR", "127.0.0.1:0")
                .with("KUBEOP_REQUIRE_AUTH", "false")
                .with("KUBEOP_DEV_INSECURE", "true")
                .with("KUBEOP_RATE_LIMIT", "0"),
            _ => setup.with("KUBEOP_METRICS_ADDR", "127.0.0.1:0"),
        }
    }

    /// A role with nothing set.
    pub fn plain(role: &'static str) -> Self {
        Self { role, program: None, environment: Vec::new() }
    }

    /// Another release's executable.
    #[must_use]
    pub fn of(mut self, program: Option<PathBuf>) -> Self {
        self.program = program;
        self
    }

    /// `kubeop dev`.
    pub fn dev() -> Self {
        Self::new("dev")
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Requires tokens.
    #[must_use]
    pub fn with_auth(self) -> Self {
        self.with("KUBEOP_REQUIRE_AUTH", "true")
    }

    /// Starts it with a data directory of its own; returns when it is ready.
    pub async fn start(self) -> Result<Kubeop> {
        let mut kubeop = self.launch()?;
        kubeop.wait_ready().await?;
        Ok(kubeop)
    }

    /// Starts a role that serves no API.
    pub fn launch(self) -> Result<Kubeop> {
        let folder = Folder::new(self.role)?;
        let process = launch(&self, &folder)?;
        Ok(Kubeop { setup: self, process, folder, base: String::new() })
    }
}

/// A running `kubeop`; killed when dropped.
#[derive(Debug)]
pub struct Kubeop {
    setup: Setup,
    // Before the folder: fields are dropped in this order.
    process: Process,
    folder: Folder,
    base: String,
}

fn launch(setup: &Setup, folder: &Folder) -> Result<Process> {
    let program = setup.program.clone().map_or_else(environment::kubeop, Ok)?;
    let mut command = process::tied(&program)?;
    command
        .arg(setup.role)
        .env_clear()
        .env("PATH", environment::path()?)
        .env("HOME", folder.path())
        .env("RUST_BACKTRACE", "1");
    if matches!(setup.role, "dev" | "manager") {
        command.env("KUBEOP_DATA_DIR", folder.file("data"));
    }
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    Process::start(command, &folder.file("log"))
}

impl Kubeop {
    async fn wait_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(address) = self.last_address() {
                self.base = format!("http://{address}");
                break;
            }
            if let Some(status) = self.process.ended()? {
                bail!("kubeop {} ended while starting ({status}):\n{}", self.setup.role, self.process.tail());
            }
            if start.elapsed() > PATIENCE {
                bail!("kubeop {} served nothing within a minute:\n{}", self.setup.role, self.process.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let api = self.api(None)?;
        let ready = until("/readyz of a new process", PATIENCE, async || {
            let answer = api.get("/readyz").await?;
            Ok(Seen::when(answer.status == 200, (), answer.text))
        });
        ready.await.with_context(|| self.process.tail())
    }

    /// The address in the log since the last start.
    fn last_address(&self) -> Option<String> {
        self.process
            .log()
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .take_while(|line| line.get("test").is_none())
            .find(|line| line.get("message").and_then(Value::as_str) == Some("serving the API"))
            .and_then(|line| line.get("address").and_then(Value::as_str).map(ToOwned::to_owned))
    }

    /// The API, with a token or without.
    pub fn api(&self, token: Option<&str>) -> Result<Api> {
        Api::new(&self.base, token)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.file("data")
    }

    /// A file beside its data.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sets a variable of the next start.
    pub fn reconfigure(&mut self, name: &str, value: &str) {
        self.setup = self.setup.clone().with(name, value);
    }

    /// The executable of the next start; `None` is the one that is tested.
    pub fn replace(&mut self, program: Option<PathBuf>) {
        self.setup = self.setup.clone().of(program);
    }

    /// Starts it again on the same data, on another port.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        let log = self.folder.file("log");
        append(&log, "{\"test\":\"started again\"}\n")?;
        self.process = launch(&self.setup, &self.folder)?;
        self.wait_ready().await
    }

    /// A token signed with its own key: role `admin`, `tenant` or `project`.
    pub fn token(&self, role: &str, id: Option<&str>) -> Result<String> {
        let mut command = Command::new(environment::kubeop()?);
        command.args(["token", "--role", role]).arg("--key-dir").arg(self.data());
        if let Some(id) = id {
            command.args(["--id", id]);
        }
        let output = command.output().context("cannot start kubeop token")?;
        if !output.status.success() {
            bail!("kubeop token: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn append(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let file = std::fs::File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
