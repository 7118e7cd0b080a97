//! Pushing to a registry that keeps the rules: digests are checked, and a manifest is refused before what it names has come.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use super::*;
use crate::oci::{
    config::{Config, Platform},
    digest::Digest,
    layer::{Layer, Packing},
    layout::{Building, Name},
};

#[derive(Default)]
struct Store {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    uploads: usize,
}

impl Store {
    fn answer(&mut self, method: &str, target: &str, media_type: &str, body: Vec<u8>) -> (u16, Option<String>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(rest) = path.strip_prefix("/v2/kubeop/kubeop/") else { return (404, None) };
        match (method, rest.split('/').collect::<Vec<_>>().as_slice()) {
            ("HEAD", ["blobs", digest]) => (if self.blobs.contains_key(*digest) { 200 } else { 404 }, None),
            ("POST", ["blobs", "uploads", ""]) => (202, Some("/v2/kubeop/kubeop/blobs/uploads/7?state=x".into())),
            ("PUT", ["blobs", "uploads", "7"]) => {
                let digest = query.strip_prefix("state=x&digest=").unwrap_or_default().to_owned();
                if Digest::of(&body).to_string() != digest {
                    return (400, None);
                }
                self.uploads += 1;
                self.blobs.insert(digest, body);
                (201, None)
            }
            ("PUT", ["manifests", reference]) => {
                let value: Value = serde_json::from_slice(&body).unwrap();
                let digest = Digest::of(&body).to_string();
                let known =
                    named(&value).iter().all(|name| self.blobs.contains_key(name) || self.manifests.contains_key(name));
                if !known || value["mediaType"] != media_type || (reference.contains(':') && *reference != digest) {
                    return (400, None);
                }
                self.manifests.insert(digest, body.clone());
                self.manifests.insert((*reference).to_owned(), body);
                (201, None)
            }
            _ => (404, None),
        }
    }
}

fn named(manifest: &Value) -> BTreeSet<String> {
    let several = ["layers", "manifests"].iter().filter_map(|field| manifest[field].as_array()).flatten();
    several.chain([&manifest["config"]]).filter_map(|entry| Some(entry["digest"].as_str()?.to_owned())).collect()
}

fn serve(mut stream: TcpStream, store: &Mutex<Store>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned();
    let mut body = vec![0; header("Content-Length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (status, location) = store.lock().unwrap().answer(method, target, &header("Content-Type"), body);
    let location = location.map(|place| format!("Location: {place}\r\n")).unwrap_or_default();
    write!(stream, "HTTP/1.0 {status} x\r\n{location}\r\n").unwrap();
}

fn registry() -> (SocketAddr, Arc<Mutex<Store>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::new(Mutex::new(Store::default()));
    let shared = Arc::clone(&store);
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &shared);
        }
    });
    (address, store)
}

fn layout(directory: &std::path::Path) -> Layout {
    let mut building = Building::begin(directory, 0).unwrap();
    for platform in Platform::ALL {
        let mut layer = Layer::default();
        // Past the size up to which a request is sent in one piece, and of no repeating bytes.
        let big: Vec<u8> = (0_u32..50_000).flat_map(|number| (number ^ platform as u32).to_le_bytes()).collect();
        layer.bytes("/big", 0o644, big).unwrap();
        let written = building.layer(&layer, Packing::Fast).unwrap();
        let config = Config {
            platform,
            user: "1:1".into(),
            env: BTreeMap::new(),
            entrypoint: vec!["/big".into()],
            working_dir: "/".into(),
            exposed_ports: Vec::new(),
            labels: BTreeMap::new(),
        };
        let image = building.image(&config, &[written]).unwrap();
        building.attach(&image, "text/plain", b"about").unwrap();
    }
    building.finish(Name { repository: "ghcr.io/kubeop/kubeop".into(), tag: "1".into() }).unwrap()
}

#[test]
fn a_layout_arrives_whole_and_only_once() {
    let work = tempfile::tempdir().unwrap();
    let layout = layout(&work.path().join("layout"));
    let (address, store) = registry();
    push(&layout, address, "kubeop/kubeop").unwrap();
    let uploads = {
        let store = store.lock().unwrap();
        let index: Value = serde_json::from_slice(&store.manifests["1"]).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        let about: Vec<Value> = store
            .manifests
            .values()
            .map(|bytes| serde_json::from_slice(bytes).unwrap())
            .filter(|manifest: &Value| manifest["subject"].is_object())
            .collect();
        assert_eq!(about.len(), 2, "a bill of materials per platform");
        store.uploads
    };
    // Two layers, two configurations, what is attached, and its empty configuration.
    assert_eq!(uploads, 6);
    push(&layout, address, "kubeop/kubeop").unwrap();
    assert_eq!(store.lock().unwrap().uploads, uploads, "what is there is not sent again");
}

#[test]
fn a_refusal_says_what_was_refused() {
    let work = tempfile::tempdir().unwrap();
    let layout = layout(&work.path().join("layout"));
    let (address, _) = registry();
    let error = push(&layout, address, "other/place").unwrap_err().to_string();
    assert!(error.contains("POST /v2/other/place/blobs/uploads/") && error.contains("404"), "{error}");
}
