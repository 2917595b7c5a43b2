//! Whether it pays to compress a chunk: where the link takes longer for what is saved than the processor for saving it.
//!
//! Both are measured while the stream runs. A fast link takes what is written at once and nothing is compressed; on a slow one
//! writing waits, and what compression saves is weighed against what it takes.

use std::io;
use std::time::Duration;

use zstd::bulk::Compressor;

/// The fastest of zstd's usual levels: here time saved on the link is weighed against time, not against room.
const LEVEL: i32 = 1;
/// Share of a new measurement in the moving mean.
const WEIGHT: f64 = 0.2;
/// A chunk in so many is compressed although it did not pay the last time: contents change.
const PROBE: u32 = 32;
/// Shorter pieces are sent as they are; they tell nothing either.
const SHORT: usize = 512;

/// What compressing and sending take, as measured so far. Times in seconds per byte.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    /// Of the link.
    link: Option<f64>,
    /// Of the processor.
    packing: Option<f64>,
    /// What is left of a byte.
    ratio: Option<f64>,
}

impl Measured {
    /// Whether compressing saves more than it takes. Unknown is worth a try.
    fn pays(&self) -> bool {
        match (self.link, self.packing, self.ratio) {
            (Some(link), Some(packing), Some(ratio)) => packing < link * (1.0 - ratio),
            // Nothing was sent yet that would tell the link's speed.
            (None, ..) => false,
            _ => true,
        }
    }
}

fn mix(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + WEIGHT * (value - mean)));
}

/// Compresses the chunks of one stream, where that pays.
pub struct Packer {
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    measured: Measured,
    chunks: u32,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("measured", &self.measured).finish_non_exhaustive()
    }
}

impl Packer {
    /// Nothing measured yet.
    pub fn new() -> Self {
        // Without one nothing is compressed, and nothing is lost by that.
        let compressor = Compressor::new(LEVEL).ok();
        Self { compressor, packed: Vec::new(), measured: Measured::default(), chunks: 0 }
    }

    /// The chunk compressed, if that pays.
    pub fn pack(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        self.chunks = self.chunks.wrapping_add(1);
        let try_it =
            self.measured.pays() || self.measured.link.is_some() && self.chunks.is_multiple_of(PROBE);
        let compressor = self.compressor.as_mut().filter(|_| try_it && bytes.len() >= SHORT)?;
        let began = std::time::Instant::now();
        self.packed.resize(zstd::zstd_safe::compress_bound(bytes.len()), 0);
        let length = compressor.compress_to_buffer(bytes, self.packed.as_mut_slice()).ok()?;
        mix(&mut self.measured.packing, began.elapsed().as_secs_f64() / bytes.len() as f64);
        mix(&mut self.measured.ratio, length as f64 / bytes.len() as f64);
        (length < bytes.len()).then(|| &self.packed[..length])
    }

    /// Notes how long the link took for so many bytes.
    pub fn sent(&mut self, bytes: usize, took: Duration) {
        if bytes >= SHORT {
            mix(&mut self.measured.link, took.as_secs_f64() / bytes as f64);
        }
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

/// A compressed chunk as it was; it must have exactly this length.
///
/// # Errors
/// When it can't be read or has another length.
pub fn unpack(packed: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let bytes = zstd::bulk::decompress(packed, length)?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a compressed chunk is shorter than it should be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 1 << 16;

    fn text() -> Vec<u8> {
        b"what is said again and again. ".iter().copied().cycle().take(CHUNK).collect()
    }

    /// Not compressible.
    fn noise() -> Vec<u8> {
        let mut hash = blake3::Hasher::new().finalize_xof();
        let mut bytes = vec![0; CHUNK];
        hash.fill(&mut bytes);
        bytes
    }

    /// How many of so many chunks are compressed over a link that takes so long for each byte that it gets.
    fn packed(chunk: &[u8], per_byte: Duration, chunks: u32) -> u32 {
        let mut packer = Packer::new();
        let mut count = 0;
        for _ in 0..chunks {
            let length = packer.pack(chunk).map(<[u8]>::len);
            count += u32::from(length.is_some());
            let length = length.unwrap_or(chunk.len());
            packer.sent(length, per_byte * u32::try_from(length).unwrap());
        }
        count
    }

    #[test]
    fn a_slow_link_gets_compressed_chunks_and_a_fast_one_does_not() {
        // A tenth of a megabyte in a second; and more than any processor compresses.
        assert!(packed(&text(), Duration::from_micros(10), 64) > 60);
        assert!(packed(&text(), Duration::ZERO, 64) <= 64 / PROBE);
    }

    #[test]
    fn what_can_not_be_compressed_is_sent_as_it_is() {
        assert_eq!(packed(&noise(), Duration::from_micros(10), 64), 0);
    }

    #[test]
    fn a_chunk_comes_out_as_it_went_in() {
        let mut packer = Packer::new();
        packer.sent(CHUNK, Duration::from_secs(1));
        let packed = packer.pack(&text()).unwrap().to_vec();
        assert!(packed.len() < 1000);
        assert_eq!(unpack(&packed, CHUNK).unwrap(), text());
        unpack(&packed, CHUNK - 1).unwrap_err();
        unpack(&packed, CHUNK + 1).unwrap_err();
        unpack(&packed[1..], CHUNK).unwrap_err();
    }
}
