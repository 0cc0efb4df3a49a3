//! Tests against real processes: one module per theme, one member per scenario.

#![allow(unreachable_pub)] // Modules of one test binary.

mod durability;
mod golden_http;
mod golden_log;
mod golden_requests;
mod http;
mod member;
mod metrics;
mod rpc;
