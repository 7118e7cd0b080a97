//! Layers from Debian packages: chosen files, what their symbolic links point to, and every shared library their programs need.
//!
//! Invariant: each file comes from a known version of a package, so that the bill of materials is complete; nothing that only exists on this machine
//! (generated files, local certificates) gets into an image.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{config::Platform, elf, layer::Layer};

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Debian's: `amd64`, `arm64` or `all`.
    pub(crate) architecture: String,
}

/// Unpacked packages, and which file belongs to which.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The directory that stands for `/`.
    root: PathBuf,
    /// By path below `/usr` where Debian merged directories into it.
    owners: BTreeMap<String, Package>,
}

/// Directories that are symbolic links into `/usr` since Debian 12.
const MERGED: [&str; 4] = ["/bin", "/lib", "/lib64", "/sbin"];

impl Tree {
    /// The packages that are installed on this machine.
    pub(crate) fn installed() -> Result<Self> {
        let status = command(
            Command::new("dpkg-query")
                .args(["--show", "--showformat=${db:Status-Status} ${binary:Package} ${Version} ${Architecture}\\n"]),
        )?;
        let mut tree = Self { root: PathBuf::from("/"), owners: BTreeMap::new() };
        for line in status.lines() {
            let [state, qualified, version, architecture] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("dpkg-query said {line:?}");
            };
            if state != "installed" {
                continue;
            }
            let name = qualified.split(':').next().unwrap_or(qualified);
            let package =
                Package { name: name.to_owned(), version: version.to_owned(), architecture: architecture.to_owned() };
            let directory = Path::new("/var/lib/dpkg/info");
            let list = [directory.join(format!("{qualified}.list")), directory.join(format!("{name}.list"))];
            let text = list
                .iter()
                .find_map(|path| fs::read_to_string(path).ok())
                .with_context(|| format!("dpkg has no list of the files of {name}"))?;
            tree.own(&package, text.lines());
        }
        Ok(tree)
    }

    /// Unpacked from archives (`.deb`) into `directory`.
    pub(crate) fn unpacked(archives: &[PathBuf], directory: &Path) -> Result<Self> {
        let mut tree = Self { root: directory.to_owned(), owners: BTreeMap::new() };
        for merged in MERGED {
            let real = format!("usr{merged}");
            fs::create_dir_all(directory.join(&real)).with_context(|| format!("cannot create {real}"))?;
            let link = directory.join(merged.trim_start_matches('/'));
            if !link.is_symlink() {
                std::os::unix::fs::symlink(&real, &link)
                    .with_context(|| format!("cannot create {}", link.display()))?;
            }
        }
        for archive in archives {
            let fields = command(
                Command::new("dpkg-deb")
                    .arg("--show")
                    .arg("--showformat=${Package} ${Version} ${Architecture}")
                    .arg(archive),
            )?;
            let [name, version, architecture] = fields.trim().split(' ').collect::<Vec<_>>()[..] else {
                bail!("dpkg-deb said {fields:?} of {}", archive.display());
            };
            let package =
                Package { name: name.to_owned(), version: version.to_owned(), architecture: architecture.to_owned() };
            // tar follows the links of merged directories with this; owners are ours to set.
            let listing = command(Command::new("sh").arg("-euc").arg(
                "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --verbose --quoting-style=literal --keep-directory-symlink --no-same-owner --directory \"$2\"",
            ).arg("sh").arg(archive).arg(directory))?;
            tree.own(&package, listing.lines().map(|line| line.trim_start_matches('.').trim_end_matches('/')));
        }
        Ok(tree)
    }

    fn own<'a>(&mut self, package: &Package, paths: impl Iterator<Item = &'a str>) {
        for path in paths.filter(|path| path.len() > 1) {
            self.owners.insert(canonical(path), package.clone());
        }
    }

    /// Adds files, or everything below directories, with what they need; returns the packages they are from.
    pub(crate) fn add(&self, layer: &mut Layer, paths: &[&str]) -> Result<BTreeSet<Package>> {
        let mut done = BTreeSet::new();
        let mut used = BTreeSet::new();
        let mut open: Vec<String> = paths.iter().map(|path| canonical(path)).collect();
        while !open.is_empty() {
            let mut programs = Vec::new();
            while let Some(path) = open.pop() {
                if !done.insert(path.clone()) {
                    continue;
                }
                let Some(package) = self.owners.get(&path) else {
                    bail!("{path} is in none of the packages: install the one that has it");
                };
                let here = self.root.join(path.trim_start_matches('/'));
                let failed = || format!("cannot read {} of {}", here.display(), package.name);
                let found = fs::symlink_metadata(&here).with_context(failed)?;
                if found.is_dir() {
                    layer.directory(&path, found.permissions().mode() & 0o777)?;
                    open.extend(self.below(&path));
                    continue;
                }
                used.insert(package.clone());
                if found.is_symlink() {
                    let target = fs::read_link(&here).with_context(failed)?;
                    let target = target.to_str().with_context(|| format!("{path} points to no text"))?;
                    open.push(canonical(&resolve(&path, target)));
                    layer.symlink(&path, target)?;
                } else {
                    layer.file(&path, found.permissions().mode() & 0o755, &here)?;
                    if elf::is_elf(&here)? {
                        programs.push(here);
                    }
                }
            }
            let needs = elf::needs(&programs)?;
            open.extend(needs.interpreters.iter().map(|path| canonical(path)));
            for library in &needs.libraries {
                open.push(self.library(library)?);
            }
        }
        for merged in MERGED {
            if done.iter().any(|path| path.starts_with(&format!("/usr{merged}/"))) {
                layer.symlink(merged, &format!("usr{merged}"))?;
            }
        }
        Ok(used)
    }

    /// The bundle of certificate authorities that `update-ca-certificates` makes of the package `ca-certificates` when nothing local is added.
    pub(crate) fn certificates(&self) -> Result<(Vec<u8>, Package)> {
        let below = self.below("/usr/share/ca-certificates/mozilla");
        let package = below
            .first()
            .and_then(|path| self.owners.get(path))
            .context("the package ca-certificates is missing: install it")?
            .clone();
        let mut bundle = Vec::new();
        for path in below.iter().filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "crt"))
        {
            let here = self.root.join(path.trim_start_matches('/'));
            bundle.extend(fs::read(&here).with_context(|| format!("cannot read {}", here.display()))?);
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
        Ok((bundle, package))
    }

    /// Whether each of the packages is here.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        let known: BTreeSet<&str> = self.owners.values().map(|package| package.name.as_str()).collect();
        names.iter().all(|name| known.contains(name))
    }

    /// What the packages have directly or indirectly below a directory, sorted.
    fn below(&self, directory: &str) -> Vec<String> {
        let prefix = format!("{directory}/");
        self.owners
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Where the dynamic linker finds a library without configuration.
    fn library(&self, name: &str) -> Result<String> {
        Platform::ALL
            .iter()
            .map(|platform| format!("/usr/lib/{}/{name}", platform.multiarch()))
            .chain([format!("/usr/lib/{name}")])
            .find(|path| self.owners.contains_key(path))
            .with_context(|| format!("the library {name} is in none of the packages: install the one that has it"))
    }
}

/// The path below `/usr`, where its directory is merged.
fn canonical(path: &str) -> String {
    let first = path.get(1..).and_then(|rest| rest.find('/')).map_or(path.len(), |at| at + 1);
    match path.get(..first) {
        Some(top) if MERGED.contains(&top) => format!("/usr{path}"),
        _ => path.to_owned(),
    }
}

/// Where a symbolic link at `path` leads.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    if !target.starts_with('/') {
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/").trim_start_matches('/'))
}

fn command(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_links_and_merged_directories() {
        for (path, target, led) in [
            ("/usr/lib/git-core/git", "../../bin/git", "/usr/bin/git"),
            ("/usr/lib64/ld.so", "/lib/x/ld.so", "/lib/x/ld.so"),
            ("/usr/lib/a", "./b", "/usr/lib/b"),
            ("/a", "b", "/b"),
        ] {
            assert_eq!(resolve(path, target), led);
        }
        for (path, below) in [
            ("/lib/x/y.so", "/usr/lib/x/y.so"),
            ("/lib64/ld.so", "/usr/lib64/ld.so"),
            ("/bin", "/usr/bin"),
            ("/library/x", "/library/x"),
            ("/usr/lib/x", "/usr/lib/x"),
        ] {
            assert_eq!(canonical(path), below);
        }
    }

    #[test]
    fn a_package_is_unpacked_and_its_links_followed() {
        if crate::environment::program("dpkg-deb").is_none() {
            return;
        }
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        for directory in ["DEBIAN", "lib", "usr/bin", "usr/share/ca-certificates/mozilla"] {
            fs::create_dir_all(source.join(directory)).unwrap();
        }
        fs::write(
            source.join("DEBIAN/control"),
            "Package: sample\nVersion: 1.2-3\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n",
        )
        .unwrap();
        fs::write(source.join("lib/data"), "data").unwrap();
        std::os::unix::fs::symlink("../../lib/data", source.join("usr/bin/link")).unwrap();
        for (name, text) in [("b.crt", "B"), ("a.crt", "A\n"), ("readme", "no")] {
            fs::write(source.join("usr/share/ca-certificates/mozilla").join(name), text).unwrap();
        }
        let archive = work.path().join("sample.deb");
        command(Command::new("dpkg-deb").arg("--build").arg("--root-owner-group").arg(&source).arg(&archive)).unwrap();

        let tree = Tree::unpacked(&[archive], &work.path().join("root")).unwrap();
        assert!(tree.has(&["sample"]) && !tree.has(&["sample", "other"]));
        let mut layer = Layer::default();
        let used = tree.add(&mut layer, &["/bin/link"]).unwrap();
        let sample = Package { name: "sample".into(), version: "1.2-3".into(), architecture: "all".into() };
        assert_eq!(used.into_iter().collect::<Vec<_>>(), [sample]);
        assert_eq!(layer.paths(), ["bin", "lib", "usr", "usr/bin", "usr/bin/link", "usr/lib", "usr/lib/data"]);
        assert_eq!(tree.certificates().unwrap().0, b"A\nB\n");
        let error = tree.add(&mut layer, &["/usr/bin/absent"]).unwrap_err().to_string();
        assert!(error.contains("/usr/bin/absent"), "{error}");
    }
}
