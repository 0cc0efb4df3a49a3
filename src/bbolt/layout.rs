//! Writing a file: from sorted rows, front to back, its size known beforehand.
//!
//! The trees are built bottom up. Of every level only the page that is being filled is in memory; a full one gets the next number and
//! goes out, and its first key and number go to the level above. What is left at the end is the root. Planning
//! runs the same code with nothing to write to and sizes instead of values, so plan and file agree by construction, and the
//! meta pages, which come first, can name a root that comes last.

use std::io::{self, Write};

use super::WriteError;
use super::page::{
    BRANCH, BUCKET_BYTES, BUCKET_ELEMENT, ELEMENT_BYTES, HEADER_BYTES, Header, KEY_BYTES_MAX, LEAF,
    Meta, PAGE_BYTES, VALUE_BYTES_MAX,
};

/// How full a page gets when it can still take another element, as etcd fills pages when it appends.
const FILL_BYTES: usize = PAGE_BYTES / 10 * 9;
/// A bucket up to this size goes into its parent, as bbolt has it.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
/// Pages before the trees.
const META_PAGES: u64 = 2;
/// Transaction of the first meta page; the second has the one before.
const TRANSACTION: u64 = 2;

/// Rows for a file. They must be the same each time.
pub trait Source {
    /// Why rows cannot be had.
    type Error: std::error::Error + 'static;

    /// The names of the buckets, ascending.
    fn buckets(&self) -> Vec<&str>;

    /// Calls `row` with key and size of the value of each row of a bucket, in ascending order.
    fn sizes(&self, bucket: &str, row: &mut SizeVisitor<'_>) -> Result<(), Self::Error>;

    /// Calls `row` with key and value of each row of a bucket, in ascending order, until it fails; that failure
    /// comes back in the inner result.
    fn rows(&self, bucket: &str, row: &mut RowVisitor<'_>) -> Result<io::Result<()>, Self::Error>;
}

/// Takes a key and the size of its value.
pub type SizeVisitor<'a> = dyn FnMut(&[u8], usize) + 'a;
/// Takes a key and its value.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// The plan of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// Plans a file with the rows of `source`.
    pub fn plan<S: Source>(source: &S) -> Result<Self, WriteError<S::Error>> {
        let mut pages = Pages::new(None);
        let mut root = Tree::new(BUCKET_ELEMENT);
        for bucket in source.buckets() {
            let mut tree = Tree::new(0);
            let mut failed = None;
            let sizes = source.sizes(bucket, &mut |key, value_bytes| {
                if failed.is_none() {
                    failed = tree.push(&mut pages, key, Value::Size(value_bytes)).err();
                }
            });
            sizes.map_err(WriteError::Source)?;
            failed.map_or(Ok(()), |error| Err(error.widen()))?;
            tree.finish_into(&mut root, bucket, &mut pages)
                .map_err(RowError::widen)?;
        }
        let root = root.finish(&mut pages)?;
        Ok(Self {
            root,
            pages: pages.next,
        })
    }

    /// The exact size of the file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }

    /// Writes the file. `source` must have the rows this was planned with.
    pub fn write<S: Source>(
        &self,
        source: &S,
        out: &mut dyn Write,
    ) -> Result<(), WriteError<S::Error>> {
        for id in 0..META_PAGES {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: self.root,
                high_water: self.pages,
                transaction: TRANSACTION - id,
            };
            out.write_all(&meta.encode(id))?;
        }
        let mut pages = Pages::new(Some(out));
        let mut root = Tree::new(BUCKET_ELEMENT);
        for bucket in source.buckets() {
            let mut tree = Tree::new(0);
            let mut too_large = None;
            let rows = source.rows(bucket, &mut |key, value| match tree.push(
                &mut pages,
                key,
                Value::Bytes(value),
            ) {
                Err(RowError::Io(error)) => Err(error),
                Err(error) => {
                    too_large = Some(error);
                    Err(io::ErrorKind::InvalidData.into())
                }
                Ok(()) => Ok(()),
            });
            let rows = rows.map_err(WriteError::Source)?;
            too_large.map_or(Ok(()), |error| Err(error.widen()))?;
            rows?;
            tree.finish_into(&mut root, bucket, &mut pages)
                .map_err(RowError::widen)?;
        }
        let root = root.finish(&mut pages)?;
        let written = Self {
            root,
            pages: pages.next,
        };
        if written != *self {
            return Err(WriteError::Changed);
        }
        Ok(())
    }
}

/// Why a row was not taken.
enum RowError {
    Io(io::Error),
    TooLarge {
        key_bytes: usize,
        value_bytes: usize,
    },
}

impl From<io::Error> for RowError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl RowError {
    fn widen<E: std::error::Error + 'static>(self) -> WriteError<E> {
        match self {
            Self::Io(error) => WriteError::Write(error),
            Self::TooLarge {
                key_bytes,
                value_bytes,
            } => WriteError::RowTooLarge {
                key_bytes,
                value_bytes,
            },
        }
    }
}

/// A value, or while planning just its size.
#[derive(Clone, Copy)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Size(usize),
}

impl Value<'_> {
    fn bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Size(bytes) => bytes,
        }
    }
}

/// Hands out page numbers, and writes the pages unless this is planning.
struct Pages<'a> {
    out: Option<&'a mut dyn Write>,
    next: u64,
}

impl<'a> Pages<'a> {
    fn new(out: Option<&'a mut dyn Write>) -> Self {
        Self {
            out,
            next: META_PAGES,
        }
    }

    /// Ends `page` and starts it over; answers the number it got.
    fn emit(&mut self, page: &mut Page) -> io::Result<u64> {
        let id = self.next;
        let pages = page.bytes().div_ceil(PAGE_BYTES).max(1);
        self.next += pages as u64;
        if let Some(out) = &mut self.out {
            out.write_all(&page.header(id, pages).encode())?;
            page.write_elements(out)?;
            write_zeros(out, pages * PAGE_BYTES - page.bytes())?;
        }
        page.clear();
        Ok(id)
    }
}

fn write_zeros(out: &mut dyn Write, bytes: usize) -> io::Result<()> {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    // Less than a page is left over, always.
    out.write_all(ZEROS.get(..bytes).unwrap_or_default())
}

/// A page that is being filled.
struct Page {
    flags: u16,
    /// Flags, key size and value size of a leaf's elements; key size and child of a branch's.
    elements: Vec<(u32, u32, u64)>,
    /// Keys and values one after the other; without values while planning.
    data: Vec<u8>,
    /// What `data` has, or would have.
    data_bytes: usize,
    first_key: Vec<u8>,
}

impl Page {
    fn new(flags: u16) -> Self {
        Self {
            flags,
            elements: Vec::new(),
            data: Vec::new(),
            data_bytes: 0,
            first_key: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
        self.data_bytes = 0;
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data_bytes
    }

    /// Whether an element with `data_bytes` of key and value belongs on the next page.
    fn is_full_for(&self, data_bytes: usize) -> bool {
        // Two elements to a page wherever they fit, then up to the fill mark.
        let limit = if self.elements.len() < 2 {
            PAGE_BYTES
        } else {
            FILL_BYTES
        };
        !self.elements.is_empty() && self.bytes() + ELEMENT_BYTES + data_bytes > limit
    }

    fn push_leaf(&mut self, flags: u32, key: &[u8], value: Value<'_>) {
        let value_bytes = value.bytes();
        self.push_key(key);
        self.elements
            .push((flags, key.len() as u32, value_bytes as u64));
        self.data_bytes += value_bytes;
        if let Value::Bytes(bytes) = value {
            self.data.extend_from_slice(bytes);
        }
    }

    fn push_branch(&mut self, key: &[u8], child: u64) {
        self.push_key(key);
        self.elements.push((0, key.len() as u32, child));
    }

    fn push_key(&mut self, key: &[u8]) {
        if self.elements.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.data.extend_from_slice(key);
        self.data_bytes += key.len();
    }

    fn header(&self, id: u64, pages: usize) -> Header {
        Header {
            id,
            flags: self.flags,
            count: self.elements.len() as u16,
            overflow: (pages - 1) as u32,
        }
    }

    /// Everything after the header.
    fn write_elements(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut encoded = Vec::with_capacity(self.elements.len() * ELEMENT_BYTES);
        let mut data_at = self.elements.len() * ELEMENT_BYTES;
        for (index, (flags, key_bytes, third)) in self.elements.iter().enumerate() {
            let from_here = (data_at - index * ELEMENT_BYTES) as u32;
            if self.flags == LEAF {
                encoded.extend_from_slice(&flags.to_le_bytes());
                encoded.extend_from_slice(&from_here.to_le_bytes());
                encoded.extend_from_slice(&key_bytes.to_le_bytes());
                encoded.extend_from_slice(&(*third as u32).to_le_bytes());
                data_at += *third as usize;
            } else {
                encoded.extend_from_slice(&from_here.to_le_bytes());
                encoded.extend_from_slice(&key_bytes.to_le_bytes());
                encoded.extend_from_slice(&third.to_le_bytes());
            }
            data_at += *key_bytes as usize;
        }
        out.write_all(&encoded)?;
        out.write_all(&self.data)
    }
}

/// A tree that is being built.
struct Tree {
    /// Flags of the leaves' elements.
    element_flags: u32,
    leaf: Page,
    leaves: u64,
    /// The branch above the leaves first, then the one above that.
    branches: Vec<Branch>,
}

struct Branch {
    page: Page,
    /// Pages of this level that are written.
    written: u64,
}

impl Tree {
    fn new(element_flags: u32) -> Self {
        Self {
            element_flags,
            leaf: Page::new(LEAF),
            leaves: 0,
            branches: Vec::new(),
        }
    }

    fn push(
        &mut self,
        pages: &mut Pages<'_>,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), RowError> {
        let value_bytes = value.bytes();
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
            return Err(RowError::TooLarge {
                key_bytes: key.len(),
                value_bytes,
            });
        }
        if self.leaf.is_full_for(key.len() + value_bytes) {
            self.end_leaf(pages)?;
        }
        self.leaf.push_leaf(self.element_flags, key, value);
        Ok(())
    }

    fn end_leaf(&mut self, pages: &mut Pages<'_>) -> io::Result<()> {
        let id = pages.emit(&mut self.leaf)?;
        self.leaves += 1;
        let key = std::mem::take(&mut self.leaf.first_key);
        self.push_child(0, &key, id, pages)?;
        self.leaf.first_key = key;
        Ok(())
    }

    fn push_child(
        &mut self,
        level: usize,
        key: &[u8],
        child: u64,
        pages: &mut Pages<'_>,
    ) -> io::Result<()> {
        if self.branches.len() == level {
            self.branches.push(Branch {
                page: Page::new(BRANCH),
                written: 0,
            });
        }
        if self.branches[level].page.is_full_for(key.len()) {
            self.end_branch(level, pages)?;
        }
        self.branches[level].page.push_branch(key, child);
        Ok(())
    }

    fn end_branch(&mut self, level: usize, pages: &mut Pages<'_>) -> io::Result<()> {
        let branch = &mut self.branches[level];
        let id = pages.emit(&mut branch.page)?;
        branch.written += 1;
        let key = std::mem::take(&mut branch.page.first_key);
        self.push_child(level + 1, &key, id, pages)?;
        self.branches[level].page.first_key = key;
        Ok(())
    }

    /// Writes what is left; answers the root's page.
    fn finish(mut self, pages: &mut Pages<'_>) -> io::Result<u64> {
        if self.leaves == 0 || !self.leaf.elements.is_empty() {
            self.end_leaf(pages)?;
        }
        let mut level = 0;
        loop {
            let branch = &self.branches[level];
            if let ([(_, _, only)], 0) = (branch.page.elements.as_slice(), branch.written) {
                return Ok(*only);
            }
            if !branch.page.elements.is_empty() {
                self.end_branch(level, pages)?;
            }
            level += 1;
        }
    }

    /// Ends this bucket and names it in the tree of buckets.
    fn finish_into(
        self,
        root: &mut Self,
        name: &str,
        pages: &mut Pages<'_>,
    ) -> Result<(), RowError> {
        let mut value = vec![0; BUCKET_BYTES];
        if self.leaves == 0 && self.leaf.bytes() <= INLINE_BYTES_MAX {
            let size = Value::Size(BUCKET_BYTES + self.leaf.bytes());
            if pages.out.is_none() {
                return root.push(pages, name.as_bytes(), size);
            }
            value.extend_from_slice(&self.leaf.header(0, 1).encode());
            self.leaf.write_elements(&mut value)?;
        } else {
            let page = self.finish(pages)?;
            value[..8].copy_from_slice(&page.to_le_bytes());
        }
        root.push(pages, name.as_bytes(), Value::Bytes(&value))
    }
}
