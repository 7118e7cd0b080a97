//! A layout as one file: what `ctr images import`, `skopeo copy oci-archive:`, `podman load` and `docker load` read.
//!
//! Invariant: one name, and only what belongs to it: tools that expect one image per archive do not stumble over referrers. Older Docker reads `manifest.json`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    layer::Layer,
    layout::{self, Descriptor, Layout},
};

/// Writes the archive; a former one is replaced only by a whole one.
pub(crate) fn write(layout: &Layout, path: &Path, epoch: u64) -> Result<()> {
    let mut files = Layer::default();
    let images =
        layout.images.iter().flat_map(|image| [&image.manifest, &image.config].into_iter().chain(&image.layers));
    for descriptor in [&layout.top].into_iter().chain(images) {
        files.file(&inside(descriptor), 0o644, &layout.blob(descriptor))?;
    }
    files.bytes("/oci-layout", 0o644, "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    files.bytes("/index.json", 0o644, layout::index(&[layout.named_entry()])?)?;
    if let [only] = layout.images.as_slice() {
        let layers: Vec<String> = only.layers.iter().map(inside).collect();
        let manifest =
            json!([{ "Config": inside(&only.config), "RepoTags": [layout.name.to_string()], "Layers": layers }]);
        files.bytes("/manifest.json", 0o644, serde_json::to_vec(&manifest).context("cannot write JSON")?)?;
    }
    let partial = path.with_extension("tar.partial");
    let file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let mut sink = files.tar(BufWriter::with_capacity(1 << 18, file), epoch)?;
    sink.flush().with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot create {}", path.display()))
}

fn inside(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}
