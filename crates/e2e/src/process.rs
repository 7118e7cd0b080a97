//! Child processes that die with us, their logs and signals.

use crate::environment;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

type Order = (Command, Sender<io::Result<Child>>);

/// The thread that starts every child: the kernel ties a child to the thread that started it, and a test's thread ends too early.
static STARTER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (sender, orders) = channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in orders {
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(sender)
});

/// A command of `program` that the kernel kills when this process ends.
pub fn tied(program: &Path) -> Result<Command> {
    let mut command = Command::new(environment::xtask()?);
    command.args(["tied", "--parent", &std::process::id().to_string(), "--farewell", "kill", "--"]).arg(program);
    Ok(command)
}

/// Starts a command on the thread that lives as long as the process.
pub fn spawn(command: Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (answer, started) = channel();
    STARTER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .ok()
        .context("the thread that starts processes is gone")?;
    started
        .recv()
        .context("the thread that starts processes is gone")?
        .with_context(|| format!("cannot start {program}"))
}

/// A process with its log; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a [`tied`] command whose output is appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().with_context(|| format!("cannot write {}", log.display()))?;
        let errors = file.try_clone().context("cannot share the log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Ok(Self { child: spawn(command)?, log: log.to_path_buf() })
    }

    /// What the kernel says of its memory: what is resident now, and the most that ever was, in KiB (`proc_pid_status(5)`, Linux).
    pub fn memory(&self) -> Result<(u64, u64)> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let value = |key: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{path}: no {key}"))?;
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{path}: {key}{line}"))
        };
        Ok((value("VmRSS:")?, value("VmHWM:")?))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask for a process")
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        // Both fail only if it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .context("cannot start kill")?;
        if status.success() { Ok(()) } else { bail!("SIG{name} cannot be sent to process {}", self.child.id()) }
    }

    /// Waits for its end.
    pub async fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("it did not end within {} s; its log ends with:\n{}", limit.as_secs(), self.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of its log, without the line per request.
    pub fn tail(&self) -> String {
        let log = self.log();
        let told: Vec<&str> = log.lines().filter(|line| !line.contains(r#""message":"answered""#)).collect();
        tail(&told.join("\n"), 25)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).copied().collect::<Vec<_>>().join("\n")
}
