//! TLS by rustls: what a listener or a client needs from certificate files, and re-reading them.
//!
//! [`Server`] holds the configuration of one kind of listener. Certificate, key, CA and CRL are re-read
//! when any of the files changes, without a restart and without touching open connections: whoever
//! begins a handshake asks [`Server::config`], which looks at the files' stamps first. A set of files
//! that cannot be used (half written, key of another certificate) is logged and counted once, and the
//! former set stays in force. Swapping the configuration also forgets resumable sessions, so a client
//! revoked by a new CRL cannot come back on an old ticket.
//!
//! Texts of errors are those of etcd's Go library where people search for them; they go on with the file
//! names. Invariant: nothing read from a file or a peer panics.
//!
//! Deliberately absent: sockets (module `http`), OCSP, and a trust store of the operating system for
//! clients' certificates: with `--client-cert-auth` a CA must be named.

mod cipher;
mod client;
mod error;
mod files;
mod self_signed;
mod server;
mod verify;

#[cfg(test)]
mod tests;

pub use cipher::{Protocol, Version, check_cipher_suite};
pub use client::{AnyServer, ClientOptions, client_config};
pub use error::{
    TlsError, handshake_error_text, is_end_of_stream, not_a_handshake, rejected_names,
};
pub use self_signed::{SelfSigned, self_signed};
pub use server::{CertificateFact, Server, ServerOptions};
pub use verify::{common_name, is_trusted_itself};
