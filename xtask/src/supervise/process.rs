//! Signals to processes by id, and who a process is. Never by name: only what this tool started may be ended by it.

use std::{path::Path, process::Command};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(id: u32, signal: Signal) {
    if let Some(pid) = pid(id) {
        // The only failures are "no such process", which is what we want, and "not ours", which `belongs_to` excludes.
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to every process of the group that `id` leads.
pub(crate) fn signal_group(id: u32, signal: Signal) {
    if let Some(pid) = pid(id) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Whether the process still is one that was started for `directory`: its arguments name the directory. Ids are reused, so a bare id proves nothing.
pub(crate) fn belongs_to(id: u32, directory: &Path) -> bool {
    let directory = directory.to_string_lossy();
    if let Ok(arguments) = std::fs::read(format!("/proc/{id}/cmdline")) {
        return String::from_utf8_lossy(&arguments).contains(directory.as_ref());
    }
    Command::new("ps")
        .args(["-ww", "-p", &id.to_string(), "-o", "args="])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(directory.as_ref()))
}
