//! Brings one control plane up in its directory: certificates, kubeconfigs, programs, readiness.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Limits,
    binaries::Binaries,
    certificates::{self, Authority},
    flags::Setup,
    kubeconfig,
};
use crate::supervise::{
    children::{self, Children, Program},
    lifeline::Event,
    ports,
    tied::Farewell,
    workdir::{self, WorkDir},
};

/// The programs by the names of their logs; also what a harness may stop and start.
const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// How long a start may take on a busy machine; five to ten seconds are usual.
const PATIENCE: Duration = Duration::from_mins(3);

/// A control plane and its directory.
pub(crate) struct Instance<'a> {
    directory: &'a WorkDir,
    binaries: &'a Binaries,
    executable: &'a Path,
    limits: Limits,
    port: u16,
    children: Children<'a>,
}

impl<'a> Instance<'a> {
    /// Starts a control plane and waits until it is usable. Fails when `events` says to stop.
    pub(crate) fn start(
        directory: &'a WorkDir,
        binaries: &'a Binaries,
        executable: &'a Path,
        limits: Limits,
        events: &Receiver<Event>,
    ) -> Result<Self> {
        write_keys(directory)?;
        // A free port may be taken between asking for it and using it.
        for attempt in 1.. {
            let [port] = ports::free(1)?.try_into().map_err(|_| anyhow::anyhow!("no port"))?;
            let mut instance =
                Self { directory, binaries, executable, limits, port, children: Children::new(directory) };
            match instance.attempt(events) {
                Ok(()) => return Ok(instance),
                Err(_) if attempt < 3 && instance.lost_its_port() => {
                    drop(instance);
                    // Else the next attempt would find the first one's complaint.
                    fs::remove_file(directory.file(&format!("{APISERVER}.log"))).context("cannot remove a log")?;
                }
                Err(error) => return Err(error),
            }
        }
        bail!("no free port for kube-apiserver")
    }

    /// The address of the API server.
    pub(crate) fn server(&self) -> String {
        server(self.port)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.file("kubeconfig")
    }

    /// Fails if a program has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.children.check()
    }

    /// Stops one program, for tests of what happens without it.
    pub(crate) fn stop_program(&mut self, name: &str) -> Result<()> {
        if self.children.stop(name) { Ok(()) } else { bail!("{name} is not running") }
    }

    /// Starts a stopped program again; what it serves is usable when this returns.
    pub(crate) fn start_program(&mut self, name: &str, events: &Receiver<Event>) -> Result<()> {
        if self.children.is_running(name) {
            bail!("{name} is running");
        }
        self.launch(name)?;
        if name == APISERVER || name == ETCD {
            self.wait_for(events, "the API server", Self::api_ready)
        } else {
            Ok(())
        }
    }

    fn attempt(&mut self, events: &Receiver<Event>) -> Result<()> {
        write_kubeconfigs(self.directory, self.port)?;
        self.launch(ETCD)?;
        self.launch(APISERVER)?;
        self.wait_for(events, "the API server", Self::api_ready)?;
        self.launch(CONTROLLER_MANAGER)?;
        self.launch(SCHEDULER)?;
        self.wait_for(events, "the ServiceAccount controller", |instance| {
            instance
                .kubectl(&["get", "serviceaccount", "default", "--namespace=default", "--output=name"])
                .contains("serviceaccount/default")
        })
    }

    fn launch(&mut self, name: &str) -> Result<()> {
        let setup = Setup { directory: self.directory.path(), port: self.port, limits: self.limits };
        let (name, path, arguments) = match name {
            ETCD => (ETCD, &self.binaries.etcd, setup.etcd()),
            APISERVER => (APISERVER, &self.binaries.apiserver, setup.apiserver()),
            CONTROLLER_MANAGER => (CONTROLLER_MANAGER, &self.binaries.controller_manager, setup.controller_manager()),
            SCHEDULER => (SCHEDULER, &self.binaries.scheduler, setup.scheduler()),
            other => {
                bail!("no program is called {other:?}: use {ETCD}, {APISERVER}, {CONTROLLER_MANAGER} or {SCHEDULER}")
            }
        };
        self.children.start(&Program {
            name,
            path,
            arguments,
            farewell: Farewell::Kill,
            user: None,
            executable: self.executable,
        })
    }

    fn api_ready(&self) -> bool {
        // Asking costs a process; a listening port is the earliest time it can succeed.
        std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), Duration::from_millis(200)).is_ok()
            && self.kubectl(&["get", "--raw=/readyz"]).trim() == "ok"
    }

    /// What kubectl prints; empty on any failure.
    fn kubectl(&self, arguments: &[&str]) -> String {
        Command::new(&self.binaries.kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.directory.file("kubectl-cache"))
            .arg("--request-timeout=5s")
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }

    fn wait_for(&mut self, events: &Receiver<Event>, what: &str, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if ready(self) {
                return Ok(());
            }
            self.children.check()?;
            if matches!(events.try_recv(), Ok(Event::ParentGone | Event::Signal)) {
                bail!("stopped while starting");
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "{what} was not ready within {} s; the end of kube-apiserver's log:\n{}",
                    PATIENCE.as_secs(),
                    children::tail(&self.children.log(APISERVER), 15)
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn lost_its_port(&self) -> bool {
        fs::read_to_string(self.children.log(APISERVER)).is_ok_and(|text| text.contains("address already in use"))
    }
}

fn server(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// What does not depend on the port.
fn write_keys(directory: &WorkDir) -> Result<()> {
    let authority = Authority::new("kubeop-test-ca")?;
    let (own, serving) = (authority.pair(), authority.server()?);
    let (token_key, token_public) = certificates::token_key()?;
    for (name, text) in [
        ("ca.crt", own.certificate),
        ("ca.key", own.key),
        ("apiserver.crt", serving.certificate),
        ("apiserver.key", serving.key),
        ("sa.key", token_key),
        ("sa.pub", token_public),
    ] {
        workdir::write_private(&directory.file(name), &text)?;
    }
    for (name, user, group) in USERS {
        let pair = authority.client(user, group)?;
        workdir::write_private(&directory.file(&format!("{name}.crt")), &pair.certificate)?;
        workdir::write_private(&directory.file(&format!("{name}.key")), &pair.key)?;
    }
    Ok(())
}

/// File, user and group of each client.
const USERS: [(&str, &str, Option<&str>); 3] = [
    ("kubeconfig", "kubeop-test-admin", Some("system:masters")),
    ("controller-manager.kubeconfig", "system:kube-controller-manager", None),
    ("scheduler.kubeconfig", "system:kube-scheduler", None),
];

fn write_kubeconfigs(directory: &WorkDir, port: u16) -> Result<()> {
    let read = |name: &str| fs::read_to_string(directory.file(name)).with_context(|| format!("cannot read {name}"));
    let authority = read("ca.crt")?;
    for (name, user, _) in USERS {
        let pair =
            certificates::Pair { certificate: read(&format!("{name}.crt"))?, key: read(&format!("{name}.key"))? };
        let text = kubeconfig::text("kubeop-test", &server(port), &authority, user, &pair);
        workdir::write_private(&directory.file(name), &text)?;
    }
    Ok(())
}
