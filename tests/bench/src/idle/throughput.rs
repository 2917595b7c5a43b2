//! What a client gets through to a service, over different ways.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The program that takes what is sent; it stands behind the clock that programs share.
pub const SINK: &str = include_str!("../programs/sink.pl");
/// Its port.
pub const PORT: u16 = 7600;
/// How long is sent.
const LENGTH: Duration = Duration::from_secs(3);
/// What is sent at once.
const PIECE: usize = 256 * 1024;
/// How long the sink may take for what is still under way.
const REST: Duration = Duration::from_secs(30);

/// MiB per second that arrive at a sink, over one connection, for some seconds.
///
/// # Errors
/// When it can't be reached, or says that not everything arrived.
pub async fn measure(address: SocketAddr) -> anyhow::Result<f64> {
    send(address, LENGTH).await
}

async fn send(address: SocketAddr, length: Duration) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("the sink at {address}"))?;
    let piece = vec![0; PIECE];
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < length {
        stream.write_all(&piece).await?;
        sent += PIECE as u64;
    }
    stream.shutdown().await?;
    let mut told = String::new();
    tokio::time::timeout(REST, stream.read_to_string(&mut told)).await.context("the sink says nothing")??;
    let took = start.elapsed().as_secs_f64();
    let arrived: u64 = told.trim().parse().with_context(|| format!("the sink says `{told}`"))?;
    ensure!(arrived == sent, "{sent} bytes were sent to {address}, {arrived} arrived");
    Ok(sent as f64 / 1_048_576.0 / took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pump::CLOCK;

    /// The program itself, on this host.
    #[tokio::test]
    async fn what_is_sent_arrives_whole_or_is_no_measurement() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let mut sink = tokio::process::Command::new("perl")
            .args(["-e", &format!("{CLOCK}\n{SINK}"), &address.port().to_string()])
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut rate = Err(anyhow::anyhow!("never tried"));
        for _ in 0..100 {
            rate = send(address, Duration::from_millis(50)).await;
            if rate.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(rate.unwrap() > 0.0);
        sink.kill().await.unwrap();

        let liar = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = liar.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut peer, _) = liar.accept().await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            peer.write_all(format!("{}\n", all.len() - 1).as_bytes()).await.unwrap();
        });
        assert!(send(address, Duration::from_millis(10)).await.is_err());
    }
}
