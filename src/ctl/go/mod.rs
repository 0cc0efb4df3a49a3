//! Go's text forms of numbers, durations, strings and sizes, which etcd's programs read and print.

pub mod bytes;
pub mod duration;
pub mod number;
pub mod quote;
