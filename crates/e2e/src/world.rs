//! One control plane with one `kubeop dev` (authentication on) that the tests of a process share; each uses names of its own.
//!
//! Never dropped, since it is static: the kernel and the pipes end it with the process.

use crate::api::Api;
use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::kubeop::{Kubeop, Setup};
use crate::scenario;
use anyhow::{Result, anyhow};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

static WORLD: OnceCell<Result<World, String>> = OnceCell::const_new();
static POLICY: Mutex<()> = Mutex::const_new(());

/// What is shared.
#[derive(Debug)]
pub struct World {
    plane: ControlPlane,
    kubeop: Kubeop,
    token: String,
    /// The registered cluster.
    pub cluster: String,
}

impl World {
    /// The shared world, started by the first who asks.
    pub async fn shared() -> Result<&'static Self> {
        let world = WORLD.get_or_init(async || Self::start().await.map_err(|error| format!("{error:#}"))).await;
        world.as_ref().map_err(|error| anyhow!("the shared control plane or kubeop failed: {error}"))
    }

    async fn start() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let kubeop = Setup::dev().with_auth().start().await?;
        let token = kubeop.token("admin", None)?;
        let api = kubeop.api(Some(&token))?;
        let cluster = scenario::register(&api, "shared", &plane.kubeconfig_text()?).await?;
        match scenario::cluster_ready(&api, &cluster).await {
            Ok(()) => Ok(Self { plane, kubeop, token, cluster }),
            Err(error) => Err(error.context(kubeop.tail())),
        }
    }

    /// The API as administrator.
    pub fn admin(&self) -> Result<Api> {
        self.kubeop.api(Some(&self.token))
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> &str {
        &self.token
    }

    /// The process.
    pub fn kubeop(&self) -> &Kubeop {
        &self.kubeop
    }

    /// kubectl as cluster administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        self.plane.kubectl()
    }

    /// The cluster administrator's kubeconfig.
    pub fn kubeconfig_text(&self) -> Result<String> {
        self.plane.kubeconfig_text()
    }

    /// For tests that change the platform policy, which is one for all: alone among themselves; it is empty again when the test resets it.
    pub async fn policy_guard(&self) -> MutexGuard<'static, ()> {
        POLICY.lock().await
    }
}
