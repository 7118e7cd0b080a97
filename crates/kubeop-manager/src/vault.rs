//! Envelope encryption of what is stored: the master key wraps a random seed, every write derives its own key from the seed.
//!
//! Invariant: a ciphertext opens only in the table, column and row it was made for; the scheme is that of Kubernetes' KMS v2
//! (HKDF-SHA256 with 32 random bytes as info, AES-256-GCM with a random nonce).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::{digest, hmac, rand};
use kubeop_core::{Error, Result, hex};
use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
const INFO_LEN: usize = 32;
const FORMAT: u8 = 1;

/// Where a ciphertext lives; it is bound to this place.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's key: of one length in a table.
    pub row: &'a [u8],
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        // '|' cannot occur in our table and column names.
        let mut data = format!("{}|{}|", self.table, self.column).into_bytes();
        data.extend_from_slice(self.row);
        data
    }

    /// The row's key as people read it.
    pub fn name(&self) -> String {
        uuid::Uuid::from_slice(self.row).map_or_else(|_| hex::encode(self.row), |id| id.to_string())
    }
}

/// A seed in the clear, with the id it is stored under.
pub struct Seed {
    /// Its row.
    pub id: uuid::Uuid,
    bytes: Zeroizing<Vec<u8>>,
}

/// Opens and makes seeds with the master key.
pub struct MasterKey {
    id: String,
    key: SecretSlice<u8>,
}

impl MasterKey {
    /// The master key.
    ///
    /// # Errors
    /// `Invalid` unless it has 32 bytes.
    pub fn new(key: SecretSlice<u8>) -> Result<Self> {
        let bytes = key.expose_secret();
        if bytes.len() != KEY_LEN {
            return Err(Error::invalid(format!("the master key has {} bytes, {KEY_LEN} are needed", bytes.len())));
        }
        let mut text = Zeroizing::new(b"kubeop master key id\0".to_vec());
        text.reserve_exact(KEY_LEN);
        text.extend_from_slice(bytes);
        let hash = digest::digest(&digest::SHA256, &text);
        Ok(Self { id: hex::encode(hash.as_ref().get(..8).unwrap_or_default()), key })
    }

    /// Names the key without telling it, so that a wrong one is noticed before anything is written.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A new seed and how it is stored.
    pub fn new_seed(&self, id: uuid::Uuid) -> Result<(Seed, Vec<u8>)> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LEN]);
        rand::fill(&mut bytes).map_err(Error::internal)?;
        let seed = Seed { id, bytes };
        let wrapped = self.wrap(&seed)?;
        Ok((seed, wrapped))
    }

    /// How a seed is stored under this key.
    pub fn wrap(&self, seed: &Seed) -> Result<Vec<u8>> {
        seal_with(self.key.expose_secret(), &wrapped(&seed.id), &seed.bytes)
    }

    /// Opens a stored seed.
    pub fn open_seed(&self, id: uuid::Uuid, wrapped: &[u8]) -> Result<Seed> {
        let bytes = open_with(self.key.expose_secret(), &self::wrapped(&id), wrapped)?;
        Ok(Seed { id, bytes })
    }
}

fn wrapped(id: &uuid::Uuid) -> Place<'_> {
    Place { table: "encryption_seed", column: "wrapped", row: id.as_bytes() }
}

impl Seed {
    /// Encrypts for a place.
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        seal_with(&self.bytes, place, plain)
    }

    /// A key for authenticating data, of its own for each purpose. (Encryption derives with 32 random bytes: no purpose has that length.)
    pub fn mac_key(&self, purpose: &'static str) -> Result<hmac::Key> {
        let prk = Prk::new_less_safe(HKDF_SHA256, &self.bytes);
        prk.expand(&[purpose.as_bytes()], hmac::HMAC_SHA256).map(hmac::Key::from).map_err(Error::internal)
    }

    /// Decrypts what was encrypted for a place.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        open_with(&self.bytes, place, sealed)
    }
}

struct Aes256;

impl KeyType for Aes256 {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

fn derive(secret: &[u8], info: &[u8]) -> Result<LessSafeKey> {
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    prk.expand(&[info], Aes256).and_then(|okm| okm.fill(&mut *key)).map_err(Error::internal)?;
    UnboundKey::new(&AES_256_GCM, &*key).map(LessSafeKey::new).map_err(Error::internal)
}

/// `format || info || nonce || ciphertext || tag`
fn seal_with(secret: &[u8], place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>> {
    let mut info = [0; INFO_LEN];
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut info).map_err(Error::internal)?;
    rand::fill(&mut nonce).map_err(Error::internal)?;
    let key = derive(secret, &info)?;
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.associated_data()), &mut body)
        .map_err(Error::internal)?;
    let mut sealed = Vec::with_capacity(1 + INFO_LEN + NONCE_LEN + body.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&info);
    sealed.extend_from_slice(&nonce);
    sealed.append(&mut body);
    Ok(sealed)
}

fn open_with(secret: &[u8], place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let damaged = || {
        Error::internal(format!("a sealed value of {}.{} of {} does not open", place.table, place.column, place.name()))
    };
    let (format, rest) = sealed.split_first().ok_or_else(damaged)?;
    let (info, rest) = rest.split_first_chunk::<INFO_LEN>().ok_or_else(damaged)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
    if *format != FORMAT {
        return Err(damaged());
    }
    let key = derive(secret, info)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place.associated_data()), &mut body)
        .map_err(|_| damaged())?
        .len();
    body.truncate(length);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(SecretSlice::from(vec![byte; 32])).unwrap()
    }

    #[test]
    fn a_value_opens_only_in_its_place_with_its_key_and_unchanged() {
        let id = Uuid::from_u128(1);
        let (seed, wrapped) = master(1).new_seed(id).unwrap();
        let (row, other) = (Uuid::from_u128(2), Uuid::from_u128(3));
        let place = Place { table: "cluster", column: "kubeconfig", row: row.as_bytes() };
        let sealed = seed.seal(&place, b"secret").unwrap();
        let again = master(1).open_seed(id, &wrapped).unwrap();
        assert_eq!(&**again.open(&place, &sealed).unwrap(), b"secret");
        assert!(again.open(&Place { row: other.as_bytes(), ..place }, &sealed).is_err());
        assert!(again.open(&Place { column: "other", ..place }, &sealed).is_err());
        assert!(again.open(&Place { table: "other", ..place }, &sealed).is_err());
        assert!(master(2).open_seed(id, &wrapped).is_err());
        assert!(master(1).open_seed(Uuid::from_u128(9), &wrapped).is_err());
        for index in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[index] ^= 1;
            assert!(again.open(&place, &flipped).is_err(), "byte {index}");
            assert!(again.open(&place, &sealed[..index]).is_err(), "cut at {index}");
        }
        assert_ne!(sealed, seed.seal(&place, b"secret").unwrap());
        let rewrapped = master(2).wrap(&again).unwrap();
        assert!(master(1).open_seed(id, &rewrapped).is_err());
        assert_eq!(&**master(2).open_seed(id, &rewrapped).unwrap().open(&place, &sealed).unwrap(), b"secret");
    }

    #[test]
    fn a_master_key_has_32_bytes() {
        for length in [0, 1, 31, 33, 64] {
            assert!(MasterKey::new(SecretSlice::from(vec![0; length])).is_err(), "{length}");
        }
        assert_ne!(master(1).id(), master(2).id());
    }
}
