//! Standing in for a service: what it writes is printed wherever it runs, and its end is told.

use std::collections::BTreeMap;
use std::io;

use sterna_core::continuum::ServiceName;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::node::api::Output;

use super::follow::Believed;
use super::output::{Place, Printing, Reading, follow_output};

/// Passes on all that a service writes, place after place, and gives the code that it has ended with once that is done. What can't
/// be passed on any more is dropped: clients are served on.
pub async fn until_it_ends(
    believed: watch::Receiver<BTreeMap<ServiceName, Believed>>,
    service: ServiceName,
    reading: &impl Reading,
    printing: &mut impl Printing,
) -> i64 {
    let (place, places) = mpsc::unbounded_channel();
    // Beside the printing: whoever takes what is printed may take it slowly, and no place must be missed meanwhile.
    let ended = tokio::spawn(tell_places(believed, service, place));
    let mut printing = Untiring { printing, failed: false };
    if let Err(error) = follow_output(UnboundedReceiverStream::new(places), reading, &mut printing).await {
        tracing::error!(%error, "not all that the service wrote was printed");
    }
    match ended.await {
        Ok(code) => code,
        // It neither panics nor is aborted, but while the process ends.
        Err(_) => std::future::pending().await,
    }
}

/// Tells the places of a service in the order in which they are heard of, up to where it has ended; with which code.
async fn tell_places(
    mut believed: watch::Receiver<BTreeMap<ServiceName, Believed>>,
    service: ServiceName,
    place: mpsc::UnboundedSender<Place>,
) -> i64 {
    loop {
        let now = believed.borrow_and_update().get(&service).cloned().unwrap_or_default();
        // Nobody may listen any more where nothing can be read.
        if let Some(end) = now.ended {
            let _ = place.send(Place { node: end.node, epoch: end.ended.epoch });
            return end.ended.code;
        }
        if let Some(owned) = now.owned {
            let _ = place.send(Place { node: owned.node, epoch: owned.announced.epoch });
        }
        if believed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Prints for as long as that is possible.
struct Untiring<'a, P> {
    printing: &'a mut P,
    failed: bool,
}

impl<P: Printing> Printing for Untiring<'_, P> {
    async fn print(&mut self, piece: Output) -> io::Result<()> {
        if !self.failed
            && let Err(error) = self.printing.print(piece).await
        {
            self.failed = true;
            tracing::error!(%error, "what the service writes can't be printed any more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use futures_util::stream::{self, BoxStream};
    use jiff::Timestamp;

    use super::*;
    use crate::node::api::StdStream;
    use crate::traffic::announcement::{Announced, Ended, Standing};
    use crate::traffic::output::Unread;
    use crate::traffic::place::{End, Owned};

    fn owned(node: &str, epoch: u64) -> Believed {
        let announced = Announced { epoch, standing: Standing::Runs, ports: BTreeMap::new() };
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Believed { owned: Some(Owned { node: node.into(), host, announced }), ended: None }
    }

    fn ended(node: &str, epoch: u64, code: i64) -> Believed {
        let end = End { node: node.into(), ended: Ended { epoch, code } };
        Believed { owned: None, ended: Some(end) }
    }

    /// Each place has written its node and epoch, and that is all.
    struct Wrote;

    impl Reading for Wrote {
        async fn read(&self, place: &Place) -> Result<BoxStream<'static, io::Result<Output>>, Unread> {
            let bytes = Bytes::from(format!("{}{}\n", place.node, place.epoch));
            let at = Timestamp::UNIX_EPOCH;
            Ok(stream::iter([Ok(Output { at, stream: StdStream::Out, bytes })]).boxed())
        }
    }

    /// Takes a second for each piece, and fails at the end.
    struct Slow(Arc<Mutex<String>>);

    impl Printing for Slow {
        async fn print(&mut self, piece: Output) -> io::Result<()> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.lock().unwrap().push_str(std::str::from_utf8(&piece.bytes).unwrap());
            match self.0.lock().unwrap().len() {
                9.. => Err(io::ErrorKind::BrokenPipe.into()),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_every_place_wrote_is_printed_before_the_end_is_told() {
        let service = ServiceName::from("web");
        let say = watch::Sender::new(BTreeMap::from([(service.clone(), owned("a", 1))]));
        let (printed, told) = (Arc::default(), say.subscribe());
        let mut slow = Slow(Arc::clone(&printed));
        let told = tokio::spawn(async move { until_it_ends(told, service, &Wrote, &mut slow).await });
        // Faster than it is printed.
        for (at, now) in [(2, owned("b", 2)), (3, owned("a", 3)), (4, ended("a", 4, 7))] {
            tokio::time::sleep(Duration::from_millis(at)).await;
            say.send_modify(|all| drop(all.insert("web".into(), now)));
        }
        assert_eq!(told.await.unwrap(), 7, "also where nobody takes what is printed any more");
        assert_eq!(*printed.lock().unwrap(), "a1\nb2\na3\n");
    }
}
