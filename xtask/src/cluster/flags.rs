//! The command lines of the control plane's programs. Each choice that is not Kubernetes' default carries its reason.

use std::{net::IpAddr, path::Path};

use super::{Limits, node::network};

/// etcd's sockets: files in the instance's directory, named by host and port because etcd insists on that form. No port to collide on, nobody else can connect.
const ETCD_CLIENT: &str = "unix://localhost:2379";
const ETCD_PEER: &str = "unix://localhost:2380";

/// What the command lines depend on.
pub(crate) struct Setup<'a> {
    /// The instance's directory, which is also the programs' working directory.
    pub(crate) directory: &'a Path,
    /// Where the API server listens.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Whether there is a node, so that everything between it and the control plane must work.
    pub(crate) node: bool,
    pub(crate) limits: Limits,
}

impl Setup<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// `--option=<directory>/<file>` for each.
    fn files(&self, options: &[(&str, &str)]) -> Vec<String> {
        options.iter().map(|(option, file)| format!("--{option}={}", self.file(file))).collect()
    }

    pub(crate) fn etcd(&self) -> Vec<String> {
        let mut arguments = self.files(&[("data-dir", "etcd")]);
        arguments.extend([
            "--name=test".to_owned(),
            format!("--listen-client-urls={ETCD_CLIENT}"),
            format!("--advertise-client-urls={ETCD_CLIENT}"),
            format!("--listen-peer-urls={ETCD_PEER}"),
            format!("--initial-advertise-peer-urls={ETCD_PEER}"),
            format!("--initial-cluster=test={ETCD_PEER}"),
            // The data is thrown away with the cluster.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]);
        arguments
    }

    pub(crate) fn apiserver(&self) -> Vec<String> {
        let mut arguments = self.files(&[
            ("client-ca-file", "ca.crt"),
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
            ("service-account-key-file", "sa.pub"),
            ("service-account-signing-key-file", "sa.key"),
            // Else it makes a directory in /var/run.
            ("cert-dir", "certs"),
        ]);
        arguments.extend([
            format!("--etcd-servers=unix://{}", self.file("localhost:2379")),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-cluster-ip-range={}", network::SERVICES),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--shutdown-delay-duration=0s".to_owned(),
            "--profiling=false".to_owned(),
        ]);
        if self.node {
            arguments.extend(self.files(&[
                ("kubelet-client-certificate", "apiserver-kubelet.crt"),
                ("kubelet-client-key", "apiserver-kubelet.key"),
                ("kubelet-certificate-authority", "ca.crt"),
                // What servers of further API groups know us by.
                ("requestheader-client-ca-file", "front-proxy-ca.crt"),
                ("proxy-client-cert-file", "front-proxy-client.crt"),
                ("proxy-client-key-file", "front-proxy-client.key"),
            ]));
            arguments.extend(
                [
                    "--kubelet-preferred-address-types=InternalIP",
                    "--requestheader-allowed-names=front-proxy-client",
                    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                    "--requestheader-group-headers=X-Remote-Group",
                    "--requestheader-username-headers=X-Remote-User",
                ]
                .map(str::to_owned),
            );
        } else {
            // A loopback address is not a valid endpoint of the Service `kubernetes`, and there is no node that would use it.
            arguments.push("--endpoint-reconciler-type=none".to_owned());
        }
        arguments
    }

    pub(crate) fn controller_manager(&self) -> Vec<String> {
        let mut arguments = self.files(&[
            ("kubeconfig", "controller-manager.kubeconfig"),
            ("service-account-private-key-file", "sa.key"),
            ("root-ca-file", "ca.crt"),
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
            ("cert-dir", "certs"),
        ]);
        arguments.extend([
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            // No port: nothing asks it for metrics, and none can be taken.
            "--secure-port=0".to_owned(),
            format!("--service-cluster-ip-range={}", network::SERVICES),
            format!("--kube-api-qps={}", self.limits.kube_api_qps),
            format!("--kube-api-burst={}", self.limits.kube_api_burst),
            "--profiling=false".to_owned(),
        ]);
        if self.node {
            arguments.extend([
                "--allocate-node-cidrs=true".to_owned(),
                // Of one node: with a larger range the controllers race and log conflicts.
                format!("--cluster-cidr={}", network::PODS),
                "--node-cidr-mask-size=24".to_owned(),
            ]);
        }
        arguments
    }

    pub(crate) fn scheduler(&self) -> Vec<String> {
        let mut arguments = self.files(&[("kubeconfig", "scheduler.kubeconfig"), ("cert-dir", "certs")]);
        arguments.extend([
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
            format!("--kube-api-qps={}", self.limits.kube_api_qps),
            format!("--kube-api-burst={}", self.limits.kube_api_burst),
        ]);
        arguments
    }
}
