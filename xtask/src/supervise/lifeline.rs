//! The end of a pipe that a supervisor reads: while its parent lives it stays open. Also turns signals into events, so that one loop sees everything.

use std::{
    io::{BufRead as _, stdin},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// What a supervisor must react to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The parent closed its end or died.
    ParentGone,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
    /// A line that the parent wrote.
    Line(String),
}

/// Whether standard input is the lifeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    /// End of standard input ends the supervisor.
    Stdin,
    /// Only a signal does; a closed terminal (SIGHUP) is ignored.
    Detached,
}

/// Starts watching; events arrive until the process ends.
pub(crate) fn watch(tie: Tie) -> Result<Receiver<Event>> {
    let (sender, receiver) = channel();
    watch_signals(sender.clone(), tie)?;
    if tie == Tie::Stdin {
        thread::spawn(move || {
            for line in stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(Event::Line(line)).is_err() {
                    return;
                }
            }
            // The receiver lives as long as the supervisor.
            let _ = sender.send(Event::ParentGone);
        });
    }
    Ok(receiver)
}

/// Only the signals, for commands that a person runs in a terminal.
pub(crate) fn signals() -> Result<Receiver<Event>> {
    let (sender, receiver) = channel();
    watch_signals(sender, Tie::Stdin)?;
    Ok(receiver)
}

fn watch_signals(sender: Sender<Event>, tie: Tie) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP && tie == Tie::Detached {
                continue;
            }
            if sender.send(Event::Signal).is_err() {
                return;
            }
        }
    });
    Ok(())
}
