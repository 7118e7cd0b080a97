//! One PostgreSQL server in its directory: initialised, tuned for tests that throw everything away, reachable on 127.0.0.1 only.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    cluster::gomod,
    supervise::{
        children::{Children, Program},
        lifeline::Event,
        ports,
        tied::Farewell,
        workdir::{self, WorkDir},
    },
};

const PATIENCE: Duration = Duration::from_mins(1);
const LOG: &str = "postgres";

/// A running server.
pub(crate) struct Server<'a> {
    children: Children<'a>,
    port: u16,
    password: String,
}

impl<'a> Server<'a> {
    /// Initialises a data directory and starts a server on it.
    pub(crate) fn start(
        directory: &'a WorkDir,
        programs: &Path,
        executable: &Path,
        events: &Receiver<Event>,
    ) -> Result<Self> {
        let user = unprivileged()?;
        // What another user executes must lie where that user may look.
        let (programs, executable) = match user {
            None => (programs.to_path_buf(), executable.to_path_buf()),
            Some(_) => (
                link_installation(programs, &directory.file("installation"))?,
                link_file(executable, &directory.file("xtask"))?,
            ),
        };
        let password = random_hex()?;
        initialise(directory, &programs, user, &password)?;
        for attempt in 1.. {
            let [port] = ports::free(1)?.try_into().map_err(|_| anyhow!("no port"))?;
            let mut server = Self { children: Children::new(directory), port, password: password.clone() };
            let program = programs.join("postgres");
            server.children.start(&Program {
                name: LOG,
                path: &program,
                arguments: arguments(&directory.file("data"), port),
                farewell: Farewell::Quit,
                user,
                executable: &executable,
            })?;
            match server.wait(events) {
                Ok(()) => return Ok(server),
                // A free port may be taken between asking for it and using it.
                Err(_) if attempt < 3 && server.log().contains("Address already in use") => {
                    drop(server);
                    fs::remove_file(directory.file(&format!("{LOG}.log"))).context("cannot remove a log")?;
                }
                Err(error) => return Err(error),
            }
        }
        bail!("no free port for PostgreSQL")
    }

    /// Its address, with a superuser's credentials.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.children.check()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.children.log(LOG)).unwrap_or_default()
    }

    fn wait(&mut self, events: &Receiver<Event>) -> Result<()> {
        let start = Instant::now();
        while !self.log().contains("database system is ready to accept connections") {
            self.children.check()?;
            if matches!(events.try_recv(), Ok(Event::ParentGone | Event::Signal)) {
                bail!("stopped while starting");
            }
            if start.elapsed() > PATIENCE {
                bail!("PostgreSQL was not ready within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn arguments(data: &Path, port: u16) -> Vec<String> {
    let port = port.to_string();
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    for (name, value) in [
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        // Loopback only: a socket file would have to be somewhere short and shared.
        ("unix_socket_directories", ""),
        // The data is thrown away with the server.
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        // One pool per test.
        ("max_connections", "300"),
        ("shared_buffers", "128MB"),
        ("max_wal_size", "1GB"),
        ("autovacuum_naptime", "30s"),
    ] {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

fn initialise(directory: &WorkDir, programs: &Path, user: Option<(u32, u32)>, password: &str) -> Result<()> {
    let (data, password_file) = (directory.file("data"), directory.file("password"));
    fs::create_dir(&data).with_context(|| format!("cannot create {}", data.display()))?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", data.display()))?;
    workdir::write_private(&password_file, password)?;
    let mut command = Command::new(programs.join("initdb"));
    command
        .args([
            "--username=postgres",
            "--auth-host=password",
            "--auth-local=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(&data)
        .current_dir(directory.path())
        .stdin(Stdio::null());
    if let Some((uid, gid)) = user {
        for path in [&data, &password_file] {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        command.uid(uid).gid(gid);
    }
    let output = command.output().with_context(|| format!("cannot run {}", programs.join("initdb").display()))?;
    if !output.status.success() {
        bail!(
            "PostgreSQL's initdb failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::remove_file(&password_file).context("cannot remove the password file")
}

/// PostgreSQL refuses to run as root: as root, the user and group it runs as instead.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    choose_user(&users).map(Some).context("PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`: add one, or run as another user")
}

fn choose_user(users: &str) -> Option<(u32, u32)> {
    ["postgres", "nobody"].iter().find_map(|wanted| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields.as_slice() {
                [name, _, uid, gid, ..] if name == wanted => Some((uid.parse().ok()?, gid.parse().ok()?)),
                _ => None,
            }
        })
    })
}

/// Makes the installation that `programs` is the `bin` of reachable below `to`, by hard links where possible. PostgreSQL finds its libraries and its share
/// directory relative to its own place; an installation outside of the user's home (`/usr/lib`) is used where it is.
fn link_installation(programs: &Path, to: &Path) -> Result<PathBuf> {
    if programs.starts_with("/usr") || programs.starts_with("/opt") {
        return Ok(programs.to_path_buf());
    }
    let root = programs.parent().context("the directory of PostgreSQL's programs has no parent")?;
    link_tree(root, to)?;
    Ok(to.join(programs.file_name().unwrap_or_default()))
}

fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot create {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().with_context(|| format!("cannot read {}", source.display()))?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_symlink() {
            let destination = fs::read_link(&source).with_context(|| format!("cannot read {}", source.display()))?;
            std::os::unix::fs::symlink(destination, &target)
                .with_context(|| format!("cannot link {}", target.display()))?;
        } else {
            link_file(&source, &target)?;
        }
    }
    Ok(())
}

fn link_file(from: &Path, to: &Path) -> Result<PathBuf> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(to.to_path_buf())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(gomod::hexadecimal(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_runs_as_postgres_or_nobody() {
        let nobody = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\n";
        assert_eq!(choose_user(nobody), Some((65534, 65533)));
        assert_eq!(choose_user(&format!("{nobody}postgres:x:101:103::/:/bin/sh\n")), Some((101, 103)));
        assert_eq!(choose_user("root:x:0:0::/root:/bin/sh\n"), None);
    }

    #[test]
    fn an_installation_is_linked_with_its_tree() {
        let temporary = tempfile::tempdir().unwrap();
        let from = temporary.path().join("from");
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::create_dir_all(from.join("share/x")).unwrap();
        fs::write(from.join("bin/postgres"), "p").unwrap();
        fs::write(from.join("share/x/y"), "y").unwrap();
        std::os::unix::fs::symlink("y", from.join("share/x/z")).unwrap();
        let programs = link_installation(&from.join("bin"), &temporary.path().join("to")).unwrap();
        assert_eq!(fs::read_to_string(programs.join("postgres")).unwrap(), "p");
        assert_eq!(fs::read_to_string(programs.join("../share/x/z")).unwrap(), "y");
    }
}
