//! One layer: a set of files, written as a tar whose bytes depend on nothing but the files and one time.
//!
//! Invariant: entries are sorted by path, every parent directory is an entry, and owner, mode and time are what the caller says, never what the disk says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::digest::{Digest, Digesting};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Directory,
    Bytes(Vec<u8>),
    File(PathBuf),
    Symlink(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    content: Content,
    mode: u32,
    /// User and group.
    owner: u32,
}

/// Every layer of every image is compressed in this form; tools that ought to know plain ones do not.
pub(super) const MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How hard a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// For images that travel.
    Small,
    /// For images that are loaded where they are made: not at all.
    Fast,
}

/// The files of one layer; paths are absolute in the image. All belong to root, except what the process is to change.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

/// A layer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Of the bytes on disk.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Of the tar inside, as the image configuration lists it.
    pub(crate) diff_id: Digest,
}

impl Layer {
    /// A directory with a mode of its own; those that only contain something appear by themselves with 0755.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.insert(path, Content::Directory, mode, 0)
    }

    /// A directory of a user and the group of the same number.
    pub(crate) fn owned_directory(&mut self, path: &str, mode: u32, owner: u32) -> Result<()> {
        self.insert(path, Content::Directory, mode, owner)
    }

    /// A file with these bytes.
    pub(crate) fn bytes(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.insert(path, Content::Bytes(bytes.into()), mode, 0)
    }

    /// A copy of a file of this machine, read when the layer is written.
    pub(crate) fn file(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        self.insert(path, Content::File(from.to_owned()), mode, 0)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, Content::Symlink(target.to_owned()), 0o777, 0)
    }

    /// The paths of the layer, sorted, without a leading slash.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    fn insert(&mut self, path: &str, content: Content, mode: u32, owner: u32) -> Result<()> {
        let name = path.trim_start_matches('/');
        if name.is_empty() || name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            bail!("{path:?} is no path of a file in an image: it must be absolute, without empty parts, . and ..");
        }
        for (index, _) in name.match_indices('/') {
            let parent = name.get(..index).unwrap_or_default();
            let found = self.entries.entry(parent.to_owned()).or_insert(Entry {
                content: Content::Directory,
                mode: 0o755,
                owner: 0,
            });
            if found.content != Content::Directory {
                bail!("{path:?} lies below {parent:?}, which is not a directory");
            }
        }
        let entry = Entry { content, mode, owner };
        match self.entries.get(name) {
            // A directory may be named again, with its mode.
            Some(found) if found.content == Content::Directory && entry.content == Content::Directory => {}
            Some(found) if *found == entry => return Ok(()),
            Some(_) => bail!("{path:?} is in the layer already, with other contents"),
            None => {}
        }
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Writes the layer to `sink`; `epoch` (seconds since 1970) is every entry's time.
    pub(crate) fn write(&self, sink: impl Write, packing: Packing, epoch: u64) -> Result<Written> {
        let level = match packing {
            Packing::Small => Compression::best(),
            Packing::Fast => Compression::none(),
        };
        // No name and no time in the header; 255 is "unknown system".
        let packer = GzBuilder::new().mtime(0).operating_system(255).write(Digesting::new(sink), level);
        let (packer, diff_id, _) = self.tar(Digesting::new(packer), epoch)?.finish();
        let (mut sink, digest, size) = packer.finish().context("cannot end the compressed stream")?.finish();
        sink.flush().context("cannot write the layer")?;
        Ok(Written { digest, size, diff_id })
    }

    /// The same files as a plain tar.
    pub(super) fn tar<W: Write>(&self, sink: W, epoch: u64) -> Result<W> {
        let mut tar = Builder::new(sink);
        for (path, entry) in &self.entries {
            let failed = || format!("cannot add {path} to the layer");
            let mut header = Header::new_gnu();
            header.set_mtime(epoch);
            header.set_uid(u64::from(entry.owner));
            header.set_gid(u64::from(entry.owner));
            header.set_mode(entry.mode);
            header.set_size(0);
            match &entry.content {
                Content::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), io::empty()).with_context(failed)?;
                }
                Content::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, path, target).with_context(failed)?;
                }
                Content::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice()).with_context(failed)?;
                }
                Content::File(from) => {
                    let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
                    let size = file.metadata().with_context(|| format!("cannot read {}", from.display()))?.len();
                    header.set_size(size);
                    tar.append_data(&mut header, path, file).with_context(failed)?;
                }
            }
        }
        tar.into_inner().context("cannot end the layer")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(layer: &Layer, packing: Packing) -> (Vec<u8>, Written) {
        let mut bytes = Vec::new();
        let written = layer.write(&mut bytes, packing, 1_700_000_000).unwrap();
        (bytes, written)
    }

    #[test]
    fn the_same_files_give_the_same_bytes_whatever_their_order_time_and_mode() {
        let make = |reversed: bool, mode: u32| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "binary").unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let mut layer = Layer::default();
            if reversed {
                layer.bytes("/etc/passwd", 0o644, "x").unwrap();
                layer.file("/usr/bin/a", 0o755, file.path()).unwrap();
            } else {
                layer.file("/usr/bin/a", 0o755, file.path()).unwrap();
                layer.bytes("/etc/passwd", 0o644, "x").unwrap();
            }
            write(&layer, Packing::Small)
        };
        let (one, other) = (make(false, 0o600), make(true, 0o777));
        assert_eq!(one, other);
        assert_eq!(Digest::of(&one.0), one.1.digest);
        assert_eq!(one.0.len() as u64, one.1.size);
    }

    #[test]
    fn both_packings_hold_the_same_tar_and_it_reads_back() {
        let mut layer = Layer::default();
        layer.bytes("/usr/share/doc", 0o640, "text").unwrap();
        layer.symlink("/bin", "usr/bin").unwrap();
        layer.directory("/data", 0o700).unwrap();
        let long = format!("/{}/file", "long/".repeat(40).trim_end_matches('/'));
        layer.bytes(&long, 0o644, "deep").unwrap();
        let plain = layer.tar(Vec::new(), 1_700_000_000).unwrap();
        for packing in [Packing::Small, Packing::Fast] {
            let (packed, written) = write(&layer, packing);
            let mut unpacked = Vec::new();
            io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
            assert_eq!(unpacked, plain);
            assert_eq!(written.diff_id, Digest::of(&plain));
        }

        let mut archive = tar::Archive::new(plain.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 1_700_000_000));
            seen.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.entry_type()));
        }
        for expected in [
            ("bin".to_owned(), 0o777, EntryType::Symlink),
            ("data/".to_owned(), 0o700, EntryType::Directory),
            ("usr/share/".to_owned(), 0o755, EntryType::Directory),
            ("usr/share/doc".to_owned(), 0o640, EntryType::Regular),
            (long.trim_start_matches('/').to_owned(), 0o644, EntryType::Regular),
        ] {
            assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_refused() {
        let mut layer = Layer::default();
        layer.bytes("/a", 0o644, "").unwrap();
        layer.bytes("/a", 0o644, "").unwrap();
        assert!(layer.bytes("/a", 0o644, "other").is_err());
        assert!(layer.bytes("/a/b", 0o644, "").is_err());
        for path in ["/", "", "/x//y", "/x/../y", "/./x"] {
            assert!(layer.bytes(path, 0o644, "").is_err(), "{path}");
        }
        layer.directory("/d", 0o755).unwrap();
        layer.directory("/d", 0o700).unwrap();
        assert_eq!(layer.paths(), ["a", "d"]);
    }
}
