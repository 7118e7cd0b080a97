//! An image layout: a directory of blobs named by their digests, and an index of the images in it.
//! Specification: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.
//!
//! Invariant: a directory is a layout only once `index.json` is in it, which is written last; blobs appear whole, by renaming.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    config::{Config, Platform},
    digest::Digest,
    layer::{self, Layer, Packing, Written},
    rfc3339::rfc3339,
};

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Which tag an entry of `index.json` has; the full name is containerd's addition.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// Names a blob: what it is, where, how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Descriptor {
    fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.size })
    }
}

/// An image in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) platform: Platform,
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Something about an image that is not one, such as its bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) manifest: Descriptor,
    /// Its media type.
    kind: String,
    /// What the manifest names.
    pub(crate) blobs: Vec<Descriptor>,
    /// The manifest of the image it is about.
    pub(crate) subject: Digest,
}

/// A name with its tag: `ghcr.io/kubeop/kubeop:0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// Registry and repository.
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

/// A layout on disk, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) name: Name,
    pub(crate) images: Vec<Image>,
    pub(crate) artifacts: Vec<Artifact>,
    /// What the name stands for: the only image, or the index of all.
    pub(crate) top: Descriptor,
}

/// A layout in the making.
#[derive(Debug)]
pub(crate) struct Building {
    path: PathBuf,
    epoch: u64,
    images: Vec<Image>,
    artifacts: Vec<Artifact>,
}

impl Building {
    /// Begins a layout at `path`, replacing what is there. `epoch` (seconds since 1970) is the time of all of it.
    pub(crate) fn begin(path: &Path, epoch: u64) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("cannot remove the former {}", path.display()))?;
        }
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot create {}", blobs.display()))?;
        write(&path.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        Ok(Self { path: path.to_owned(), epoch, images: Vec::new(), artifacts: Vec::new() })
    }

    /// Writes a layer.
    pub(crate) fn layer(&self, layer: &Layer, packing: Packing) -> Result<Written> {
        let partial = self.path.join("blobs/partial");
        let file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let written = layer.write(BufWriter::with_capacity(1 << 18, file), packing, self.epoch)?;
        let path = blob(&self.path, &written.digest);
        fs::rename(&partial, &path).with_context(|| format!("cannot name {}", path.display()))?;
        Ok(written)
    }

    /// Adds an image of these layers, the lowest first.
    pub(crate) fn image(&mut self, config: &Config, layers: &[Written]) -> Result<Image> {
        let created = rfc3339(self.epoch);
        let configuration = self.document(CONFIG, &config.json(layers, &created))?;
        let layers: Vec<Descriptor> = layers
            .iter()
            .map(|layer| Descriptor {
                media_type: layer::MEDIA_TYPE.to_owned(),
                digest: layer.digest.clone(),
                size: layer.size,
            })
            .collect();
        let manifest = self.document(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": configuration.json(),
                "layers": layers.iter().map(Descriptor::json).collect::<Vec<_>>(),
                "annotations": config.labels,
            }),
        )?;
        let image = Image { platform: config.platform, manifest, config: configuration, layers };
        self.images.push(image.clone());
        Ok(image)
    }

    /// Attaches a document to an image, as a referrer that registries list with it.
    pub(crate) fn attach(&mut self, image: &Image, media_type: &str, bytes: &[u8]) -> Result<()> {
        let content = self.blob(media_type, bytes)?;
        let empty = self.blob(EMPTY, b"{}")?;
        let manifest = self.document(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": media_type,
                "config": empty.json(),
                "layers": [content.json()],
                "subject": image.manifest.json(),
                "annotations": { "org.opencontainers.image.created": rfc3339(self.epoch) },
            }),
        )?;
        self.artifacts.push(Artifact {
            manifest,
            kind: media_type.to_owned(),
            blobs: vec![empty, content],
            subject: image.manifest.digest.clone(),
        });
        Ok(())
    }

    /// Completes the layout under a name: the only image itself, or an index of several.
    pub(crate) fn finish(self, name: Name) -> Result<Layout> {
        let top = match self.images.as_slice() {
            [only] => only.manifest.clone(),
            several => {
                let manifests: Vec<Value> = several.iter().map(platform_entry).collect();
                self.document(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))?
            }
        };
        let layout = Layout { path: self.path, name, images: self.images, artifacts: self.artifacts, top };
        let mut manifests = vec![layout.named_entry()];
        manifests.extend(
            layout
                .artifacts
                .iter()
                .map(|artifact| with(artifact.manifest.json(), "artifactType", json!(artifact.kind))),
        );
        write(&layout.path.join("index.json"), &index(&manifests)?)?;
        Ok(layout)
    }

    fn document(&self, media_type: &str, value: &Value) -> Result<Descriptor> {
        self.blob(media_type, &serde_json::to_vec(value).context("cannot write JSON")?)
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        write(&blob(&self.path, &digest), bytes)?;
        Ok(Descriptor { media_type: media_type.to_owned(), digest, size: bytes.len() as u64 })
    }
}

impl Layout {
    /// Where a blob is.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> PathBuf {
        blob(&self.path, &descriptor.digest)
    }

    /// The bytes of a manifest, configuration or index.
    pub(crate) fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = self.blob(descriptor);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The entry of `index.json` that carries the name.
    pub(super) fn named_entry(&self) -> Value {
        let entry = match self.images.as_slice() {
            [only] => platform_entry(only),
            _ => self.top.json(),
        };
        with(entry, "annotations", json!({ REF_NAME: self.name.tag, FULL_NAME: self.name.to_string() }))
    }
}

fn platform_entry(image: &Image) -> Value {
    with(image.manifest.json(), "platform", image.platform.json())
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(field.to_owned(), value);
    }
    object
}

/// The text of an `index.json`.
pub(super) fn index(manifests: &[Value]) -> Result<Vec<u8>> {
    serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
        .context("cannot write JSON")
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(failed)?;
    file.write_all(bytes).with_context(failed)
}

#[cfg(test)]
mod tests;
