//! Tests against real processes: one module per theme, one member per scenario.

mod golden_requests;
mod member;
mod rpc;
