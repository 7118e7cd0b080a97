//! Nothing is left behind: real processes, really killed.
#![expect(clippy::unwrap_used, reason = "a test; clippy knows only the functions marked #[test] as tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const PATIENCE: Duration = Duration::from_secs(20);

/// The parent of a supervisor as far as the supervisor can tell: it alone holds the other end of the lifeline.
struct Holder {
    process: Child,
}

impl Holder {
    fn new() -> (Self, Stdio) {
        let mut process = Command::new("sleep").arg("300").stdout(Stdio::piped()).spawn().unwrap();
        let end = process.stdout.take().unwrap();
        (Self { process }, end.into())
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that notes its own id and that of a child of its own, and then stays.
fn stayer(directory: &Path) -> Vec<String> {
    let script = format!(
        "sleep 300 & echo $! > {0}/grandchild; echo $$ > {0}/child.new; mv {0}/child.new {0}/child; wait",
        directory.display()
    );
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

fn pid_in(path: &Path) -> u32 {
    eventually("the program's id", || fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()))
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A zombie, which only its parent can bury, does not run.
fn runs(id: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &id.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

fn supervise(stdin: Stdio, directory: &Path) -> Child {
    Command::new(XTASK).args(["supervise", "--grace", "2", "--"]).args(stayer(directory)).stdin(stdin).spawn().unwrap()
}

fn kill_hard(id: u32) {
    kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_killed_parent_takes_the_program_and_its_children_along() {
    let directory = TempDir::new().unwrap();
    let (mut parent, lifeline) = Holder::new();
    let mut supervisor = supervise(lifeline, directory.path());
    let (child, grandchild) = (pid_in(&directory.path().join("child")), pid_in(&directory.path().join("grandchild")));
    assert!(runs(child) && runs(grandchild));
    parent.kill();
    supervisor.wait().unwrap();
    eventually("the end of both", || (!runs(child) && !runs(grandchild)).then_some(()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_supervisor_takes_the_program_along() {
    let directory = TempDir::new().unwrap();
    let (_parent, lifeline) = Holder::new();
    let mut supervisor = supervise(lifeline, directory.path());
    let child = pid_in(&directory.path().join("child"));
    let grandchild = pid_in(&directory.path().join("grandchild"));
    kill_hard(supervisor.id());
    supervisor.wait().unwrap();
    eventually("the end of the program", || (!runs(child)).then_some(()));
    // Only the program itself is tied to the supervisor; what it started is its own to end.
    kill_hard(grandchild);
}

#[test]
fn the_exit_code_is_the_programs_own() {
    let (_parent, lifeline) = Holder::new();
    let status = Command::new(XTASK).args(["supervise", "--", "sh", "-c", "exit 7"]).stdin(lifeline).status().unwrap();
    assert_eq!(status.code(), Some(7));
    let (_parent, lifeline) = Holder::new();
    let output = Command::new(XTASK).args(["supervise", "--", "/no/such/program"]).stdin(lifeline).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot start /no/such/program"));
}

/// Runs only within `cargo xtask test`, which has built the control plane.
#[test]
fn a_killed_harness_leaves_no_control_plane_behind() {
    let Some(programs) = control_plane() else {
        eprintln!("not run: KUBEOP_TEST_CLUSTER_BIN is not set (use `cargo xtask test`)");
        return;
    };
    let temporary = TempDir::new().unwrap();
    let kubeconfig = temporary.path().join("kubeconfig");
    let (mut harness, lifeline) = Holder::new();
    let mut supervisor = Command::new(XTASK)
        .args(["cluster", "run", "--name", "killed", "--kubeconfig"])
        .arg(&kubeconfig)
        .env("KUBEOP_TEST_CLUSTER_BIN", &programs)
        .env("TMPDIR", temporary.path())
        .stdin(lifeline)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    let instance = fs::read_dir(temporary.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap()
        .join("cluster-killed");
    let pids: Vec<u32> =
        fs::read_to_string(instance.join("pids")).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5, "the supervisor and four programs");
    assert!(pids.iter().all(|id| runs(*id)));
    let answer = Command::new(programs.join("kubectl"))
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args(["get", "--raw=/readyz"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "ok");

    harness.kill();
    supervisor.wait().unwrap();
    assert!(pids.iter().all(|id| !runs(*id)));
    assert!(!instance.exists() && !kubeconfig.exists());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the contract between `cargo xtask test` and the tests is environment variables"
)]
fn control_plane() -> Option<PathBuf> {
    std::env::var_os("KUBEOP_TEST_CLUSTER_BIN").map(PathBuf::from)
}
