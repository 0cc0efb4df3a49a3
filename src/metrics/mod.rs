//! Every number the server counts, and the two formats they are read in.
//!
//! One static [`Metrics`] holds a field per family; `metrics::global().wal_fsync.observe(seconds)` is a
//! bucket search and two relaxed atomic additions. Names, types, labels, bucket bounds, order and number
//! format are etcd's, because dashboards and etcd's own tests read them; the golden list beside this
//! file keeps them so.
//!
//! Why not the `prometheus` crate: it prints numbers in Rust's form (`1000000`, where every reader of
//! etcd has seen `1e+06`), has no delimited protobuf, and hashes label values under a lock per
//! observation unless each child is kept by hand.
//!
//! Invariants: a family that etcd shows from the start is there from the start; one that appears with
//! its first label value does so here. Values that others hold anyway (revision, key count, index) are
//! set when somebody asks, by what [`Metrics::on_gather`] registered, and cost nothing in between.
//!
//! Deliberately absent: HTTP (module `http` serves the text), timers, and any decision about data.

mod family;
mod grpc;
mod process;
mod request;
mod table;
mod value;

#[cfg(test)]
mod tests;

pub use family::{Family, encode_delimited, encode_text};
pub use grpc::{GrpcCode, GrpcMethod, GrpcMethods};
pub use process::Runtime;
pub use request::{Request, RequestHistograms, SuccessHistograms};
pub use table::{Metrics, global};
pub use value::{Counter, Gauge, Histogram, HistogramSnapshot, Labelled};
