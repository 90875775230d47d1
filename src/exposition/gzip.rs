//! One gzip member (RFC 1952) made of parts that were compressed at different times.
//!
//! The large parts of an exposition are compressed once for many scrapes, the small one that changes more often again and
//! again. Several members, one after the other, would be valid gzip as well, but not every client reads past the first.

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

/// Fast, no modification time, unknown operating system.
const HEAD: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Room for the end of a block where the text itself does not compress at all.
const SLACK: usize = 64;

/// A part of a stream: whole deflate blocks that end on a byte and refer to nothing before them.
#[derive(Clone, Debug)]
pub struct Part {
    bytes: Bytes,
    crc: Hasher,
    length: u32,
}

impl Part {
    /// Compresses a part that others follow.
    pub fn new(plain: &[u8]) -> Self {
        Self::with(&mut compressor(), plain, FlushCompress::Sync)
    }

    fn with(compressor: &mut Compress, plain: &[u8], flush: FlushCompress) -> Self {
        let mut crc = Hasher::new();
        crc.update(plain);
        let mut bytes = Vec::with_capacity(plain.len() / 4 + SLACK);
        loop {
            let from = usize::try_from(compressor.total_in()).unwrap_or(plain.len());
            // It fails only on a stream that was finished before.
            let Ok(_) = compressor.compress_vec(&plain[from.min(plain.len())..], &mut bytes, flush) else { break };
            // Room that was left over says that nothing more is to come.
            if bytes.len() < bytes.capacity() {
                break;
            }
            bytes.reserve(bytes.capacity());
        }
        // Of the length of the plain text, gzip keeps the lower 32 bits.
        Self { bytes: bytes.into(), crc, length: plain.len() as u32 }
    }
}

fn compressor() -> Compress {
    Compress::new(Compression::new(6), false)
}

/// A whole member as the pieces of a body: `parts`, then `last`, which is compressed now.
pub fn member(parts: &[Part], last: &[u8]) -> Vec<Bytes> {
    let last = Part::with(&mut compressor(), last, FlushCompress::Finish);
    let mut pieces = vec![Bytes::from_static(HEAD)];
    let (mut crc, mut length) = (Hasher::new(), 0_u32);
    for part in parts.iter().chain([&last]) {
        pieces.push(part.bytes.clone());
        crc.combine(&part.crc);
        length = length.wrapping_add(part.length);
    }
    let tail = [crc.finalize().to_le_bytes(), length.to_le_bytes()].concat();
    pieces.push(tail.into());
    pieces
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn unpacked(pieces: &[Bytes]) -> Vec<u8> {
        let packed = pieces.concat();
        let mut decoder = GzDecoder::new(packed.as_slice());
        let mut plain = Vec::new();
        decoder.read_to_end(&mut plain).expect("one valid member");
        assert!(decoder.into_inner().is_empty(), "nothing stands behind the member");
        plain
    }

    proptest! {
        #[test]
        fn any_parts_make_one_member(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..4),
            repeat in 1_usize..50,
            last in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let plain: Vec<Vec<u8>> = parts.iter().map(|part| part.repeat(repeat)).collect();
            let parts: Vec<Part> = plain.iter().map(|part| Part::new(part)).collect();
            prop_assert_eq!(unpacked(&member(&parts, &last)), [plain.concat(), last].concat());
        }
    }

    #[test]
    fn repeating_text_shrinks() {
        let text = "rsolv_validation_executions_total{repo=\"a/b\",status=\"failed\"} 1\n".repeat(10_000);
        let part = Part::new(text.as_bytes());
        assert!(part.bytes.len() * 20 < text.len(), "{} of {}", part.bytes.len(), text.len());
        assert_eq!(unpacked(&member(std::slice::from_ref(&part), b"")), text.as_bytes());
    }
}
