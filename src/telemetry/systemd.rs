//! Tells a service manager how things stand, as sd_notify(3) describes it.
//!
//! `READY=1` once it listens, `STATUS=` after each poll (`systemctl status` shows it), `STOPPING=1` at the end.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state` (such as `READY=1`) to `$NOTIFY_SOCKET`; without that variable nobody asked.
pub fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&path.to_string_lossy(), state) {
        tracing::warn!(%error, "the service manager cannot be told {state}");
    }
}

/// Says in a line what the exporter does; nothing without a service manager.
pub fn status(text: &str) {
    send(&format!("STATUS={}", text.replace('\n', " ")));
}

fn send_to(path: &str, state: &str) -> io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("rsolv-exporter-test-{}", std::process::id());
        let at = |address: &SocketAddr| UnixDatagram::bind_addr(address).unwrap();
        for (socket, path) in [
            (at(&SocketAddr::from_pathname(&path).unwrap()), path.to_str().unwrap().to_owned()),
            (at(&SocketAddr::from_abstract_name(&name).unwrap()), format!("@{name}")),
        ] {
            send_to(&path, "READY=1").unwrap();
            let mut buffer = [0; 32];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}
