//! One page: its header, and where its elements are. Everything is checked against the page's own bytes.

/// Bytes before a page's elements.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of an element; keys and values come after all elements.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Page size of files written here, and of nearly all others.
pub(super) const PAGE_BYTES: usize = 4096;

/// Flags of page kinds.
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;

/// Flag of a leaf element whose value is a bucket.
pub(super) const BUCKET_ELEMENT: u32 = 0x01;
/// A bucket's value: root page and sequence. An inline bucket's page follows.
pub(super) const BUCKET_BYTES: usize = 16;

/// First bytes of a meta page's content, and the format they stand for.
pub(super) const META_MAGIC: u32 = 0xED0C_DAED;
pub(super) const META_VERSION: u32 = 2;
/// Bytes of a meta page's content, with the checksum at the end.
pub(super) const META_BYTES: usize = 64;
/// "There is no list of free pages."
pub(super) const NO_FREELIST: u64 = u64::MAX;

/// Longest key the format allows.
pub(super) const KEY_BYTES_MAX: usize = 32_768;
/// Longest value the format allows.
pub(super) const VALUE_BYTES_MAX: usize = i32::MAX as usize - 1;

/// A page's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages that follow and belong to this one.
    pub(super) overflow: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    /// Its stored form.
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }
}

/// An element of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafElement<'a> {
    pub(super) is_bucket: bool,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Element `index` of a leaf; `None` when it reaches beyond the page.
pub(super) fn leaf_element(page: &[u8], index: usize) -> Option<LeafElement<'_>> {
    let at = HEADER_BYTES + index * ELEMENT_BYTES;
    let flags = u32_at(page, at)?;
    let key_at = at.checked_add(u32_at(page, at + 4)? as usize)?;
    let value_at = key_at.checked_add(u32_at(page, at + 8)? as usize)?;
    let end = value_at.checked_add(u32_at(page, at + 12)? as usize)?;
    Some(LeafElement {
        is_bucket: flags & BUCKET_ELEMENT != 0,
        key: page.get(key_at..value_at)?,
        value: page.get(value_at..end)?,
    })
}

/// Element `index` of a branch: the first key of a child, and the child. `None` when it reaches beyond the page.
pub(super) fn branch_element(page: &[u8], index: usize) -> Option<(&[u8], u64)> {
    let at = HEADER_BYTES + index * ELEMENT_BYTES;
    let key_at = at.checked_add(u32_at(page, at)? as usize)?;
    let end = key_at.checked_add(u32_at(page, at + 4)? as usize)?;
    Some((page.get(key_at..end)?, u64_at(page, at + 8)?))
}

/// The content of a meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// The root's page.
    pub(super) root: u64,
    /// The first page that was never used.
    pub(super) high_water: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// Reads a meta page whose header starts `page`; `None` unless everything about it is right.
    pub(super) fn decode(page: &[u8]) -> Option<Self> {
        let content = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES)?;
        let (body, sum) = content.split_last_chunk()?;
        let right = u32_at(content, 0)? == META_MAGIC
            && u32_at(content, 4)? == META_VERSION
            && u64::from_le_bytes(*sum) == fnv1a64(body);
        right.then_some(Self {
            page_bytes: u32_at(content, 8)?,
            root: u64_at(content, 16)?,
            high_water: u64_at(content, 40)?,
            transaction: u64_at(content, 48)?,
        })
    }

    /// The whole meta page `id`.
    pub(super) fn encode(self, id: u64) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        let header = Header {
            id,
            flags: META,
            ..Header::default()
        };
        page[..HEADER_BYTES].copy_from_slice(&header.encode());
        let content = &mut page[HEADER_BYTES..HEADER_BYTES + META_BYTES];
        content[..4].copy_from_slice(&META_MAGIC.to_le_bytes());
        content[4..8].copy_from_slice(&META_VERSION.to_le_bytes());
        content[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        content[16..24].copy_from_slice(&self.root.to_le_bytes());
        content[32..40].copy_from_slice(&NO_FREELIST.to_le_bytes());
        content[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        content[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let (body, sum) = content.split_at_mut(META_BYTES - 8);
        sum.copy_from_slice(&fnv1a64(body).to_le_bytes());
        page
    }
}

/// FNV-1a, 64 bits.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
