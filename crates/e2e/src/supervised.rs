//! What `xtask` runs for a test: tied to us by its standard input, heard by the lines it prints.

use crate::folder::Folder;
use crate::{environment, process};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A running supervisor with a folder of its own; dropping it stops it and all it started.
#[derive(Debug)]
pub struct Supervised {
    what: &'static str,
    folder: Folder,
    child: Child,
    lifeline: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
}

impl Supervised {
    /// Starts `xtask` with what `arguments` makes of the folder.
    pub fn start(what: &'static str, arguments: impl FnOnce(&Folder, &mut Command)) -> Result<Self> {
        let folder = Folder::new("supervised")?;
        let errors = File::create(folder.file("xtask.log")).with_context(|| format!("cannot write {what}'s log"))?;
        let mut command = Command::new(environment::xtask()?);
        arguments(&folder, &mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = process::spawn(command)?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take().with_context(|| format!("{what} has no output"))?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { what, folder, child, lifeline, lines: Mutex::new(lines) })
    }

    /// The next line it prints.
    pub fn line(&mut self, limit: Duration) -> Result<String> {
        let received = tokio::task::block_in_place(|| {
            self.lines.get_mut().map_err(|_| RecvTimeoutError::Disconnected)?.recv_timeout(limit)
        });
        let (what, log) = (self.what, || fs::read_to_string(self.folder.file("xtask.log")).unwrap_or_default());
        match received {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{what} said nothing within {} s:\n{}", limit.as_secs(), process::tail(&log(), 20))
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{what} ended:\n{}", process::tail(&log(), 20)),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.lifeline = None;
        // It ends by itself.
        let _ = self.child.wait();
    }
}
