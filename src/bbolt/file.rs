//! Reading a file: its meta pages, its buckets, and pages by number.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::page::{BUCKET_BYTES, Header, META, Meta, PAGE_BYTES, u64_at};
use super::rows::{Entry, Walk};
use super::sha256;
use super::{BboltError, Rows};
use crate::disk::{Access, Disk, DiskFile};

/// Smallest and largest page size bbolt can be told to use.
const PAGE_BYTES_MIN: u64 = 1 << 10;
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// A bbolt file, open for reading.
#[derive(Debug)]
pub struct File {
    name: String,
    content: Content,
    file_bytes: u64,
    meta: Meta,
}

#[derive(Debug)]
enum Content {
    File(Box<dyn DiskFile>),
    Bytes(Bytes),
}

/// A bucket of a [`File`].
#[derive(Clone, Debug)]
pub struct Bucket(pub(super) Root);

/// Where a tree begins.
#[derive(Clone, Debug)]
pub(super) enum Root {
    /// At a page of the file.
    Page(u64),
    /// It is one page, which was found inside another.
    Inline { inside: u64, page: Bytes },
}

impl File {
    /// Opens a file on a disk. A running etcd holds a lock on its own; this takes none.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, BboltError> {
        let name = path.display().to_string();
        match disk.open(path, Access::Read) {
            Ok(file) => Self::new(name, Content::File(file)),
            Err(error) => Err(io_error(&name, error)),
        }
    }

    /// Takes a file from memory; `name` is for messages.
    pub fn from_bytes(name: &str, content: Bytes) -> Result<Self, BboltError> {
        Self::new(name.to_owned(), Content::Bytes(content))
    }

    fn new(name: String, content: Content) -> Result<Self, BboltError> {
        let file_bytes = match &content {
            Content::File(file) => file.size().map_err(|error| io_error(&name, error))?,
            Content::Bytes(bytes) => bytes.len() as u64,
        };
        let mut this = Self {
            name,
            content,
            file_bytes,
            meta: Meta {
                page_bytes: PAGE_BYTES as u32,
                root: 0,
                high_water: 0,
                transaction: 0,
            },
        };
        this.meta = this.newest_meta()?;
        this.check_meta()?;
        Ok(this)
    }

    /// The valid meta page of the later transaction. The second one is a page from the first; where the first is
    /// damaged and cannot say how large a page is, all sizes are tried.
    fn newest_meta(&self) -> Result<Meta, BboltError> {
        let first = self.meta_at(0)?;
        let sizes = (0..15).map(|shift| PAGE_BYTES_MIN << shift);
        let mut newest = first;
        for size in sizes {
            if first.is_some_and(|meta| u64::from(meta.page_bytes) != size) {
                continue;
            }
            let meta = self.meta_at(size)?;
            let meta = meta.filter(|meta| u64::from(meta.page_bytes) == size);
            if meta.map(|meta| meta.transaction) > newest.map(|meta| meta.transaction) {
                newest = meta;
            }
        }
        newest.ok_or_else(|| self.not_a_database("neither of its two meta pages is valid"))
    }

    fn meta_at(&self, offset: u64) -> Result<Option<Meta>, BboltError> {
        let mut page = [0; 256];
        let read = self.read(&mut page, offset)?;
        let is_meta = Header::decode(&page).is_some_and(|header| header.flags == META);
        Ok(Meta::decode(&page[..read]).filter(|_| is_meta))
    }

    fn check_meta(&self) -> Result<(), BboltError> {
        let Meta {
            page_bytes,
            root,
            high_water,
            ..
        } = self.meta;
        let page_bytes = u64::from(page_bytes);
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
        {
            return Err(self.not_a_database(format!("its page size is {page_bytes}")));
        }
        let used = high_water.checked_mul(page_bytes);
        if used.is_none_or(|used| used > self.file_bytes) {
            return Err(self.not_a_database(format!(
                "it has {} bytes, its meta page speaks of {high_water} pages of {page_bytes}: it was cut off",
                self.file_bytes
            )));
        }
        if !(2..high_water).contains(&root) {
            return Err(self.not_a_database(format!("its root is page {root} of {high_water}")));
        }
        Ok(())
    }

    /// The file's size in bytes, checksum and unused end included.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Size of a page, in bytes.
    pub fn page_bytes(&self) -> u64 {
        u64::from(self.meta.page_bytes)
    }

    /// Pages in use and once used.
    pub fn high_water_pages(&self) -> u64 {
        self.meta.high_water
    }

    /// Every bucket, by name.
    pub fn buckets(&self) -> Result<Vec<(Bytes, Bucket)>, BboltError> {
        let mut walk = Walk::new(self, Root::Page(self.meta.root));
        let mut buckets = Vec::new();
        while walk.advance()? {
            let (name, bucket) = walk
                .current()
                .ok_or_else(|| walk.damaged("an element is cut off"))?;
            if !bucket.is_bucket {
                return Err(walk.damaged("a row is outside all buckets"));
            }
            buckets.push((Bytes::copy_from_slice(name), bucket_at(&walk, &bucket)?));
        }
        Ok(buckets)
    }

    /// A bucket that must be there.
    pub fn bucket(&self, name: &str) -> Result<Bucket, BboltError> {
        let found = self.find_bucket(name)?;
        found.ok_or_else(|| BboltError::NoBucket {
            name: self.name.clone(),
            bucket: name.to_owned(),
        })
    }

    /// A bucket, if it is there.
    pub fn find_bucket(&self, name: &str) -> Result<Option<Bucket>, BboltError> {
        let mut buckets = self.buckets()?.into_iter();
        Ok(buckets
            .find(|(known, _)| known == name)
            .map(|(_, bucket)| bucket))
    }

    /// The rows of a bucket, in ascending order of their keys.
    pub fn rows(&self, bucket: &Bucket) -> Rows<'_> {
        self.rows_from(bucket, &[])
    }

    /// The rows of a bucket from the first key that is not below `from`.
    pub fn rows_from(&self, bucket: &Bucket, from: &[u8]) -> Rows<'_> {
        Rows::new(self, bucket.0.clone(), from)
    }

    /// Reads every tree; answers how many pages are in use, the two meta pages included.
    pub fn pages_in_use(&self) -> Result<u64, BboltError> {
        let mut walk = Walk::new(self, Root::Page(self.meta.root));
        let mut pages = 2;
        while walk.advance()? {}
        pages += walk.pages();
        for (_, bucket) in self.buckets()? {
            let mut walk = Walk::new(self, bucket.0);
            while walk.advance()? {}
            pages += walk.pages();
        }
        Ok(pages)
    }

    /// Whether a checksum follows the pages, as in a file that `snapshot save` wrote.
    pub fn has_sha256(&self) -> bool {
        sha256::has_sha256(self.file_bytes)
    }

    /// Reads the whole file and compares its checksum, where it has one.
    pub fn verify_sha256(&self) -> Result<(), BboltError> {
        if self.has_sha256() {
            return sha256::verify(self);
        }
        Ok(())
    }

    /// Reads page `id` with all that belongs to it into `buffer`.
    pub(super) fn read_page(&self, id: u64, buffer: &mut Vec<u8>) -> Result<Header, BboltError> {
        let pages_left = match self.meta.high_water.checked_sub(id) {
            Some(left) if left > 0 && id >= 2 => left,
            _ => return Err(self.damaged(id, "it is outside the file")),
        };
        self.read_pages(id, 1, buffer)?;
        let header = Header::decode(buffer).ok_or_else(|| self.damaged(id, "it is cut off"))?;
        if header.id != id {
            return Err(self.damaged(id, "it says it is another page"));
        }
        let pages = 1 + u64::from(header.overflow);
        if pages > pages_left {
            return Err(self.damaged(id, "it is longer than the file"));
        }
        if pages > 1 {
            self.read_pages(id, pages, buffer)?;
        }
        Ok(header)
    }

    fn read_pages(&self, id: u64, pages: u64, buffer: &mut Vec<u8>) -> Result<(), BboltError> {
        let bytes = (pages * u64::from(self.meta.page_bytes)) as usize;
        buffer.resize(bytes, 0);
        if self.read(buffer, self.page_offset(id))? < bytes {
            return Err(self.damaged(id, "the file ends within it"));
        }
        Ok(())
    }

    /// Fills `buffer` as far as the file goes.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, BboltError> {
        match &self.content {
            Content::File(file) => {
                let read = file.read_at(buffer, offset);
                read.map_err(|error| io_error(&self.name, error))
            }
            Content::Bytes(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let rest = rest.unwrap_or_default();
                let read = rest.len().min(buffer.len());
                buffer[..read].copy_from_slice(&rest[..read]);
                Ok(read)
            }
        }
    }

    fn page_offset(&self, id: u64) -> u64 {
        id.saturating_mul(u64::from(self.meta.page_bytes))
    }

    pub(super) fn damaged(&self, page: u64, reason: &'static str) -> BboltError {
        BboltError::Page {
            name: self.name.clone(),
            page,
            offset: self.page_offset(page),
            reason,
        }
    }

    fn not_a_database(&self, reason: impl Into<String>) -> BboltError {
        BboltError::NotADatabase {
            name: self.name.clone(),
            reason: reason.into(),
        }
    }
}

fn bucket_at(walk: &Walk<'_>, entry: &Entry<'_>) -> Result<Bucket, BboltError> {
    let root = u64_at(entry.value, 0);
    let root = root.filter(|_| entry.value.len() >= BUCKET_BYTES);
    Ok(Bucket(match root {
        None => return Err(walk.damaged("a bucket is cut off")),
        Some(0) => Root::Inline {
            inside: walk.page(),
            page: Bytes::copy_from_slice(&entry.value[BUCKET_BYTES..]),
        },
        Some(root) => Root::Page(root),
    }))
}

fn io_error(name: &str, error: io::Error) -> BboltError {
    BboltError::Io {
        name: name.to_owned(),
        error: Arc::new(error),
    }
}
