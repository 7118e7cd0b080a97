//! Talking to the supervisor of a running cluster: a socket in its directory that takes the lines its standard input takes.
//!
//! Invariant: one line, one answer; the directory is its owner's alone, so nobody else can speak here.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

const FILE: &str = "control";

/// The supervisor's end.
pub(crate) struct Control {
    listener: UnixListener,
}

impl Control {
    /// Listens in the cluster's directory.
    pub(crate) fn listen(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        listener.set_nonblocking(true).context("cannot set an option")?;
        Ok(Self { listener })
    }

    /// A line somebody sent, if any, and whom to answer.
    pub(crate) fn asked(&self) -> Option<(String, UnixStream)> {
        let (stream, _) = self.listener.accept().ok()?;
        // Whoever breaks off is not answered.
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).ok()?;
        Some((line.trim().to_owned(), stream))
    }
}

/// Answers; an asker that is gone needs no answer.
pub(crate) fn answer(mut stream: UnixStream, line: &str) {
    let _ = writeln!(stream, "{line}");
}

/// Sends a line to a cluster's supervisor and waits until it has done that.
pub(crate) fn ask(directory: &Path, line: &str) -> Result<()> {
    let mut stream = UnixStream::connect(directory.join(FILE)).context("the cluster's supervisor does not answer")?;
    stream.set_read_timeout(Some(Duration::from_mins(4))).context("cannot set a timeout")?;
    writeln!(stream, "{line}").context("cannot ask the cluster's supervisor")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the cluster's supervisor gave no answer")?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => bail!("the cluster's supervisor gave no answer"),
        other => bail!("{}", other.trim_start_matches("error: ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_asked_and_answered() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::listen(directory.path()).unwrap();
        let path = directory.path().to_owned();
        let asker = std::thread::spawn(move || {
            [ask(&path, "stop etcd"), ask(&path, "stop x")].map(|outcome| outcome.map_err(|error| error.to_string()))
        });
        for (expected, said) in [("stop etcd", "ok"), ("stop x", "error: x is not running")] {
            let (line, stream) = (0..500)
                .find_map(|_| {
                    std::thread::sleep(Duration::from_millis(5));
                    control.asked()
                })
                .unwrap();
            assert_eq!(line, expected);
            answer(stream, said);
        }
        assert_eq!(asker.join().unwrap(), [Ok(()), Err("x is not running".to_owned())]);
    }
}
