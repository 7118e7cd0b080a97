//! Asks a name server for the IPv4 addresses of a name (RFC 1035), from the host, past the machine's own resolver.
//!
//! Invariant: an answer to another question is no answer.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail};

const ID: [u8; 2] = [0x4b, 0x4f];
/// Type A, class IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];

/// The addresses; none if there is no such name.
pub(crate) fn lookup(server: &str, name: &str) -> Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).context("cannot set a timeout")?;
    socket.connect((server, 53)).with_context(|| format!("cannot reach {server}"))?;
    socket.send(&question(name)?).with_context(|| format!("cannot ask {server}"))?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).with_context(|| format!("{server} gave no answer"))?;
    read(answer.get(..length).unwrap_or_default()).with_context(|| format!("{server} gave no DNS answer for {name}"))
}

fn question(name: &str) -> Result<Vec<u8>> {
    // One question, recursion desired.
    let mut message = [&ID[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        let Some(length) = length else { bail!("{name:?} is no DNS name") };
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(A_IN);
    Ok(message)
}

fn read(message: &[u8]) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    if message.get(..2)? != ID {
        return None;
    }
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = after_name(message, at)?;
        let kind = message.get(at..at + 4)?;
        let length = usize::from(number(at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        if let (true, Ok(address)) = (kind == A_IN, <[u8; 4]>::try_from(data)) {
            found.push(IpAddr::V4(Ipv4Addr::from(address)));
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends: at its zero, or after a reference to another place.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_follow_the_rfc() {
        let mut message = question("web.local").unwrap();
        assert_eq!(&message[12..], b"\x03web\x05local\x00\x00\x01\x00\x01");
        assert_eq!(read(&message), Some(vec![]));
        message[7] = 2;
        // A reference to the question's name, type A and CNAME, one minute to live.
        message.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c");
        message.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x01\x02\x03");
        assert_eq!(read(&message), Some(vec!["10.1.2.3".parse().unwrap()]));
        assert_eq!(read(&message[..message.len() - 1]), None);
        question("a..b").unwrap_err();
    }
}
