//! Verification: reads every chain from its beginning and tells what does not hold.
//!
//! Invariant: needs memory for a page of records, not for the log; what is sealed while it reads is read too, and no finding.

use super::chain::{hash, is_ours, name};
use crate::keys::Keyring;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::id::TenantId;
use kubeop_core::{Error, Result, hex};
use kubeop_store::Store;
use kubeop_store::audit::{self, AuditRecord, Chain};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

const PAGE: u32 = 1000;
/// A record that waits longer for its seal is worth a word.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// The end of a chain as somebody noted it: `<platform or tenant id> <seq> <hash>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose; none: the platform's.
    pub tenant_id: Option<TenantId>,
    /// The place.
    pub seq: i64,
    /// The hash there, as hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", name(self.tenant_id), self.seq, self.hash)
    }
}

impl Head {
    /// Reads a line as it is displayed.
    pub fn parse(line: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(format!(
                "{:?} is not a noted head: \"platform\" or a tenant's id, a number and 64 hexadecimal digits are needed",
                kubeop_core::id::shorten(line)
            ))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [chain, seq, hash] = words.as_slice() else { return Err(refuse()) };
        let tenant_id = if *chain == "platform" { None } else { Some(TenantId::parse(chain).map_err(|_| refuse())?) };
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(refuse)?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        Ok(Self { tenant_id, seq, hash: hash.to_ascii_lowercase() })
    }
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which chain; none: the platform's.
    pub tenant_id: Option<TenantId>,
    /// What, in a sentence.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}: {}", name(self.tenant_id), self.what)
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Chains.
    pub chains: u64,
    /// Sealed records.
    pub records: u64,
    /// What does not hold.
    pub findings: u64,
    /// Records that wait for their seal longer than they should: is a manager running?
    pub waiting: i64,
}

/// The ends of all chains that have a record, for noting them elsewhere.
pub async fn heads(store: &Store, mut tell: impl FnMut(Head)) -> Result<()> {
    let mut after = None;
    loop {
        let page = audit::chains(&mut store.read().await?.conn(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.tenant_id);
        for chain in page.into_iter().filter(|chain| chain.seq > 0) {
            tell(Head { tenant_id: chain.tenant_id, seq: chain.seq, hash: hex::encode(&chain.hash) });
        }
    }
}

/// Verifies every chain. Without a keyring the ends of chains are not checked for who wrote them; `noted` are heads from elsewhere.
pub async fn verify(
    store: &Store,
    keyring: Option<&Keyring>,
    noted: &[Head],
    now: Timestamp,
    mut tell: impl FnMut(Finding),
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut findings = 0;
    let mut tell = |finding: Finding| {
        findings += 1;
        tell(finding);
    };
    let mut unseen: BTreeSet<Option<TenantId>> = noted.iter().map(|head| head.tenant_id).collect();
    let mut after = None;
    loop {
        let page = audit::chains(&mut store.read().await?.conn(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.tenant_id);
        for chain in page {
            summary.chains += 1;
            unseen.remove(&chain.tenant_id);
            let mut walk = Walk::new(chain.tenant_id, noted);
            walk.through(store, chain, keyring, &mut tell).await?;
            summary.records += walk.read;
        }
    }
    for tenant_id in unseen {
        tell(Finding { tenant_id, what: "was noted and is not there: the chain was removed".to_owned() });
    }
    if let Some(what) = missing_chains(store).await? {
        tell(Finding { tenant_id: None, what });
    }
    outside_of_chains(store, &mut tell).await?;
    summary.findings = findings;
    summary.waiting = audit::count_unsealed(&mut store.read().await?.conn(), now - PATIENCE).await?;
    Ok(summary)
}

/// The platform's end tells how many chains there are.
async fn missing_chains(store: &Store) -> Result<Option<String>> {
    let mut read = store.read().await?;
    loop {
        let told = audit::chain(&mut read.conn(), None).await?.map_or(0, |chain| chain.chains);
        let there = audit::count_chains(&mut read.conn()).await?;
        let again = audit::chain(&mut read.conn(), None).await?.map_or(0, |chain| chain.chains);
        if told == again {
            return Ok(
                (told != there).then(|| format!("tells of {told} chains, {there} are there: one was removed or added"))
            );
        }
    }
}

/// What is sealed without being in a chain: the way through the chains passes it by.
async fn outside_of_chains(store: &Store, tell: &mut impl FnMut(Finding)) -> Result<()> {
    let mut after = None;
    loop {
        let mut read = store.read().await?;
        let Some(tenant_id) = audit::next_sealed(&mut read.conn(), after).await? else { return Ok(()) };
        after = Some(tenant_id);
        // Records and the end are written together, so that an end which is read later is there.
        if audit::chain(&mut read.conn(), tenant_id).await?.is_none() {
            tell(Finding {
                tenant_id,
                what: "has sealed records and no end: they were added, or it was removed".to_owned(),
            });
        }
        let misplaced = audit::count_misplaced(&mut read.conn(), tenant_id).await?;
        if misplaced > 0 {
            let what = format!("{misplaced} records are sealed at places before the first: they were added");
            tell(Finding { tenant_id, what });
        }
    }
}

/// The way through one chain.
struct Walk {
    tenant_id: Option<TenantId>,
    noted: BTreeMap<i64, String>,
    /// The place before, and the hash that is stored there.
    place: i64,
    stored: Vec<u8>,
    read: u64,
}

impl Walk {
    fn new(tenant_id: Option<TenantId>, noted: &[Head]) -> Self {
        let noted = noted.iter().filter(|head| head.tenant_id == tenant_id);
        let noted = noted.map(|head| (head.seq, head.hash.clone())).collect();
        Self { tenant_id, noted, place: 0, stored: Vec::new(), read: 0 }
    }

    async fn through(
        &mut self,
        store: &Store,
        mut end: Chain,
        keyring: Option<&Keyring>,
        tell: &mut impl FnMut(Finding),
    ) -> Result<()> {
        loop {
            let page = audit::sealed(&mut store.read().await?.conn(), self.tenant_id, self.place, PAGE).await?;
            if page.is_empty() && self.place >= end.seq {
                break;
            }
            if page.is_empty() {
                // `end` was read before this page: what it tells of was there.
                let what = format!("{} removed at the end", self.gap(end.seq + 1));
                tell(self.finding(what));
                return Ok(());
            }
            for record in &page {
                self.step(record, tell)?;
            }
            // Records and the end are written together, so that an end which is read later tells of all of them.
            end = audit::chain(&mut store.read().await?.conn(), self.tenant_id).await?.unwrap_or(end);
        }
        if self.place > end.seq {
            tell(self.finding(format!("goes on to {} after its end at {}: records were added", self.place, end.seq)));
        } else if self.stored != end.hash {
            tell(self.finding(format!("its end at {} has another hash than the record there", end.seq)));
        }
        if let Some(keyring) = keyring
            && !is_ours(&mut store.read().await?.conn(), keyring, &end).await?
        {
            tell(self.finding(format!("its end at {} was not written by this installation's key", end.seq)));
        }
        while let Some((seq, _)) = self.noted.pop_first() {
            tell(self.finding(format!("{seq} was noted and is not there: records were removed at the end")));
        }
        Ok(())
    }

    fn step(&mut self, record: &AuditRecord, tell: &mut impl FnMut(Finding)) -> Result<()> {
        let Some((seq, stored)) = &record.seal else { return Err(Error::internal("a sealed record without a seal")) };
        self.read += 1;
        if *seq != self.place + 1 {
            tell(self.finding(format!("{} removed", self.gap(*seq))));
        } else if hash(&self.stored, record, *seq)? != *stored {
            tell(self.finding(format!(
                "{seq}, record {}, is not what was sealed there: it was changed, or moved from another place",
                record.id
            )));
        }
        if self.noted.remove(seq).is_some_and(|noted| noted != hex::encode(stored)) {
            tell(self.finding(format!("{seq} has another hash than was noted: the chain was rewritten")));
        }
        (self.place, self.stored) = (*seq, stored.clone());
        Ok(())
    }

    /// The places between the last one and `next`.
    fn gap(&self, next: i64) -> String {
        let (from, to) = (self.place + 1, next - 1);
        if from == to { format!("{from} was") } else { format!("{from} to {to} were") }
    }

    fn finding(&self, what: String) -> Finding {
        Finding { tenant_id: self.tenant_id, what }
    }
}

#[cfg(test)]
mod tests {
    use super::Head;

    #[test]
    fn a_noted_head_reads_back() {
        let hash = "0123456789abcdef".repeat(4);
        for chain in ["platform", "00000000-0000-7000-8000-000000000001"] {
            let line = format!("{chain} 7 {hash}");
            assert_eq!(Head::parse(&line).unwrap().to_string(), line);
        }
        for bad in [
            "",
            "platform",
            "platform 0 00",
            "tenant 1 00",
            &format!("platform -1 {hash}"),
            &format!("platform 1 {hash}0"),
        ] {
            assert!(Head::parse(bad).is_err(), "{bad}");
        }
    }
}
