//! What an instance made outside of its directory: containers' processes and cgroups, mounts, a network interface, kernel settings, links to logs.
//!
//! Invariant: only what the directory's `outside` file names is touched; it is written before the first of these things is made, so a supervisor that was killed
//! leaves a complete account behind.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process;

const FILE: &str = "outside";
const CGROUPS: &str = "/sys/fs/cgroup";

/// What will be made.
pub(crate) struct Outside<'a> {
    /// A top-level control group that holds nothing else.
    pub(crate) cgroup: &'a str,
    /// A network interface of the host.
    pub(crate) interface: &'a str,
    /// Settings below `/proc/sys` that programs change for the whole machine.
    pub(crate) settings: &'a [&'a str],
    /// What is used by others too, the inner first: removed when it did not exist before and, if it is a directory, is empty again.
    pub(crate) shared: &'a [&'a str],
    /// A directory of others: small files in it that name ours are ours.
    pub(crate) records: &'a str,
}

/// Writes the account, with the settings' present values.
pub(crate) fn note(directory: &Path, outside: &Outside<'_>) -> Result<()> {
    let settings: BTreeMap<&str, String> = outside
        .settings
        .iter()
        .filter_map(|name| Some((*name, fs::read_to_string(setting(name)).ok()?.trim().to_owned())))
        .collect();
    let new: Vec<&str> = outside.shared.iter().copied().filter(|path| !Path::new(path).exists()).collect();
    let account = json!({
        "cgroup": outside.cgroup,
        "interface": outside.interface,
        "settings": settings,
        "shared": outside.shared,
        "records": outside.records,
        "new": new,
    });
    let path = directory.join(FILE);
    fs::write(&path, account.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Undoes all of it; the directory's own programs have ended. Nothing to do for an instance that made nothing outside.
pub(crate) fn clean(directory: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(directory.join(FILE)) else {
        return Ok(());
    };
    let account: Value = serde_json::from_str(&text).unwrap_or_default();
    let text_of = |name: &str| account.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list_of = |name: &str| -> Vec<&str> {
        account.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    end_shims(directory);
    if let Some(cgroup) = text_of("cgroup") {
        end_cgroup(cgroup);
    }
    unmount_below(directory)?;
    remove_sockets(directory);
    if let Some(cgroup) = text_of("cgroup") {
        remove_cgroup(cgroup);
    }
    if let Some(interface) = text_of("interface").filter(|name| Path::new("/sys/class/net").join(name).exists()) {
        // Its namespace is gone with the last process in it, and then so is the interface: this is for the time in between.
        quiet("ip", &["link", "delete", interface]);
    }
    for (name, value) in account.get("settings").and_then(Value::as_object).into_iter().flatten() {
        // A setting that cannot be written was not changed either.
        let _ = fs::write(setting(name), value.as_str().unwrap_or_default());
    }
    for shared in list_of("shared") {
        remove_links(Path::new(shared), directory);
    }
    if let Some(records) = text_of("records") {
        remove_records(Path::new(records), directory);
    }
    for new in list_of("new") {
        // Fails while somebody else uses it, as it should.
        let _ = match fs::symlink_metadata(new) {
            Ok(found) if !found.is_dir() => fs::remove_file(new),
            _ => fs::remove_dir(new),
        };
    }
    Ok(())
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// containerd's shims outlive it, and name the directory in their arguments.
fn end_shims(directory: &Path) {
    let shims: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| {
            fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|arguments| {
                arguments
                    .split(|byte| *byte == 0)
                    .next()
                    .is_some_and(|program| program.windows(15).any(|name| name == b"containerd-shim"))
            }) && process::belongs_to(*id, directory)
        })
        .collect();
    end(&shims, |id| process::belongs_to(id, directory));
}

/// Kills the processes and waits until they are gone.
fn end(ids: &[u32], alive: impl Fn(u32) -> bool) {
    for id in ids {
        process::signal(*id, Signal::KILL);
    }
    let start = Instant::now();
    while ids.iter().any(|id| alive(*id)) && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The group in each hierarchy (cgroup v1), or the one (v2).
fn cgroup_roots(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    hierarchies
        .map(|hierarchy| hierarchy.join(name))
        .chain([Path::new(CGROUPS).join(name)])
        .filter(|path| !name.contains('/') && path.join("cgroup.procs").exists())
        .collect()
}

/// The group and all below, the deepest first.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| tree(&entry.path()))
        .collect();
    found.push(root.to_owned());
    found
}

fn members(name: &str) -> Vec<u32> {
    let mut found: Vec<u32> = cgroup_roots(name)
        .iter()
        .flat_map(|root| tree(root))
        .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn end_cgroup(name: &str) {
    let start = Instant::now();
    loop {
        let left = members(name);
        if left.is_empty() || start.elapsed() > Duration::from_secs(10) {
            return;
        }
        for id in left {
            process::signal(id, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn remove_cgroup(name: &str) {
    for root in cgroup_roots(name) {
        for group in tree(&root) {
            for _ in 0..50 {
                match fs::remove_dir(&group) {
                    // A process that has just ended is counted a moment longer.
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        thread::sleep(Duration::from_millis(10));
                    }
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

/// Unmounts what is mounted below the directory. Must succeed before the directory may be removed: else what is mounted there would be emptied.
fn unmount_below(directory: &Path) -> Result<()> {
    for _ in 0..5 {
        let mounts = mounts_below(directory)?;
        if mounts.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["--lazy".to_owned(), "--".to_owned()];
        arguments.extend(mounts.into_iter().rev());
        quiet("umount", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let left = mounts_below(directory)?;
    if left.is_empty() { Ok(()) } else { bail!("cannot unmount {}: unmount it and run this again", left.join(", ")) }
}

fn mounts_below(directory: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let prefix = format!("{}/", directory.display());
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| path.replace("\\040", " "))
        .filter(|path| path.starts_with(&prefix))
        .collect())
}

/// containerd's shims listen in `/run/containerd/s`, and say where in a file each.
fn remove_sockets(directory: &Path) {
    let tasks = directory.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    for task in fs::read_dir(tasks).into_iter().flatten().filter_map(Result::ok) {
        let Ok(address) = fs::read_to_string(task.path().join("address")) else { continue };
        let socket = Path::new(address.trim().trim_start_matches("unix://"));
        if fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
            // Gone already is as good.
            let _ = fs::remove_file(socket);
        }
    }
}

/// Links of a shared directory that point into ours.
fn remove_links(shared: &Path, directory: &Path) {
    for entry in fs::read_dir(shared).into_iter().flatten().filter_map(Result::ok) {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(directory)) {
            // Gone already is as good.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Files that name our directory: each is of one pod of ours.
fn remove_records(records: &Path, directory: &Path) {
    let name = format!("{}/", directory.display());
    for entry in fs::read_dir(records).into_iter().flatten().filter_map(Result::ok) {
        let small = entry.metadata().is_ok_and(|found| found.is_file() && found.len() < 1 << 20);
        if small && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&name)) {
            // Gone already is as good.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Runs a program whose failure is seen by its effect missing.
fn quiet(program: &str, arguments: &[&str]) {
    let _ =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_into_the_directory_and_new_empty_directories_go() {
        let temporary = tempfile::tempdir().unwrap();
        let (directory, shared) = (temporary.path().join("cluster-x"), temporary.path().join("containers"));
        let (new, socket, records) =
            (temporary.path().join("new"), temporary.path().join("new/socket"), temporary.path().join("records"));
        for path in [&directory, &shared, &records] {
            fs::create_dir(path).unwrap();
        }
        let [first, second, third, results] = [&shared, &socket, &new, &records].map(|path| path.display().to_string());
        let shared_ones = [first.as_str(), second.as_str(), third.as_str()];
        let outside = Outside {
            cgroup: "",
            interface: "",
            settings: &["kernel.ostype"],
            shared: &shared_ones,
            records: &results,
        };
        note(&directory, &outside).unwrap();
        fs::create_dir(&new).unwrap();
        fs::write(&socket, "").unwrap();
        fs::write(records.join("ours"), format!(r#"{{"sandbox":"{}/netns/1"}}"#, directory.display())).unwrap();
        fs::write(records.join("theirs"), r#"{"sandbox":"/elsewhere/cluster-x/netns/1"}"#).unwrap();
        std::os::unix::fs::symlink(directory.join("log"), shared.join("ours")).unwrap();
        std::os::unix::fs::symlink("/elsewhere", shared.join("theirs")).unwrap();
        clean(&directory).unwrap();
        assert!(fs::symlink_metadata(shared.join("ours")).is_err());
        assert!(fs::symlink_metadata(shared.join("theirs")).is_ok());
        assert!(!new.exists() && shared.exists());
        assert!(!records.join("ours").exists() && records.join("theirs").exists());
    }

    #[test]
    fn a_directory_without_an_account_is_left_alone() {
        clean(tempfile::tempdir().unwrap().path()).unwrap();
    }

    #[test]
    fn settings_are_paths_of_proc() {
        assert_eq!(setting("kernel.keys.root_maxkeys"), Path::new("/proc/sys/kernel/keys/root_maxkeys"));
    }
}
