//! The programs of one supervisor: started with a log file each, watched, ended in reverse order.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    process,
    tied::{self, Farewell},
    workdir::WorkDir,
};

/// A program to start.
pub(crate) struct Program<'a> {
    /// As it appears in messages and in the log's name.
    pub(crate) name: &'static str,
    pub(crate) path: &'a Path,
    pub(crate) arguments: Vec<String>,
    pub(crate) farewell: Farewell,
    /// Runs as this user and group instead of our own.
    pub(crate) user: Option<(u32, u32)>,
    /// The copy of this tool that ties the program; one that `user` can execute.
    pub(crate) executable: &'a Path,
}

struct Running {
    name: &'static str,
    child: Child,
    farewell: Farewell,
}

/// The running programs; dropping it ends them.
pub(crate) struct Children<'a> {
    directory: &'a WorkDir,
    running: Vec<Running>,
}

impl<'a> Children<'a> {
    pub(crate) fn new(directory: &'a WorkDir) -> Self {
        Self { directory, running: Vec::new() }
    }

    /// Where a program writes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.file(&format!("{name}.log"))
    }

    /// Starts a program in the instance's directory, in a process group of its own (a Ctrl-C in the terminal is for the supervisor to handle). Call from the main thread only, see [`tied::command`].
    pub(crate) fn start(&mut self, program: &Program<'_>) -> Result<()> {
        use std::os::unix::process::CommandExt as _;

        let path = self.log(program.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let errors = log.try_clone().with_context(|| format!("cannot write {}", path.display()))?;
        let mut command: Command = tied::command(program.executable, program.farewell, program.path);
        command
            .args(&program.arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        if let Some((user, group)) = program.user {
            command.uid(user).gid(group);
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {} ({})", program.name, program.path.display()))?;
        self.directory.record(child.id())?;
        self.running.push(Running { name: program.name, child, farewell: program.farewell });
        Ok(())
    }

    /// The first program that has ended by itself, with how.
    pub(crate) fn ended(&mut self) -> Option<(&'static str, ExitStatus)> {
        self.running
            .iter_mut()
            .find_map(|running| running.child.try_wait().ok().flatten().map(|status| (running.name, status)))
    }

    /// Fails if a program has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some((name, status)) => {
                bail!("{name} ended unexpectedly ({status}); the end of its log:\n{}", tail(&self.log(name), 15))
            }
        }
    }

    /// Whether a program of this name was started and not stopped.
    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.running.iter().any(|running| running.name == name)
    }

    /// Ends one program by name and forgets it; true if it was running.
    pub(crate) fn stop(&mut self, name: &str) -> bool {
        let Some(position) = self.running.iter().position(|running| running.name == name) else {
            return false;
        };
        end(&mut self.running.remove(position));
        true
    }

    /// Ends all, the last started first.
    pub(crate) fn stop_all(&mut self) {
        while let Some(mut running) = self.running.pop() {
            end(&mut running);
        }
    }
}

impl Drop for Children<'_> {
    fn drop(&mut self) {
        self.stop_all();
    }
}

/// Says farewell, waits up to five seconds, then kills.
fn end(running: &mut Running) {
    process::signal(running.child.id(), running.farewell.signal());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        match running.child.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    // Both fail only if the process is gone.
    let _ = running.child.kill();
    let _ = running.child.wait();
}

/// The last lines of a file, cut to a readable width.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let start = all.len().saturating_sub(lines);
    let shown: Vec<String> =
        all.iter().skip(start).map(|line| format!("  | {}", line.chars().take(300).collect::<String>())).collect();
    if shown.is_empty() { format!("  | ({} is empty)", path.display()) } else { shown.join("\n") }
}
