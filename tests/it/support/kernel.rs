//! What the kernel knows of connections that no program sees.

use std::io::Read;
use std::net::SocketAddr;

/// The kernel's list of sockets. Other tests leave ten thousand behind, so it is asked for those alone that matter
/// (sock_diag(7)); reading all of `/proc/net/tcp` takes longer than what is measured here.
pub(crate) struct Kernel(socket2::Socket);

impl Kernel {
    const NETLINK: i32 = 16;
    const SOCK_DIAG: i32 = 4;
    const SYN_SENT: u32 = 2;
    /// The type of a message that tells of a socket, and of the question itself.
    const BY_FAMILY: u16 = 20;

    /// A line to it.
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(Self::NETLINK.into(), socket2::Type::DGRAM, Some(Self::SOCK_DIAG.into()));
        Self(socket.unwrap())
    }

    /// Whether somebody in this machine waits for a connection to that address to be made.
    pub(crate) fn is_connecting_to(&self, addr: SocketAddr) -> bool {
        const DUMP: u16 = 0x301;
        const DONE: u16 = 3;
        let mut question = Vec::new();
        question.extend(72u32.to_ne_bytes());
        question.extend([Self::BY_FAMILY, DUMP].map(u16::to_ne_bytes).concat());
        question.extend([0; 8]);
        // IPv4, TCP, the state, any port there, and this one here; everything else may be anything.
        question.extend([2, 6, 0, 0]);
        question.extend((1u32 << Self::SYN_SENT).to_ne_bytes());
        question.extend([0, addr.port()].map(u16::to_be_bytes).concat());
        question.resize(72, 0);
        self.0.send(&question).unwrap();
        let (mut found, mut answer) = (false, [0; 8192]);
        loop {
            let read = (&self.0).read(&mut answer).unwrap();
            let kind = u16::from_ne_bytes([answer[4], answer[5]]);
            assert!(read >= 16);
            if kind != Self::BY_FAMILY {
                assert_eq!(kind, DONE, "the kernel does not tell");
                return found;
            }
            found = true;
        }
    }
}
