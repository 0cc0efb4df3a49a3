//! The file format of bbolt, in which etcd keeps its database and everyone exchanges snapshots.
//!
//! A file is pages of 4 KiB (by default). The first two are *meta* pages that name the root; the rest are B+tree pages:
//! leaves with keys and values, branches with the first key and number of each child. The root's tree has the buckets'
//! names, and each bucket is a tree of its own, or, when it is small, a page inside the value under its name. Numbers are little-endian
//! (native, to be exact, and nobody runs etcd on anything else).
//!
//! - [`File`] reads any such file, from disk or memory, a page at a time. It trusts nothing: whatever the bytes, it answers with
//!   rows in ascending order or with an error that names page and offset.
//! - [`Layout`] plans a file, so that its exact size is known before its first byte is sent, and writes it in one pass
//!   without seeking. The rows come from a [`Source`], twice: sizes, then rows.
//! - [`Sha256Writer`] and [`File::verify_sha256`]: the checksum that follows the pages of a snapshot.
//!
//! Deliberately absent: changing a file, nested buckets, the list of free pages (etcd does not keep one either).

mod error;
mod file;
mod layout;
mod page;
mod rows;
mod sha256;
#[cfg(test)]
mod tests;

pub use error::{BboltError, WriteError};
pub use file::{Bucket, File};
pub use layout::{Layout, RowVisitor, SizeVisitor, Source};
pub use rows::Rows;
pub use sha256::{SHA256_BYTES, Sha256Writer, has_sha256};
