//! The client API.
mod wire;
