//! Brings one control plane up in its directory: certificates, kubeconfigs, programs, readiness.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpStream},
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
    flags::Setup,
    keys,
    node::{
        self,
        addons::{self, Until},
        facts, images, network,
        programs::{self, Programs},
    },
};
use crate::{
    progress,
    supervise::{
        children::{self, Children, Program},
        lifeline::Event,
        ports,
        tied::Farewell,
        workdir::WorkDir,
    },
};

/// The programs by the names of their logs; also what a harness may stop and start.
const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// How long a start may take on a busy machine; five to ten seconds are usual.
const PATIENCE: Duration = Duration::from_mins(3);

/// What an instance is made of, besides its directory.
pub(crate) struct Parts<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) executable: &'a Path,
    pub(crate) limits: Limits,
    /// With a node: its programs, and what must work before the start is complete.
    pub(crate) node: Option<(&'a Programs, Until)>,
}

/// A control plane, perhaps with a node, and its directory.
pub(crate) struct Instance<'a> {
    directory: &'a WorkDir,
    parts: Parts<'a>,
    address: IpAddr,
    port: u16,
    children: Children<'a>,
}

/// The port of a node cluster's API server, which has a network of its own.
const NODE_PORT: u16 = 6443;

impl<'a> Instance<'a> {
    /// Starts a control plane and waits until it is usable. Fails when `events` says to stop.
    pub(crate) fn start(directory: &'a WorkDir, parts: Parts<'a>, events: &Receiver<Event>) -> Result<Self> {
        let address = if parts.node.is_some() { network::NODE } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        keys::write(directory.path(), address, parts.node.is_some())?;
        let mut instance = Self { directory, parts, address, port: NODE_PORT, children: Children::new(directory) };
        if let Some((programs, until)) = instance.parts.node {
            node::prepare(directory, programs)?;
            instance.start_with_node(programs, until, events)?;
            return Ok(instance);
        }
        // A free port may be taken between asking for it and using it.
        for attempt in 1.. {
            [instance.port] = ports::free(1)?.try_into().map_err(|_| anyhow::anyhow!("no port"))?;
            match instance.start_control_plane(events) {
                Ok(()) => return Ok(instance),
                Err(_) if attempt < 3 && instance.lost_its_port() => {
                    instance.children.stop_all();
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
        format!("https://{}:{}", self.address, self.port)
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
        if name == programs::KUBELET && !self.children.is_running(programs::CONTAINERD) {
            bail!("the kubelet ends at once without containerd: start containerd first");
        }
        self.launch(name)?;
        match name {
            APISERVER | ETCD => self.wait_for(events, "the API server", Self::api_ready),
            programs::CONTAINERD => self.wait_for(events, "containerd", Self::runtime_ready),
            // It listens once it has found containerd.
            programs::KUBELET => self.wait_for(events, "the kubelet", |_| listens(network::NODE, 10250)),
            programs::REGISTRY => self.wait_for(events, "the registry", |_| listens(network::NODE, 5000)),
            _ => Ok(()),
        }
    }

    fn runtime_ready(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.directory.file("containerd/containerd.sock")).is_ok()
    }

    fn start_control_plane(&mut self, events: &Receiver<Event>) -> Result<()> {
        keys::write_kubeconfigs(self.directory.path(), &self.server(), self.parts.node.is_some())?;
        self.launch(ETCD)?;
        self.launch(APISERVER)?;
        self.wait_for(events, "the API server", Self::api_ready)?;
        self.launch(CONTROLLER_MANAGER)?;
        self.launch(SCHEDULER)?;
        if self.parts.node.is_some() {
            // What waits for pods waits for this too.
            return Ok(());
        }
        self.wait_for(events, "the ServiceAccount controller", |instance| {
            instance
                .kubectl(&["get", "serviceaccount", "default", "--namespace=default", "--output=name"])
                .contains("serviceaccount/default")
        })
    }

    fn start_with_node(&mut self, programs: &Programs, until: Until, events: &Receiver<Event>) -> Result<()> {
        let start = Instant::now();
        self.launch(programs::REGISTRY)?;
        self.launch(programs::CONTAINERD)?;
        // While they come up, the control plane does.
        self.wait_for(events, "the registry", |_| listens(network::NODE, 5000))?;
        let pushes = images::push_all(programs)?;
        self.start_control_plane(events)?;
        self.wait_for(events, "containerd", Self::runtime_ready)?;
        for name in [programs::NETPOL_AGENT, programs::KUBELET, programs::KUBE_PROXY] {
            self.launch(name)?;
        }
        pushes.into_iter().try_for_each(images::Push::finish)?;
        addons::create(&self.parts.binaries.kubectl, self.directory.path(), programs)?;
        facts::write(self.directory.path(), &self.server(), &self.parts.binaries.kubectl, programs)?;
        addons::register_metrics(self.parts.executable, &self.parts.binaries.kubectl, self.directory.path())?;
        for stage in addons::STAGES.iter().filter(|stage| stage.until <= until) {
            self.wait_for(events, stage.what, |instance| (stage.ready)(&|arguments| instance.kubectl(arguments)))?;
            progress::note(&format!("{}: {}", stage.what, progress::since(start)));
        }
        Ok(())
    }

    fn launch(&mut self, name: &str) -> Result<()> {
        let directory = self.directory.path();
        let setup = Setup {
            directory,
            address: self.address,
            port: self.port,
            node: self.parts.node.is_some(),
            limits: self.parts.limits,
        };
        let binaries = self.parts.binaries;
        let (name, path, arguments) = match name {
            ETCD => (ETCD, binaries.etcd.clone(), setup.etcd()),
            APISERVER if setup.node => {
                let (path, arguments) = programs::inside(directory, &binaries.apiserver, setup.apiserver());
                (APISERVER, path, arguments)
            }
            APISERVER => (APISERVER, binaries.apiserver.clone(), setup.apiserver()),
            CONTROLLER_MANAGER => (CONTROLLER_MANAGER, binaries.controller_manager.clone(), setup.controller_manager()),
            SCHEDULER => (SCHEDULER, binaries.scheduler.clone(), setup.scheduler()),
            other => match self.parts.node.and_then(|(programs, _)| programs.command(other, directory)) {
                Some(command) => command,
                None => bail!(
                    "no program is called {other:?}: use {ETCD}, {APISERVER}, {CONTROLLER_MANAGER}, {SCHEDULER} or, of a node, kubelet, containerd, kube-proxy, netpol, registry"
                ),
            },
        };
        self.children.start(&Program {
            name,
            path: &path,
            arguments,
            farewell: Farewell::Kill,
            user: None,
            executable: self.parts.executable,
        })
    }

    fn api_ready(&self) -> bool {
        // Asking costs a process; a listening port is the earliest time it can succeed.
        listens(self.address, self.port) && self.kubectl(&["get", "--raw=/readyz"]).trim() == "ok"
    }

    /// What kubectl prints; empty on any failure.
    fn kubectl(&self, arguments: &[&str]) -> String {
        Command::new(&self.parts.binaries.kubectl)
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

/// Whether somebody accepts connections there.
fn listens(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&(address, port).into(), Duration::from_millis(200)).is_ok()
}
