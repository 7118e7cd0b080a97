//! Layouts, judged by the `oci-spec` crate's reading of the specification.

use std::{collections::BTreeMap, io::Read as _};

use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::*;
use crate::oci::archive;

fn config(platform: Platform) -> Config {
    Config {
        platform,
        user: "65532:65532".into(),
        env: BTreeMap::from([("PATH".into(), "/usr/local/bin".into())]),
        entrypoint: vec!["/usr/local/bin/kubeop".into()],
        working_dir: "/".into(),
        exposed_ports: vec!["8080/tcp".into()],
        labels: BTreeMap::from([("org.opencontainers.image.title".into(), "kubeOP".into())]),
    }
}

fn build(path: &Path, platforms: &[Platform]) -> Layout {
    let mut building = Building::begin(path, 1_700_000_000).unwrap();
    for platform in platforms {
        let mut binary = Layer::default();
        binary.bytes("/usr/local/bin/kubeop", 0o755, platform.architecture()).unwrap();
        let mut base = Layer::default();
        base.bytes("/etc/passwd", 0o644, "kubeop:x:65532:65532::/:/\n").unwrap();
        let layers = [building.layer(&base, Packing::Small).unwrap(), building.layer(&binary, Packing::Fast).unwrap()];
        let image = building.image(&config(*platform), &layers).unwrap();
        building.attach(&image, "application/vnd.cyclonedx+json", b"{\"bom\":1}").unwrap();
    }
    building.finish(Name { repository: "ghcr.io/kubeop/kubeop".into(), tag: "1.2.3".into() }).unwrap()
}

/// Every file of the layout by name, after checking that blobs are what their names say.
fn blobs(layout: &Layout) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(layout.path.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let (name, bytes) = (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        assert_eq!(Digest::of(&bytes).hex(), name);
        found.insert(format!("sha256:{name}"), bytes);
    }
    found
}

fn check(descriptor: &oci_spec::image::Descriptor, blobs: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let bytes = &blobs[&descriptor.digest().to_string()];
    assert_eq!(bytes.len() as u64, descriptor.size());
    bytes.clone()
}

#[test]
fn a_layout_of_one_image_is_whole_and_valid() {
    let work = tempfile::tempdir().unwrap();
    let layout = build(&work.path().join("layout"), &[Platform::LinuxAmd64]);
    assert_eq!(fs::read_dir(&layout.path).unwrap().count(), 3, "oci-layout, index.json and blobs");
    let blobs = blobs(&layout);
    assert_eq!(fs::read_dir(layout.path.join("blobs")).unwrap().count(), 1, "no partial blobs");
    oci_spec::image::OciLayout::from_file(layout.path.join("oci-layout")).unwrap();
    let index = ImageIndex::from_file(layout.path.join("index.json")).unwrap();
    let [image, artifact] = &index.manifests()[..] else { panic!("{index:?}") };
    assert_eq!(image.annotations().as_ref().unwrap()[REF_NAME], "1.2.3");
    assert_eq!(image.annotations().as_ref().unwrap()[FULL_NAME], "ghcr.io/kubeop/kubeop:1.2.3");
    assert_eq!(*image.platform().as_ref().unwrap().architecture(), Arch::Amd64);

    let manifest = ImageManifest::from_reader(check(image, &blobs).as_slice()).unwrap();
    assert_eq!(*manifest.media_type(), Some(MediaType::ImageManifest));
    let configuration = ImageConfiguration::from_reader(check(manifest.config(), &blobs).as_slice()).unwrap();
    assert_eq!(configuration.created().as_deref(), Some("2023-11-14T22:13:20Z"));
    let run = configuration.config().as_ref().unwrap();
    assert_eq!(run.user().as_deref(), Some("65532:65532"));
    assert_eq!(run.entrypoint().as_ref().unwrap(), &["/usr/local/bin/kubeop"]);
    assert_eq!(run.env().as_ref().unwrap(), &["PATH=/usr/local/bin"]);
    assert_eq!(run.exposed_ports().as_ref().unwrap(), &["8080/tcp"]);
    for (layer, diff_id) in manifest.layers().iter().zip(configuration.rootfs().diff_ids()) {
        let stored = check(layer, &blobs);
        assert_eq!(*layer.media_type(), MediaType::ImageLayerGzip);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(stored.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(Digest::of(&tar).to_string(), *diff_id);
    }

    let about = ImageManifest::from_reader(check(artifact, &blobs).as_slice()).unwrap();
    assert_eq!(about.subject().as_ref().unwrap().digest(), image.digest());
    assert_eq!(about.artifact_type().as_ref().unwrap().to_string(), "application/vnd.cyclonedx+json");
    assert_eq!(check(&about.layers()[0], &blobs), b"{\"bom\":1}");
    check(about.config(), &blobs);
}

#[test]
fn two_builds_are_equal_to_the_last_byte() {
    let work = tempfile::tempdir().unwrap();
    let both = [Platform::LinuxAmd64, Platform::LinuxArm64];
    let (one, other) = (build(&work.path().join("one"), &both), build(&work.path().join("two"), &both));
    assert_eq!(one.top, other.top);
    assert_eq!(blobs(&one), blobs(&other));
    for (layout, name) in [(&one, "one.tar"), (&other, "two.tar")] {
        archive::write(layout, &work.path().join(name), 1_700_000_000).unwrap();
    }
    assert_eq!(fs::read(work.path().join("one.tar")).unwrap(), fs::read(work.path().join("two.tar")).unwrap());
    // A second build in the same place leaves nothing of the first.
    let again = build(&one.path, &both[..1]);
    assert!(blobs(&again).len() < blobs(&other).len());
}

#[test]
fn several_platforms_share_an_index() {
    let work = tempfile::tempdir().unwrap();
    let layout = build(&work.path().join("layout"), &[Platform::LinuxAmd64, Platform::LinuxArm64]);
    let blobs = blobs(&layout);
    let outer = ImageIndex::from_file(layout.path.join("index.json")).unwrap();
    assert_eq!(*outer.manifests()[0].media_type(), MediaType::ImageIndex);
    let inner = ImageIndex::from_reader(check(&outer.manifests()[0], &blobs).as_slice()).unwrap();
    let architectures: Vec<Arch> =
        inner.manifests().iter().map(|entry| entry.platform().as_ref().unwrap().architecture().clone()).collect();
    assert_eq!(architectures, [Arch::Amd64, Arch::ARM64]);
    for entry in inner.manifests() {
        ImageManifest::from_reader(check(entry, &blobs).as_slice()).unwrap();
    }
}

#[test]
fn an_archive_holds_one_named_image_for_new_and_old_tools() {
    let work = tempfile::tempdir().unwrap();
    let layout = build(&work.path().join("layout"), &[Platform::LinuxAmd64]);
    let path = work.path().join("image.tar");
    archive::write(&layout, &path, 1_700_000_000).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(&path).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    let index = ImageIndex::from_reader(files["index.json"].as_slice()).unwrap();
    assert_eq!(index.manifests().len(), 1);
    let old: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(old[0]["RepoTags"], json!(["ghcr.io/kubeop/kubeop:1.2.3"]));
    for name in [&old[0]["Config"], &old[0]["Layers"][0], &old[0]["Layers"][1]] {
        let name = name.as_str().unwrap();
        assert_eq!(Digest::of(&files[name]).hex(), name.rsplit('/').next().unwrap());
    }
    assert_eq!(files.keys().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 20).count(), 4);
}
