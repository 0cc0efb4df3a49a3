//! Listening sockets a socket unit hands over at the start.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{self, AddressFamily, SockaddrLike, SockaddrStorage, sockopt};

/// A listening socket with the name its unit gave it (`FileDescriptorName=`).
#[derive(Debug)]
pub struct InheritedSocket {
    /// Name, such as `client`.
    pub name: String,
    /// The socket.
    pub listener: InheritedListener,
}

/// The two kinds of listening socket a member serves on.
#[derive(Debug)]
pub enum InheritedListener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A path.
    Unix(UnixListener),
}

/// Takes the sockets in `LISTEN_FDS`. Call once, before any file is opened. What is not a listening
/// stream socket is logged and closed.
pub fn inherited_sockets() -> Vec<InheritedSocket> {
    match sd_notify::listen_fds_with_names() {
        // SAFETY (of `take`): the manager opened these descriptors for this process, and nobody else
        // has been told of them.
        Ok(all) => all
            .filter_map(|(descriptor, name)| take(descriptor, name))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "ignoring the sockets of the service manager");
            Vec::new()
        }
    }
}

/// Takes out the sockets of one name, in their order.
pub fn sockets_named(all: &mut Vec<InheritedSocket>, name: &str) -> Vec<InheritedListener> {
    all.extract_if(.., |socket| socket.name == name)
        .map(|socket| socket.listener)
        .collect()
}

fn take(descriptor: RawFd, name: String) -> Option<InheritedSocket> {
    // SAFETY: see `inherited_sockets`.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    match listener(owned) {
        Some(listener) => Some(InheritedSocket { name, listener }),
        None => {
            tracing::warn!(
                name,
                descriptor,
                "ignoring an inherited descriptor: not a listening stream socket"
            );
            None
        }
    }
}

fn listener(descriptor: OwnedFd) -> Option<InheritedListener> {
    let listens = socket::getsockopt(&descriptor, sockopt::AcceptConn).ok()?;
    let streams =
        socket::getsockopt(&descriptor, sockopt::SockType).ok()? == socket::SockType::Stream;
    if !listens || !streams {
        return None;
    }
    let raw = std::os::fd::AsRawFd::as_raw_fd(&descriptor);
    match socket::getsockname::<SockaddrStorage>(raw).ok()?.family()? {
        AddressFamily::Inet | AddressFamily::Inet6 => {
            Some(InheritedListener::Tcp(TcpListener::from(descriptor)))
        }
        AddressFamily::Unix => Some(InheritedListener::Unix(UnixListener::from(descriptor))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_stream_sockets_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        match listener(tcp.into()) {
            Some(InheritedListener::Tcp(taken)) => {
                assert_eq!(taken.local_addr().unwrap(), address);
            }
            other => panic!("{other:?}"),
        }
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(matches!(
            listener(unix.into()),
            Some(InheritedListener::Unix(_))
        ));
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listener(datagram.into()).is_none());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(listener(file.into()).is_none());
    }

    #[test]
    fn sockets_are_taken_by_name() {
        let socket = |name: &str| InheritedSocket {
            name: name.to_owned(),
            listener: InheritedListener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()),
        };
        let mut all = vec![socket("client"), socket("metrics"), socket("client")];
        assert_eq!(sockets_named(&mut all, "client").len(), 2);
        assert_eq!(all.len(), 1);
    }
}
