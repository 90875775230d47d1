//! Free TCP ports on 127.0.0.1.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range the kernel picks outgoing ports from: a server that is down
/// for a while must find its port free again, and a client that keeps dialling
/// a closed port of that range can end up connected to itself.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

static TURN: AtomicU16 = AtomicU16::new(0);

/// A port nobody listens on, never handed out twice by this process.
pub fn free_port() -> u16 {
    let width = RANGE.end - RANGE.start;
    // Other test processes draw from the same range: start elsewhere.
    let offset = std::process::id().wrapping_mul(7919) % u32::from(width);
    for _ in 0..width {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let step = (offset + u32::from(turn)) % u32::from(width);
        let port = RANGE.start + step as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free TCP port on 127.0.0.1 in {RANGE:?}");
}
