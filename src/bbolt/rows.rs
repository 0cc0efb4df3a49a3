//! Walking a tree in key order, one page per level in memory.

use super::file::Root;
use super::page::{
    BRANCH, ELEMENT_BYTES, HEADER_BYTES, Header, LEAF, branch_element, leaf_element,
};
use super::{BboltError, File};

/// Levels a tree may have. Full branches have dozens of children, so real ones have fewer than ten.
const LEVELS_MAX: usize = 64;

/// The rows of a bucket in ascending order.
///
/// Not an [`Iterator`]: rows are borrowed from the page that was read last.
#[derive(Debug)]
pub struct Rows<'a>(Walk<'a>);

impl<'a> Rows<'a> {
    pub(super) fn new(file: &'a File, root: Root, from: &[u8]) -> Self {
        let mut walk = Walk::new(file, root);
        walk.from = from.to_vec();
        Self(walk)
    }

    /// The next row: key and value. After an error there are no more.
    #[allow(clippy::should_implement_trait)]
    #[allow(clippy::type_complexity)] // Key and value, borrowed from the file.
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, BboltError> {
        if !self.0.advance()? {
            return Ok(None);
        }
        let (key, entry) = self
            .0
            .current()
            .ok_or_else(|| self.0.damaged("an element reaches beyond it"))?;
        if entry.is_bucket {
            return Err(self.0.damaged("a bucket is inside a bucket"));
        }
        Ok(Some((key, entry.value)))
    }
}

/// A position in a tree.
///
/// Keys must ascend over the whole walk and every leaf but an empty tree's has one, so a page that is reached twice ends
/// it, and a walk takes no longer than the file is large.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a File,
    root: Option<Root>,
    /// From the root to the current leaf.
    path: Vec<Level>,
    /// Buffers of pages that were left.
    spare: Vec<Vec<u8>>,
    last_key: Vec<u8>,
    started: bool,
    /// Where the walk begins: keys below are passed over on the way down to the first leaf.
    from: Vec<u8>,
    /// Pages that were read, with those that belong to them.
    pages: u64,
}

/// The value side of the current element.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) is_bucket: bool,
    pub(super) value: &'a [u8],
}

#[derive(Debug)]
struct Level {
    page: u64,
    content: Vec<u8>,
    count: usize,
    is_leaf: bool,
    /// The element after the current one.
    next: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a File, root: Root) -> Self {
        Self {
            file,
            root: Some(root),
            path: Vec::new(),
            spare: Vec::new(),
            last_key: Vec::new(),
            started: false,
            from: Vec::new(),
            pages: 0,
        }
    }

    /// Pages read so far, with those that belong to them.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Goes to the next element of a leaf; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, BboltError> {
        let advanced = self.try_advance();
        if advanced.is_err() {
            self.path.clear();
        }
        advanced
    }

    fn try_advance(&mut self) -> Result<bool, BboltError> {
        match self.root.take() {
            Some(Root::Page(page)) => self.descend(page)?,
            Some(Root::Inline { inside, page }) => self.enter(inside, page.to_vec(), None)?,
            None => {}
        }
        while let Some(level) = self.path.last_mut() {
            if level.next == level.count {
                let level = self.path.pop();
                self.spare.extend(level.map(|level| level.content));
                continue;
            }
            level.next += 1;
            if level.is_leaf {
                self.check_order()?;
                return Ok(true);
            }
            let child = branch_element(&level.content, level.next - 1).map(|(_, child)| child);
            let child = child.ok_or_else(|| self.damaged("an element reaches beyond it"))?;
            self.descend(child)?;
        }
        Ok(false)
    }

    fn descend(&mut self, page: u64) -> Result<(), BboltError> {
        if self.path.len() == LEVELS_MAX || self.path.iter().any(|level| level.page == page) {
            return Err(self
                .file
                .damaged(page, "the tree leads back to it, or is too deep"));
        }
        let mut content = self.spare.pop().unwrap_or_default();
        let header = self.file.read_page(page, &mut content)?;
        self.pages += 1 + u64::from(header.overflow);
        self.enter(page, content, Some(header))
    }

    /// Adds a level. An inline page's header is its own; its number means nothing.
    fn enter(
        &mut self,
        page: u64,
        content: Vec<u8>,
        header: Option<Header>,
    ) -> Result<(), BboltError> {
        let header =
            header.or_else(|| Header::decode(&content).filter(|header| header.flags == LEAF));
        let is_root = self.path.is_empty();
        let Some(Header { flags, count, .. }) = header else {
            return Err(self.file.damaged(page, "a bucket inside it is no leaf"));
        };
        let count = usize::from(count);
        let reason = match flags {
            BRANCH | LEAF if content.len() < HEADER_BYTES + count * ELEMENT_BYTES => {
                "its elements reach beyond it"
            }
            BRANCH if count == 0 => "a branch without children",
            LEAF if count == 0 && !is_root => "an empty leaf",
            BRANCH | LEAF => {
                let is_leaf = flags == LEAF;
                let next = self.first_element(&content, count, is_leaf);
                self.path.push(Level {
                    page,
                    content,
                    count,
                    is_leaf,
                    next,
                });
                return Ok(());
            }
            _ => "neither branch nor leaf",
        };
        Err(self.file.damaged(page, reason))
    }

    /// The element a page is entered at: on the way to the first leaf the one that leads to `from`, else the first.
    fn first_element(&self, content: &[u8], count: usize, is_leaf: bool) -> usize {
        if self.started || self.from.is_empty() {
            return 0;
        }
        let from = self.from.as_slice();
        let keys = 0..count;
        if is_leaf {
            let key = |at| leaf_element(content, at).map(|element| element.key);
            // What cannot be read is found out by whoever stands on it.
            return keys
                .take_while(|at| key(*at).is_some_and(|key| key < from))
                .count();
        }
        let key = |at| branch_element(content, at).map(|(key, _)| key);
        let upto = keys
            .take_while(|at| key(*at).is_some_and(|key| key <= from))
            .count();
        upto.saturating_sub(1)
    }

    /// The key under the cursor must be greater than the one before.
    fn check_order(&mut self) -> Result<(), BboltError> {
        let level = self.path.last();
        let element = level.and_then(|level| leaf_element(&level.content, level.next - 1));
        let Some(element) = element else {
            return Err(self.damaged("an element reaches beyond it"));
        };
        if self.started && element.key <= self.last_key.as_slice() {
            return Err(self.damaged("its keys do not ascend"));
        }
        if element.key.is_empty() {
            return Err(self.damaged("a key is empty"));
        }
        self.started = true;
        self.last_key.clear();
        self.last_key.extend_from_slice(element.key);
        Ok(())
    }

    /// The element that [`Self::advance`] went to.
    pub(super) fn current(&self) -> Option<(&[u8], Entry<'_>)> {
        let level = self.path.last()?;
        let element = leaf_element(&level.content, level.next.checked_sub(1)?)?;
        let entry = Entry {
            is_bucket: element.is_bucket,
            value: element.value,
        };
        Some((element.key, entry))
    }

    /// The current page.
    pub(super) fn page(&self) -> u64 {
        self.path.last().map_or(0, |level| level.page)
    }

    /// An error about the current page.
    pub(super) fn damaged(&self, reason: &'static str) -> BboltError {
        self.file.damaged(self.page(), reason)
    }
}
