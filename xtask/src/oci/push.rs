//! Pushes a layout to a registry. Specification: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>.
//! Plain HTTP and no credentials: for registries of tests on this machine. To publish an image, `skopeo copy --all oci:LAYOUT docker://NAME`.
//!
//! Invariant: a manifest is sent after everything it names, and a tag after its manifest.

use std::{fs::File, io, net::SocketAddr};

use anyhow::{Context, Result, bail};

use super::layout::{Descriptor, Layout};
use crate::http::{self, Body, Reply};

/// Pushes everything in `layout` to the repository `repository` (`kubeop/kubeop`) of the registry at `address`, tagged as its name says.
pub(crate) fn push(layout: &Layout, address: SocketAddr, repository: &str) -> Result<()> {
    let registry = Registry { layout, address, repository };
    for image in &layout.images {
        registry.blob(&image.config)?;
        image.layers.iter().try_for_each(|layer| registry.blob(layer))?;
        registry.manifest(&image.manifest, &image.manifest.digest.to_string())?;
    }
    for artifact in &layout.artifacts {
        artifact.blobs.iter().try_for_each(|blob| registry.blob(blob))?;
        registry.manifest(&artifact.manifest, &artifact.manifest.digest.to_string())?;
    }
    registry.manifest(&layout.top, &layout.name.tag)
}

struct Registry<'a> {
    layout: &'a Layout,
    address: SocketAddr,
    repository: &'a str,
}

impl Registry<'_> {
    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let base = format!("/v2/{}/blobs", self.repository);
        let held = self.ask("HEAD", &format!("{base}/{}", blob.digest))?;
        if held.status == 200 {
            return Ok(());
        }
        let begun = self.ask("POST", &format!("{base}/uploads/"))?;
        if begun.status != 202 {
            return Err(refused("POST", &format!("{base}/uploads/"), &begun));
        }
        let location = begun.header("location").context("the registry named no place to upload to")?;
        let place = self.own_path(location)?;
        let separator = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{separator}digest={}", blob.digest);
        let path = self.layout.blob(blob);
        let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut body = Body { media_type: "application/octet-stream", length: blob.size, content: &mut file };
        let answer = self.send("PUT", &place, &mut body)?;
        if answer.status == 201 { Ok(()) } else { Err(refused("PUT", &place, &answer)) }
    }

    fn manifest(&self, manifest: &Descriptor, reference: &str) -> Result<()> {
        let path = format!("/v2/{}/manifests/{reference}", self.repository);
        let bytes = self.layout.read(manifest)?;
        let mut body =
            Body { media_type: &manifest.media_type, length: bytes.len() as u64, content: &mut bytes.as_slice() };
        let answer = self.send("PUT", &path, &mut body)?;
        if answer.status == 201 { Ok(()) } else { Err(refused("PUT", &path, &answer)) }
    }

    fn ask(&self, method: &str, path: &str) -> Result<Reply> {
        self.send(
            method,
            path,
            &mut Body { media_type: "application/octet-stream", length: 0, content: &mut io::empty() },
        )
    }

    fn send(&self, method: &str, path: &str, body: &mut Body<'_>) -> Result<Reply> {
        http::send(self.address, method, path, body)
    }

    /// The path of a `Location`, which may be a path or an address of this registry.
    fn own_path(&self, location: &str) -> Result<String> {
        if location.starts_with('/') {
            return Ok(location.to_owned());
        }
        match location.strip_prefix(&format!("http://{}", self.address)) {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => bail!("the registry at {} sends us elsewhere, to {location:?}", self.address),
        }
    }
}

fn refused(method: &str, path: &str, answer: &Reply) -> anyhow::Error {
    let said = String::from_utf8_lossy(&answer.body);
    anyhow::anyhow!("the registry refused {method} {path}: {} {}", answer.status, said.trim())
}

#[cfg(test)]
mod tests;
