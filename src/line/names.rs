//! Names of fields, kept so that a line is compared with them without a look at each byte.

/// A field key with its `=`, so that it can be compared in one go.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The first bytes, and ones where they count.
    head: u128,
    mask: u128,
    /// All bytes, with the `=`.
    pub(super) bytes: Box<[u8]>,
}

const HEAD: usize = size_of::<u128>();

impl Name {
    pub(super) fn new(name: &[u8]) -> Self {
        let bytes: Box<[u8]> = [name, b"="].concat().into();
        let mut head = [0; HEAD];
        let mut mask = [0; HEAD];
        let count = bytes.len().min(HEAD);
        head[..count].copy_from_slice(&bytes[..count]);
        mask[..count].fill(u8::MAX);
        Self { head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask), bytes }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - 1]
    }

    #[inline]
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        let Some(head) = text.first_chunk::<HEAD>() else {
            return text.starts_with(&self.bytes);
        };
        (u128::from_le_bytes(*head) ^ self.head) & self.mask == 0
            && (self.bytes.len() <= HEAD || text.starts_with(&self.bytes))
    }
}

/// Names of fields in the order in which lines have them; a line may lack some. Each stands once,
/// so that a line which goes along a list names no field twice.
#[derive(Debug)]
pub(super) struct List {
    /// Raw, as the lines' keys begin.
    pub(super) measurement: Box<[u8]>,
    pub(super) names: Vec<Name>,
    /// Another list of the measurement.
    pub(super) other: Option<u32>,
}

impl List {
    fn position(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| known.name() == name)
    }

    /// True where `names` are in the list, in its order.
    pub(super) fn fits(&self, names: &[&[u8]]) -> bool {
        let mut known = self.names.iter();
        names.iter().all(|name| known.any(|known| known.name() == *name))
    }

    /// Takes in the names that the list lacks; false where they are in another order.
    pub(super) fn join(&mut self, names: &[&[u8]]) -> bool {
        let mut next = 0;
        for place in names.iter().filter_map(|name| self.position(name)) {
            if place < next {
                return false;
            }
            next = place + 1;
        }
        let mut next = 0;
        for name in names {
            next = 1 + self.position(name).unwrap_or_else(|| {
                self.names.insert(next, Name::new(name));
                next
            });
        }
        true
    }

    /// Makes this the list of `names`, if each stands there once.
    pub(super) fn replace(&mut self, names: &[&[u8]]) {
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
            self.names = names.iter().map(|name| Name::new(name)).collect();
        }
    }
}
