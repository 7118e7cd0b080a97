//! The images every node cluster can pull, and pushing more to its registry.
//!
//! Invariant: a layout in the cache is complete and named by a hash of what went into it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::programs::{self, Programs};
use crate::{
    environment,
    oci::{
        config::{Config, Platform},
        debian::Tree,
        digest::Digest,
        layer::{Layer, Packing},
        layout::{Building, Name},
    },
};

/// The container that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// Debian's nginx, which really serves, with sh, curl and a few more.
pub(crate) const NGINX: &str = "docker.io/library/nginx:1.25";
/// An HTTP server and client for tests of packets.
pub(crate) const WEBTOOL: &str = "docker.io/library/webtool:1";

/// The users that programs look up.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnginx:x:101:101:nginx:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\nnginx:x:101:\n";

/// What the nginx image has of Debian's packages.
const NGINX_FILES: [&str; 13] = [
    "/etc/nginx/mime.types",
    "/usr/bin/cat",
    "/usr/bin/curl",
    "/usr/bin/dash",
    "/usr/bin/dd",
    "/usr/bin/env",
    "/usr/bin/hostname",
    "/usr/bin/id",
    "/usr/bin/ls",
    "/usr/bin/sleep",
    "/usr/bin/tail",
    "/usr/bin/touch",
    "/usr/sbin/nginx",
];
const NGINX_CONFIGURATION: &str = "user nginx;
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  include /etc/nginx/mime.types; default_type application/octet-stream;
  access_log /var/log/nginx/access.log;
  include /etc/nginx/conf.d/*.conf;
}
";
const NGINX_SITE: &str =
    "server { listen 80; server_name localhost; location / { root /usr/share/nginx/html; index index.html; } }\n";
const NGINX_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n";

/// An image that is made here.
struct Image {
    name: Name,
    entrypoint: Vec<String>,
    /// Files of this machine that it is made of.
    sources: Vec<PathBuf>,
    /// Adds all but what every image has.
    fill: fn(&mut Layer, &[PathBuf]) -> Result<()>,
}

impl Image {
    fn of_program(repository: &str, tag: &str, program: &Path) -> Self {
        Self {
            name: Name { repository: repository.to_owned(), tag: tag.to_owned() },
            entrypoint: vec![in_image(program)],
            sources: vec![program.to_owned()],
            fill: |layer, sources| sources.iter().try_for_each(|source| layer.file(&in_image(source), 0o755, source)),
        }
    }

    fn nginx() -> Result<Self> {
        Ok(Self {
            name: name(NGINX)?,
            entrypoint: ["/usr/sbin/nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
            sources: NGINX_FILES.iter().map(PathBuf::from).collect(),
            fill: |layer, _| {
                Tree::installed()?.add(layer, &NGINX_FILES)?;
                layer.symlink("/usr/bin/sh", "dash")?;
                layer.bytes("/etc/nginx/nginx.conf", 0o644, NGINX_CONFIGURATION)?;
                layer.bytes("/etc/nginx/conf.d/default.conf", 0o644, NGINX_SITE)?;
                layer.bytes("/usr/share/nginx/html/index.html", 0o644, NGINX_PAGE)?;
                layer.symlink("/var/log/nginx/access.log", "/dev/stdout")?;
                layer.symlink("/var/log/nginx/error.log", "/dev/stderr")?;
                ["/var/lib/nginx", "/var/cache/nginx", "/run"].iter().try_for_each(|path| layer.directory(path, 0o755))
            },
        })
    }

    /// The layout's directory, written now if it is not in the cache.
    fn layout(&self) -> Result<PathBuf> {
        let cache = environment::cache_directory()?.join("testcluster/images");
        let key = self.key()?;
        let path = cache.join(&key);
        if path.is_dir() {
            return Ok(path);
        }
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let partial = cache.join(format!("partial-{}-{key}", std::process::id()));
        self.write(&partial).with_context(|| format!("cannot make the image {}", self.name))?;
        match fs::rename(&partial, &path) {
            Ok(()) => Ok(path),
            // Somebody else was quicker.
            Err(_) if path.is_dir() => {
                fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
                Ok(path)
            }
            Err(error) => Err(error).with_context(|| format!("cannot name {}", path.display())),
        }
    }

    fn key(&self) -> Result<String> {
        let mut text =
            format!("{} {:?} {PASSWD}{GROUP}{NGINX_CONFIGURATION}{NGINX_SITE}{NGINX_PAGE}", self.name, self.entrypoint);
        for source in &self.sources {
            let found = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
            text.extend([format!("\n{} {} {}", source.display(), found.len(), found.mtime())]);
        }
        Ok(Digest::of(text.as_bytes()).hex().chars().take(16).collect())
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut layer = Layer::default();
        layer.bytes("/etc/passwd", 0o644, PASSWD)?;
        layer.bytes("/etc/group", 0o644, GROUP)?;
        layer.directory("/tmp", 0o1777)?;
        (self.fill)(&mut layer, &self.sources)?;
        let mut building = Building::begin(path, 0)?;
        let written = building.layer(&layer, Packing::Fast)?;
        let config = Config {
            platform: Platform::host()
                .with_context(|| format!("no image can be made for {}", std::env::consts::ARCH))?,
            user: String::new(),
            env: BTreeMap::from([(
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            )]),
            entrypoint: self.entrypoint.clone(),
            working_dir: String::new(),
            exposed_ports: Vec::new(),
            labels: BTreeMap::new(),
        };
        building.image(&config, &[written])?;
        building.finish(self.name.clone()).map(drop)
    }
}

fn in_image(program: &Path) -> String {
    format!("/bin/{}", program.file_name().unwrap_or_default().to_string_lossy())
}

fn name(text: &str) -> Result<Name> {
    let (repository, tag) = text.rsplit_once(':').with_context(|| format!("{text:?} has no tag"))?;
    Ok(Name { repository: repository.to_owned(), tag: tag.to_owned() })
}

/// A push under way.
pub(crate) struct Push {
    name: String,
    child: Child,
}

impl Push {
    /// Waits for it.
    pub(crate) fn finish(self) -> Result<()> {
        let output = self.child.wait_with_output().context("cannot wait for crane")?;
        if output.status.success() {
            return Ok(());
        }
        bail!("cannot push {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim())
    }
}

/// Starts pushing all of them at once; the registry listens.
pub(crate) fn push_all(programs: &Programs) -> Result<Vec<Push>> {
    let (pause, webtool) = (name(PAUSE)?, name(WEBTOOL)?);
    let (dns, metrics, ingress) = (&programs.coredns, &programs.metrics_server, &programs.traefik);
    let images = [
        Image::of_program(&pause.repository, &pause.tag, &programs.pause),
        Image::of_program("registry.k8s.io/coredns/coredns", &dns.version, &dns.path),
        Image::of_program("docker.io/library/traefik", &ingress.version, &ingress.path),
        Image::of_program("registry.k8s.io/metrics-server/metrics-server", &metrics.version, &metrics.path),
        Image::of_program(&webtool.repository, &webtool.tag, &programs.webtool),
        Image::nginx()?,
    ];
    images.iter().map(|image| push(&programs.crane, &image.layout()?, &image.name.to_string())).collect()
}

/// Starts pushing an image layout or archive under a name; the one registry serves the names of all.
pub(crate) fn push(crane: &Path, image: &Path, name: &str) -> Result<Push> {
    let mut command = Command::new(crane);
    command.args(["push", "--insecure"]);
    if image.is_dir() {
        // A layout of several platforms is pushed as such; of one, as the image itself.
        let index = fs::read_to_string(image.join("index.json"))
            .with_context(|| format!("{} is no image layout", image.display()))?;
        let index: serde_json::Value = serde_json::from_str(&index).context("index.json is not JSON")?;
        if index
            .get("manifests")
            .and_then(|manifests| manifests.as_array())
            .is_some_and(|manifests| manifests.len() > 1)
        {
            command.arg("--index");
        }
    }
    let child = command
        .arg(image)
        .arg(format!("{}/{}", programs::registry(), in_registry(name)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start crane")?;
    Ok(Push { name: name.to_owned(), child })
}

/// The name without its registry: what containerd asks the registry for.
fn in_registry(name: &str) -> String {
    match name.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => {
            if registry == "docker.io" && !rest.contains('/') { format!("library/{rest}") } else { rest.to_owned() }
        }
        Some(_) => name.to_owned(),
        None => format!("library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_serves_every_name_without_its_host() {
        for (name, expected) in [
            ("docker.io/library/nginx:1.25", "library/nginx:1.25"),
            ("docker.io/nginx:1.25", "library/nginx:1.25"),
            ("nginx", "library/nginx"),
            ("kubeop/kubeop:dev", "kubeop/kubeop:dev"),
            ("ghcr.io/kubeop/kubeop:dev", "kubeop/kubeop:dev"),
            ("localhost:5000/a:1", "a:1"),
        ] {
            assert_eq!(in_registry(name), expected, "{name}");
        }
    }
}
