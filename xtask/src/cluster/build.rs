//! Builds programs from their pinned Go modules, one after the other, with progress, into the cache.
//!
//! Invariant: a program in the cache's `bin` is complete, because it is moved there only after its build succeeded.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    gomod::{self, Pins},
    modules::{Located, Module, Program},
};
use crate::{
    environment, progress,
    supervise::tied::{self, Farewell},
};

/// How often a line is printed while a program is being built.
const TICK: Duration = Duration::from_secs(15);
/// Go links large programs in the temporary directory.
const NEEDED_TEMPORARY: u64 = 1_500_000_000;

/// Builds what `cache/bin` lacks of the module's programs.
pub(crate) fn build(module: &Module, located: &Located) -> Result<()> {
    let directory = located.programs();
    let staging = located.cache.join("staging");
    for path in [&directory, &staging] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let _lock = exclusive(&located.cache)?;
    let missing = module.missing(&directory);
    if missing.is_empty() {
        return Ok(());
    }
    check_go(&located.pins)?;
    if missing.len() == module.programs.len() {
        check_space(module)?;
    }
    progress::note(&format!(
        "building {} once, for the test cluster{}",
        missing.iter().map(|program| program.shown()).collect::<Vec<_>>().join(", "),
        match (module.versioned, &located.pins.version) {
            (Some(name), Some(version)) => format!(" ({name} {version})"),
            _ => String::new(),
        }
    ));
    let start = Instant::now();
    let pins = module.instead.as_ref().map(|replacement| replacement.prepare(located)).transpose()?;
    for program in missing {
        install(module, located, program, pins.as_deref(), &staging)?;
        let (from, to) = (staging.join(program.name), directory.join(program.name));
        fs::rename(&from, &to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    }
    if module.programs.len() > 1 {
        progress::note(&format!("built: {}", progress::since(start)));
    }
    Ok(())
}

/// One build at a time per cache; a second one waits and then finds everything there.
fn exclusive(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::note("another process is building the test cluster's programs: waiting for it");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Go must be there, and new enough or able to fetch the version the module asks for.
fn check_go(pins: &Pins) -> Result<()> {
    let advice =
        format!("install Go {} or newer (any Go from 1.21 on fetches it by itself) and put it into PATH", pins.go);
    if environment::program("go").is_none() {
        bail!("Go is not installed, and the test cluster is built with it: {advice}");
    }
    let output = Command::new("go").arg("version").env("GOTOOLCHAIN", "local").output().context("cannot run go")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().nth(2).and_then(|word| word.strip_prefix("go")).unwrap_or("0").to_owned();
    let (wanted, numbers) = (gomod::version_numbers(&pins.go), gomod::version_numbers(&found));
    if numbers < (1, 21, 0) {
        bail!("Go {found} is too old to build the test cluster: {advice}");
    }
    if numbers < wanted {
        if environment::variable("GOTOOLCHAIN").is_some_and(|value| value == "local") {
            bail!(
                "Go {found} is older than the {} the test cluster needs, and GOTOOLCHAIN=local forbids fetching it: unset GOTOOLCHAIN, or {advice}",
                pins.go
            );
        }
        progress::note(&format!("Go {found} fetches the toolchain {} that the test cluster needs", pins.go));
    }
    Ok(())
}

fn check_space(module: &Module) -> Result<()> {
    let output = Command::new("go").args(["env", "GOCACHE"]).output().context("cannot run go")?;
    let cache = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !cache.is_empty() {
        let path = Path::new(&cache);
        enough_space(path, u64::from(module.needs) * 1_000_000, "set GOCACHE and GOMODCACHE to another disk")?;
    }
    enough_space(&std::env::temp_dir(), NEEDED_TEMPORARY, "set TMPDIR to another disk")
}

/// Fails if the file system of `path` has less than `needed` bytes for us. A directory that does not exist yet is judged by its nearest parent.
fn enough_space(path: &Path, needed: u64, otherwise: &str) -> Result<()> {
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return Ok(());
    };
    let Ok(found) = rustix::fs::statvfs(existing) else {
        return Ok(());
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed {
        bail!(
            "not enough disk space to build the test cluster: {} has {:.1} GB free and {:.1} GB are needed once: free some, or {otherwise}",
            path.display(),
            gigabytes(free),
            gigabytes(needed)
        );
    }
    Ok(())
}

fn gigabytes(bytes: u64) -> f64 {
    // To one decimal of what a disk holds; exact in f64 after the division.
    f64::from(u32::try_from(bytes / 100_000_000).unwrap_or(u32::MAX)) / 10.0
}

/// Builds one program, by another `go.mod` than the module's where one is given.
fn install(module: &Module, located: &Located, program: &Program, pins: Option<&Path>, staging: &Path) -> Result<()> {
    let shown = program.shown();
    let start = Instant::now();
    let stamps = (module.stamps)(located.pins.version.as_deref().unwrap_or_default());
    // A build must not make the machine unusable for what runs beside it.
    let mut command = tied::command(&environment::own_executable()?, Farewell::Term, Path::new("nice"));
    command
        .args(["-n", "10", "go", "install", "-v", "-trimpath", "-ldflags", format!("-s -w {stamps}").trim_end()])
        .args(pins.map(|pins| format!("-modfile={}", pins.display())))
        .arg(program.package)
        .current_dir(&located.source)
        .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOFLAGS", "-mod=readonly")])
        .env("GOBIN", staging)
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    if environment::variable("GOTOOLCHAIN").is_none() {
        // Some distributions forbid fetching toolchains by default.
        command.env("GOTOOLCHAIN", "auto");
    }
    let mut child = command.spawn().context("cannot start go")?;
    let (sender, lines) = channel();
    let reader = child.stderr.take().map(|errors| {
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
    });
    let last = follow(shown, start, &lines);
    if let Some(reader) = reader {
        // It ends with the pipe and cannot fail.
        let _ = reader.join();
    }
    let status = child.wait().context("cannot wait for go")?;
    if !status.success() {
        bail!(
            "building {shown} failed ({status}): {}\n{}",
            reason(&last),
            last.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
        );
    }
    progress::note(&format!("{shown}: built in {}", progress::since(start)));
    Ok(())
}

/// Prints progress until go closes its output; returns its last lines.
fn follow(shown: &str, start: Instant, lines: &Receiver<String>) -> Vec<String> {
    let (mut compiled, mut downloaded) = (0_u32, 0_u32);
    let mut last = Vec::new();
    let mut next = start + TICK;
    loop {
        match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if line.starts_with("go: downloading") {
                    downloaded += 1;
                } else {
                    compiled += 1;
                    last.push(line);
                    if last.len() > 12 {
                        last.remove(0);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let modules =
                    if downloaded == 0 { String::new() } else { format!(", {downloaded} modules downloaded") };
                progress::note(&format!("{shown}: {}, {compiled} packages compiled{modules}", progress::since(start)));
                next += TICK;
            }
            Err(RecvTimeoutError::Disconnected) => return last,
        }
    }
}

/// A sentence for the usual failures, from what go printed.
fn reason(lines: &[String]) -> &'static str {
    let text = lines.join("\n").to_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if has(&["no space left on device", "disk quota exceeded"]) {
        "the disk is full: free about 6 GB, or set GOCACHE and TMPDIR to another disk, and run the command again (it goes on where it stopped)"
    } else if has(&[
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "connection reset",
        "tls handshake",
        "proxyconnect",
        "bad gateway",
        "service unavailable",
    ]) {
        "the Go module proxy cannot be reached: check the network, or set GOPROXY to one that can, and run the command again (it goes on where it stopped)"
    } else if has(&["checksum mismatch", "security error"]) {
        "a module is not what go.sum says: do not use it; check GOPROXY"
    } else if has(&["cannot allocate memory", "signal: killed"]) {
        "there was not enough memory (about 3 GB are needed)"
    } else {
        "go said:"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_failures_get_a_sentence() {
        let sentence = |line: &str| reason(&[line.to_owned()]);
        assert!(sentence("write /tmp/x: no space left on device").contains("disk is full"));
        assert!(sentence("Get \"x\": dial tcp 1.2.3.4:443: i/o timeout").contains("cannot be reached"));
        assert_eq!(sentence("x.go:1: syntax error"), "go said:");
    }

    #[test]
    fn a_full_disk_is_told_before_the_build() {
        let text = enough_space(Path::new("/tmp/does/not/exist"), u64::MAX, "set TMPDIR").unwrap_err().to_string();
        assert!(text.contains("not enough disk space") && text.contains("set TMPDIR"), "{text}");
        enough_space(Path::new("/tmp"), 1, "").unwrap();
    }
}
