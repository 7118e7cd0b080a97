//! How much is taken in at once: in all, of everybody who is no admin, and of each of those.
//!
//! Invariant: what a place holds is given back when it is dropped, once; the difference between all and what others may have is there for
//! admins, whatever tenants do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests under way, until their answers are sent.
    Requests,
    /// Bodies in memory, in KiB.
    Bodies,
    /// Large answers in memory, in KiB, until they are sent.
    Answers,
}

struct Limits {
    all: u32,
    /// Of these, those of all who are no admins.
    others: u32,
    /// Of these, those of one tenant; those of callers without a valid token, all together.
    each: u32,
}

impl What {
    const fn limits(self) -> Limits {
        match self {
            Self::Requests => Limits { all: 1024, others: 896, each: 64 },
            Self::Bodies => Limits { all: 64 << 10, others: 48 << 10, each: 16 << 10 },
            Self::Answers => Limits { all: 64 << 10, others: 48 << 10, each: 8 << 10 },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    requests: u32,
    bodies: u32,
    answers: u32,
}

impl Held {
    fn of(&mut self, what: What) -> &mut u32 {
        match what {
            What::Requests => &mut self.requests,
            What::Bodies => &mut self.bodies,
            What::Answers => &mut self.answers,
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    all: Held,
    others: Held,
    each: HashMap<u64, Held>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The caller's share is used up.
    Share,
    /// Everybody together has taken all.
    All,
}

/// What is held by whom.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Mutex<Book>>);

impl Room {
    /// A place that holds nothing yet, in a caller's share; admins have none.
    pub fn place(&self, share: Option<u64>, what: What) -> Place {
        Place { room: self.clone(), share, what, held: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request holds of one thing.
#[derive(Debug)]
pub struct Place {
    room: Room,
    share: Option<u64>,
    what: What,
    held: u32,
}

impl Place {
    /// Takes as much as is missing to `amount`; nothing if there is no room for it. What is more than the share or all that there is counts
    /// as that: one always fits, as long as the caller has no other.
    pub fn hold(&mut self, amount: u32) -> Result<(), Full> {
        let limits = self.what.limits();
        let amount = amount.min(if self.share.is_some() { limits.others } else { limits.all });
        let more = amount.saturating_sub(self.held);
        let mut book = self.room.lock();
        if let Some(share) = self.share {
            let mine = *book.each.get(&share).copied().unwrap_or_default().of(self.what);
            if mine > self.held && mine.saturating_add(more) > limits.each {
                return Err(Full::Share);
            }
            if book.others.of(self.what).saturating_add(more) > limits.others {
                return Err(Full::All);
            }
        }
        if book.all.of(self.what).saturating_add(more) > limits.all {
            return Err(Full::All);
        }
        *book.all.of(self.what) += more;
        if let Some(share) = self.share {
            *book.others.of(self.what) += more;
            *book.each.entry(share).or_default().of(self.what) += more;
        }
        self.held += more;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.room.lock();
        let less = |of: &mut u32| *of = of.saturating_sub(self.held);
        less(book.all.of(self.what));
        let Some(share) = self.share else { return };
        less(book.others.of(self.what));
        if let Some(mine) = book.each.get_mut(&share) {
            less(mine.of(self.what));
            if *mine == Held::default() {
                book.each.remove(&share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(room: &Room, share: Option<u64>, what: What, amount: u32) -> Result<Place, Full> {
        let mut place = room.place(share, what);
        place.hold(amount).map(|()| place)
    }

    #[test]
    fn a_share_is_bounded_and_what_is_dropped_is_given_back() {
        let room = Room::default();
        let mut places: Vec<_> = (0..64).map(|_| holding(&room, Some(1), What::Requests, 1).unwrap()).collect();
        assert_eq!(holding(&room, Some(1), What::Requests, 1).unwrap_err(), Full::Share);
        assert!(holding(&room, Some(2), What::Requests, 1).is_ok() && holding(&room, None, What::Requests, 1).is_ok());
        places.pop();
        assert!(holding(&room, Some(1), What::Requests, 1).is_ok());
        places.clear();
        assert_eq!(room.lock().all, Held::default());
        assert!(room.lock().each.is_empty());
    }

    #[test]
    fn others_leave_the_reserve_to_admins() {
        let room = Room::default();
        let places: Vec<_> = (0..6).map_while(|n| holding(&room, Some(n), What::Bodies, 16 << 10).ok()).collect();
        assert_eq!(places.len(), 3);
        assert_eq!(holding(&room, Some(9), What::Bodies, 1).unwrap_err(), Full::All);
        let admin = holding(&room, None, What::Bodies, 16 << 10).unwrap();
        assert_eq!(holding(&room, None, What::Bodies, 1).unwrap_err(), Full::All);
        drop((places, admin));
        assert!(holding(&room, Some(9), What::Bodies, 1).is_ok());
    }

    #[test]
    fn a_place_grows_and_one_always_fits() {
        let room = Room::default();
        let mut place = holding(&room, Some(1), What::Answers, 1).unwrap();
        place.hold(20 << 10).unwrap();
        place.hold(1).unwrap();
        assert_eq!(room.lock().all.answers, 20 << 10);
        assert_eq!(holding(&room, Some(1), What::Answers, 1).unwrap_err(), Full::Share);
        place.hold(u32::MAX).unwrap();
        assert_eq!(room.lock().all.answers, 48 << 10);
    }
}
