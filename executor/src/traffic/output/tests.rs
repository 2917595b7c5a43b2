//! Scripted readings: what is printed of them, and in which order places are asked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::stream;

use super::*;

fn place(node: &str, epoch: u64) -> Place {
    Place { node: node.into(), epoch }
}

fn piece(at: i64, text: &str) -> io::Result<Output> {
    let at = Timestamp::from_second(at).unwrap();
    Ok(Output { at, stream: StdStream::Out, bytes: Bytes::copy_from_slice(text.as_bytes()) })
}

fn broken() -> io::Result<Output> {
    Err(io::Error::other("broken"))
}

type Script = Vec<io::Result<Output>>;

/// Each reading of a node is the next of its scripts; after the last one it is absent.
#[derive(Default)]
struct Scripts {
    left: Mutex<BTreeMap<NodeName, VecDeque<Script>>>,
    asked: Mutex<Vec<String>>,
    /// These never end.
    endless: Vec<&'static str>,
}

impl Scripts {
    fn of<const N: usize>(scripts: [(&str, Vec<Script>); N]) -> Self {
        let left = scripts.into_iter().map(|(node, all)| (node.into(), all.into())).collect();
        Self { left: Mutex::new(left), ..Self::default() }
    }
}

impl Reading for Scripts {
    async fn read(&self, place: &Place) -> Result<BoxStream<'static, io::Result<Output>>, Unread> {
        self.asked.lock().unwrap().push(place.node.to_string());
        let next = self.left.lock().unwrap().get_mut(&place.node).and_then(VecDeque::pop_front);
        let script = stream::iter(next.ok_or_else(|| Unread::Absent("gone".to_owned()))?);
        let endless = self.endless.contains(&place.node.as_str());
        Ok(if endless { script.chain(stream::pending()).boxed() } else { script.boxed() })
    }
}

#[derive(Default)]
struct Paper(String);

impl Printing for Paper {
    async fn print(&mut self, piece: Output) -> io::Result<()> {
        self.0.push_str(std::str::from_utf8(&piece.bytes).unwrap());
        Ok(())
    }
}

async fn printed(places: Vec<Place>, scripts: &Scripts) -> (String, Result<(), FollowError>) {
    let mut paper = Paper::default();
    let end = follow_output(stream::iter(places), scripts, &mut paper).await;
    (paper.0, end)
}

#[tokio::test(start_paused = true)]
async fn each_place_is_read_to_its_end_in_the_order_of_epochs() {
    let scripts = Scripts::of([
        ("a", vec![vec![piece(1, "one\n"), piece(2, "tw")]]),
        ("b", vec![vec![piece(3, "o\n"), piece(4, "three\n")]]),
    ]);
    // What an agent that is late says of the past changes nothing.
    let places = vec![place("a", 0), place("b", 1), place("a", 0)];
    let (text, end) = printed(places, &scripts).await;
    assert_eq!(text, "one\ntwo\nthree\n");
    end.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_or_begins_again_is_read_again_and_nothing_of_it_printed_twice() {
    let scripts = Scripts::of([(
        "a",
        vec![
            vec![piece(1, "1 "), piece(2, "2 "), piece(2, "3 "), broken()],
            vec![piece(1, "1 "), piece(2, "2 "), piece(2, "3 "), piece(2, "4 ")],
            // It was started again meanwhile, with the clock set back.
            vec![
                piece(1, "1 "),
                piece(2, "2 "),
                piece(2, "3 "),
                piece(2, "4 "),
                piece(5, "5 "),
                piece(3, "6 "),
            ],
        ],
    )]);
    let (text, end) = printed(vec![place("a", 3)], &scripts).await;
    assert_eq!(text, "1 2 3 4 5 6 ");
    end.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_place_that_the_service_has_left_and_that_is_silent_is_given_up() {
    let mut scripts = Scripts::of([
        ("a", (0..100).map(|_| vec![piece(1, "1 ")]).collect()),
        ("b", vec![vec![piece(3, "2 ")]]),
    ]);
    scripts.endless = vec!["a"];
    let begin = Instant::now();
    let (text, end) = printed(vec![place("a", 0), place("b", 1)], &scripts).await;
    assert_eq!(text, "1 2 ");
    end.unwrap();
    assert!(begin.elapsed() < PATIENCE * 4, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_the_last_place_can_not_be_read_that_is_said() {
    let scripts = Scripts::of([("a", (0..1000).map(|_| vec![piece(1, "1 "), broken()]).collect())]);
    let (text, end) = printed(vec![place("a", 0)], &scripts).await;
    assert_eq!(text, "1 ");
    let said = end.unwrap_err().to_string();
    assert!(said.contains("node `a`") && said.contains("broken"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_read_is_heard_to_be_left() {
    let mut scripts = Scripts::of([
        ("a", vec![vec![piece(1, "1 ")], vec![piece(1, "1 "), piece(2, "2 ")]]),
        ("b", vec![vec![piece(3, "3 ")]]),
    ]);
    scripts.endless = vec![];
    // The service is started anew at `a`, and moves on a minute later.
    let places = stream::unfold(0, |at| async move {
        match at {
            0 => Some((place("a", 0), 1)),
            1 => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Some((place("b", 1), 2))
            }
            _ => None,
        }
    });
    let mut paper = Paper::default();
    follow_output(places, &scripts, &mut paper).await.unwrap();
    assert_eq!(paper.0, "1 2 3 ");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_left_before_its_turn_is_read_all_the_same() {
    /// What is written at `a` comes slowly.
    struct Slow(Scripts);
    impl Reading for Slow {
        async fn read(&self, place: &Place) -> Result<Pieces, Unread> {
            let pause = Duration::from_secs(if place.node.as_str() == "a" { 5 } else { 0 });
            let pieces = self.0.read(place).await?;
            Ok(pieces
                .then(move |piece| async move {
                    tokio::time::sleep(pause).await;
                    piece
                })
                .boxed())
        }
    }
    let slow = Slow(Scripts::of([
        ("a", vec![vec![piece(1, "1 ")]]),
        ("b", vec![vec![piece(2, "2 ")]]),
        ("c", vec![vec![piece(3, "3 ")]]),
    ]));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut paper = Paper::default();
    // Meanwhile `b` is come to and left.
    let moves = async {
        tell.send(place("a", 0)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        tell.send(place("b", 1)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.0.left.lock().unwrap().remove(&NodeName::from("b"));
        tell.send(place("c", 2)).unwrap();
        drop(tell);
    };
    let places = stream::poll_fn(move |context| told.poll_recv(context));
    let (end, ()) = tokio::join!(follow_output(places, &slow, &mut paper), moves);
    end.unwrap();
    assert_eq!(paper.0, "1 2 3 ");
}
