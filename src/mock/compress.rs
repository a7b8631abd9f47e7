//! Compression of answers, frame by frame: what went in comes out at once, so that a compressed stream still streams.

use std::io;

use async_compression::{
    Level,
    tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder},
};
use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::behaviour::Encoding;

/// A compressor that writes to memory.
pub(super) enum Encoder {
    Gzip(GzipEncoder<Vec<u8>>),
    /// Boxed: its state is kilobytes, and the others should not carry them.
    Br(Box<BrotliEncoder<Vec<u8>>>),
    Zstd(ZstdEncoder<Vec<u8>>),
    /// HTTP's `deflate` is the zlib format (RFC 9110, section 8.4.1.2).
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        // The mock's answers repeat themselves; more effort would only cost time and, with Brotli, megabytes.
        let level = Level::Fastest;
        match encoding {
            Encoding::Gzip => Self::Gzip(GzipEncoder::with_quality(Vec::new(), level)),
            Encoding::Br => Self::Br(Box::new(BrotliEncoder::with_quality(Vec::new(), level))),
            Encoding::Zstd => Self::Zstd(ZstdEncoder::with_quality(Vec::new(), level)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::with_quality(Vec::new(), level)),
        }
    }

    /// The compressed form of `bytes`, complete enough that a reader can decode all of it.
    pub(super) async fn encode(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        let writer = self.writer();
        writer.write_all(bytes).await?;
        writer.flush().await?;
        Ok(self.take())
    }

    /// The end of the compressed form.
    pub(super) async fn finish(&mut self) -> io::Result<Bytes> {
        self.writer().shutdown().await?;
        Ok(self.take())
    }

    fn writer(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Br(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Deflate(encoder) => encoder,
        }
    }

    fn take(&mut self) -> Bytes {
        let written = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Br(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
        };
        std::mem::take(written).into()
    }
}
