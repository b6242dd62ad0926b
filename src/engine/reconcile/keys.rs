//! A set of keys in a room of fixed size, good for one question: does another set hold the same keys, and if not, in
//! which part of it do they differ?
//!
//! Keys fall into buckets by their digest; a bucket keeps their number and the sum of their digests. Buckets that are
//! equal hold the same keys, but for a chance of one in 2^64 that nobody can steer. No order of keys is needed, which a
//! source, a store and an index may each have another of.

use sha2::{Digest, Sha256};

/// Two hundred thousand keys are a dozen a bucket: a hundred that differ make a little more than a thousand to ask for.
const BUCKETS: usize = 1 << 14;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    keys: u32,
    sum: u64,
}

/// A set of keys.
#[derive(Debug, Clone)]
pub(super) struct KeySet {
    buckets: Vec<Bucket>,
    keys: u64,
}

impl KeySet {
    pub(super) fn new() -> Self {
        Self { buckets: vec![Bucket::default(); BUCKETS], keys: 0 }
    }

    /// Adds a key that was not added before.
    pub(super) fn add(&mut self, key: &str) {
        let (bucket, digest) = place(key);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.keys = bucket.keys.wrapping_add(1);
            bucket.sum = bucket.sum.wrapping_add(digest);
        }
        self.keys += 1;
    }

    /// The set as bytes, of which [`KeySet::from_bytes`] makes it again.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bucket =
            |bucket: &Bucket| [&bucket.keys.to_le_bytes()[..], &bucket.sum.to_le_bytes()[..]].concat();
        self.buckets.iter().flat_map(bucket).collect()
    }

    /// The set that these bytes were made of; nothing where they were made of none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        const BYTES: usize = size_of::<u32>() + size_of::<u64>();
        let buckets = bytes.chunks(BYTES).map(|bytes| {
            let (keys, sum) = bytes.split_first_chunk()?;
            Some(Bucket { keys: u32::from_le_bytes(*keys), sum: u64::from_le_bytes(sum.try_into().ok()?) })
        });
        let buckets: Vec<Bucket> = buckets.collect::<Option<_>>()?;
        let keys = buckets.iter().map(|bucket| u64::from(bucket.keys)).sum();
        (buckets.len() == BUCKETS).then_some(Self { buckets, keys })
    }

    /// How many keys were added.
    pub(super) fn len(&self) -> u64 {
        self.keys
    }

    /// Whether the other set holds the same keys.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.keys == other.keys && self.buckets == other.buckets
    }

    /// Whether a key lies where the other set holds others.
    pub(super) fn differs_at(&self, other: &Self, key: &str) -> bool {
        let (bucket, _) = place(key);
        self.buckets.get(bucket) != other.buckets.get(bucket)
    }
}

fn place(key: &str) -> (usize, u64) {
    let digest = Sha256::digest(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let bucket = usize::from(u16::from_be_bytes([digest[8], digest[9]])) % BUCKETS;
    (bucket, u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: impl Iterator<Item = u32>) -> KeySet {
        let mut set = KeySet::new();
        keys.for_each(|key| set.add(&key.to_string()));
        set
    }

    #[test]
    fn the_same_keys_in_any_order_are_the_same_set() {
        assert!(set(0..1_000).equals(&set((0..1_000).rev())));
        assert!(!set(0..1_000).equals(&set(1..1_001)));
        assert!(!set(0..1_000).equals(&set(0..999)));
    }

    #[test]
    fn a_set_comes_back_from_its_bytes_and_from_no_others() {
        let all = set(0..20_000);
        let bytes = all.to_bytes();
        assert!(KeySet::from_bytes(&bytes).is_some_and(|back| back.equals(&all)));
        assert!(KeySet::from_bytes(&bytes[1..]).is_none() && KeySet::from_bytes(&[]).is_none());
    }

    #[test]
    fn a_key_that_lacks_lies_where_the_sets_differ_and_few_others_do() {
        let (all, most) = (set(0..20_000), set((0..20_000).filter(|key| key % 200 != 0)));
        let suspects = (0..20_000_u32).filter(|key| all.differs_at(&most, &key.to_string()));
        let suspects: Vec<u32> = suspects.collect();
        assert!((0..20_000).step_by(200).all(|key| suspects.contains(&key)), "each of those that lack");
        assert!(suspects.len() < 500, "{} for 100 that lack", suspects.len());
    }
}
