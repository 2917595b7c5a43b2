//! Receivers over real HTTP on loopback.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ring::hmac;
use serde_json::{Value, json};
use sterna_core::plan::Plan;
use sterna_core::report::{Decision, Report, Verdict};
use sterna_policies::policy::Mode;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::control::notice::Decided;
use crate::control::world::SystemClock;
use crate::telemetry::ConfigFile;

const SECRET: &str = "a secret that is long enough";

/// What came in, and what is answered: the answers that are given here, in order, then 204.
#[derive(Default)]
struct Inbox {
    came: Mutex<Vec<(String, HeaderMap, Vec<u8>)>>,
    answers: Mutex<VecDeque<StatusCode>>,
    /// Whether it takes events and does not answer.
    mute: bool,
    rung: Notify,
}

async fn take(State(inbox): State<Arc<Inbox>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    inbox.came.lock().unwrap().push((uri.to_string(), headers, body.to_vec()));
    inbox.rung.notify_one();
    if inbox.mute {
        std::future::pending::<()>().await;
    }
    let answer = inbox.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::NO_CONTENT);
    let to = [(header::LOCATION, "/elsewhere")];
    if answer.is_redirection() { (answer, to).into_response() } else { answer.into_response() }
}

impl Inbox {
    async fn serve(self) -> (Arc<Self>, Url) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a-path-that-is-secret", listener.local_addr().unwrap());
        let inbox = Arc::new(self);
        let routes = Router::new().fallback(take).with_state(Arc::clone(&inbox));
        tokio::spawn(crate::telemetry::serve(listener, routes));
        (inbox, url.parse().unwrap())
    }

    async fn until(&self, count: usize) -> Vec<(String, HeaderMap, Value)> {
        let enough = async {
            while self.came.lock().unwrap().len() < count {
                self.rung.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), enough).await.unwrap();
        let came = self.came.lock().unwrap();
        let read = |body: &[u8]| serde_json::from_slice(body).unwrap();
        came.iter().map(|(path, headers, body)| (path.clone(), headers.clone(), read(body))).collect()
    }
}

const QUICK: Pace = Pace {
    timeout: Duration::from_millis(500),
    first: Duration::from_millis(5),
    last: Duration::from_millis(20),
    again: 3,
};

struct Bench {
    hooks: Hooks,
    telemetry: Arc<Telemetry>,
}

fn start(url: &Url, kinds: &[Kind], secret_file: Option<&Path>, pace: Pace) -> Bench {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let kinds = kinds.iter().copied().collect();
    let webhook = Webhook { url: url.clone(), kinds, secret_file: secret_file.map(Path::to_owned) };
    let telemetry = Arc::new(Telemetry::new());
    let clock = Arc::new(SystemClock);
    let hooks = Hooks::start_at(pace, &[webhook], "fixture", Arc::clone(&telemetry), clock).unwrap();
    Bench { hooks, telemetry }
}

impl Bench {
    fn counted(&self, metric: &str, reason: Option<&str>) -> u64 {
        let text = self.telemetry.text().unwrap();
        let of = |line: &&str| {
            line.starts_with(&format!("sterna_webhook_{metric}_total{{"))
                && reason.is_none_or(|reason| line.contains(&format!("reason=\"{reason}\"")))
        };
        text.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

fn settled(hooks: &Hooks, text: &str) {
    hooks.tell(&Notice::Settled(text));
}

#[tokio::test]
async fn an_event_arrives_signed_and_as_the_stream_has_it() {
    let (inbox, url) = Inbox::default().serve().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let bench = start(&url, &Kind::ALL, Some(&file), QUICK);
    settled(&bench.hooks, "it arrived");
    let (path, headers, body) = inbox.until(1).await.remove(0);
    assert_eq!(path, "/a-path-that-is-secret");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["sterna-event"], "migration");
    assert_eq!(headers["sterna-delivery"], body["delivery"].as_str().unwrap());
    assert_eq!((&body["event"], &body["text"]), (&json!("settled"), &json!("it arrived")));
    assert_eq!((&body["continuum"], &body["kind"]), (&json!("fixture"), &json!("migration")));
    let _: Timestamp = body["at"].as_str().unwrap().parse().unwrap();
    // As a receiver checks it: over the bytes that came.
    let raw = inbox.came.lock().unwrap()[0].2.clone();
    let hex = headers["sterna-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    let tag: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &raw, &tag).unwrap();
    assert!(hmac::verify(&key, &raw[1..], &tag).is_err());
    bench.hooks.finish(Duration::from_secs(5)).await;
    assert_eq!((bench.counted("delivered", None), bench.counted("dropped", None)), (1, 0));
    assert!(!bench.telemetry.text().unwrap().contains("secret"));
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed_and_a_short_one_is_refused() {
    let (inbox, url) = Inbox::default().serve().await;
    let bench = start(&url, &Kind::ALL, None, QUICK);
    settled(&bench.hooks, "x");
    assert!(!inbox.until(1).await[0].1.contains_key("sterna-signature"));
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("short", Some("secret")), ("none", None)] {
        let path = folder.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let webhook = Webhook { url: url.clone(), kinds: Kind::ALL.into(), secret_file: Some(path.clone()) };
        let refused = Hooks::start(&[webhook], "x", Arc::clone(&bench.telemetry), Arc::new(SystemClock));
        let error = refused.err().unwrap().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && !error.contains(url.as_str()), "{error}");
    }
}

#[tokio::test]
async fn only_the_kinds_that_are_wanted_come_and_a_failure_that_lasts_comes_once() {
    let (inbox, url) = Inbox::default().serve().await;
    let bench = start(&url, &[Kind::Decision, Kind::Reload], None, QUICK);
    let report = sterna_policies::diagnose::Findings::new("p", "").finish(()).unwrap().warnings;
    settled(&bench.hooks, "not wanted");
    bench.hooks.tell(&Notice::Breaker(None));
    bench.hooks.tell(&Notice::Failed(Some("a"), "dark"));
    bench.hooks.tell(&Notice::Failed(Some("a"), "dark"));
    bench.hooks.tell(&Notice::Failed(Some("a"), "full"));
    bench.hooks.tell(&Notice::Reloaded(ConfigFile::Policy, &report, &[]));
    bench.hooks.finish(Duration::from_secs(5)).await;
    let events: Vec<_> = inbox.until(3).await.iter().map(|(.., body)| body["event"].clone()).collect();
    assert_eq!(events, [json!("failed"), json!("failed"), json!("reloaded")]);
}

/// One fails, the other decides, over and over.
#[tokio::test]
async fn a_policy_that_fails_is_told_once_whatever_others_decide() {
    let (inbox, url) = Inbox::default().serve().await;
    let bench = start(&url, &[Kind::Decision], None, QUICK);
    let decided = |name: &str| {
        let decision = Decision { plan: Plan::default(), report: stay(name), standing: Default::default() };
        bench.hooks.tell(&Notice::Decided(Decided {
            number: 1,
            policy: name,
            decision: &decision,
            mode: Mode::Auto,
            news: false,
            acted_on: false,
            notes: &[],
        }));
    };
    for _ in 0..5 {
        bench.hooks.tell(&Notice::Failed(Some("a"), "dark"));
        decided("b");
    }
    decided("a");
    bench.hooks.tell(&Notice::Failed(Some("a"), "dark"));
    bench.hooks.finish(Duration::from_secs(5)).await;
    let came = inbox.until(2).await;
    assert_eq!(came.len(), 2, "once, and again after it had decided");
    assert_eq!(came[0].2["policy"], "a");
}

fn stay(policy: &str) -> Report {
    Report {
        policy: policy.to_owned(),
        verdict: Verdict::Stay,
        services: Vec::new(),
        solver: None,
        makespan: None,
        unknown: Vec::new(),
    }
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again_as_the_same_and_in_order() {
    let answers = [500, 429].map(|code| StatusCode::from_u16(code).unwrap()).into();
    let (inbox, url) = Inbox { answers: Mutex::new(answers), ..Inbox::default() }.serve().await;
    let bench = start(&url, &Kind::ALL, None, QUICK);
    settled(&bench.hooks, "first");
    settled(&bench.hooks, "second");
    bench.hooks.finish(Duration::from_secs(5)).await;
    let came = inbox.until(4).await;
    let texts: Vec<_> = came.iter().map(|(.., body)| body["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["first", "first", "first", "second"]);
    assert!(came[..3].iter().all(|(.., body)| body["delivery"] == came[0].2["delivery"]));
    assert_ne!(came[3].2["delivery"], came[0].2["delivery"]);
    assert_eq!((bench.counted("delivered", None), bench.counted("dropped", None)), (2, 0));
}

#[tokio::test]
async fn what_is_not_wanted_is_not_tried_again_and_redirects_are_not_followed() {
    let answers = [400, 307].map(|code| StatusCode::from_u16(code).unwrap()).into();
    let (inbox, url) = Inbox { answers: Mutex::new(answers), ..Inbox::default() }.serve().await;
    let bench = start(&url, &Kind::ALL, None, QUICK);
    (0..3).for_each(|_| settled(&bench.hooks, "x"));
    bench.hooks.finish(Duration::from_secs(5)).await;
    let came = inbox.until(3).await;
    assert_eq!(came.len(), 3);
    assert!(came.iter().all(|(path, ..)| path == "/a-path-that-is-secret"));
    assert_eq!((bench.counted("delivered", None), bench.counted("dropped", Some("refused"))), (1, 2));
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_given_up_and_the_next_event_is_tried() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/x", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let bench = start(&url, &Kind::ALL, None, QUICK);
    settled(&bench.hooks, "x");
    settled(&bench.hooks, "y");
    bench.hooks.finish(Duration::from_secs(10)).await;
    assert_eq!((bench.counted("dropped", Some("given-up")), bench.counted("dropped", None)), (2, 2));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_delays_nobody_and_fills_no_memory() {
    let (inbox, url) = Inbox { mute: true, ..Inbox::default() }.serve().await;
    let pace = Pace { timeout: Duration::from_secs(3600), ..QUICK };
    let bench = start(&url, &Kind::ALL, None, pace);
    settled(&bench.hooks, "on its way");
    inbox.until(1).await;
    let began = Instant::now();
    (0..1000).for_each(|_| settled(&bench.hooks, "x"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(bench.counted("dropped", Some("full")), 1000 - MOST as u64);
    // Few large ones are too many as well.
    let bench = start(&url, &Kind::ALL, None, pace);
    let large = "x".repeat(MOST_BYTES / 4);
    (0..10).for_each(|_| settled(&bench.hooks, &large));
    assert_eq!(bench.counted("dropped", Some("full")), 7);
    // Stopping waits for as long as it may, and no longer; what is lost by it is counted.
    let began = Instant::now();
    bench.hooks.finish(Duration::from_millis(200)).await;
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(3));
    assert_eq!(bench.counted("dropped", Some("stopped")), 3);
}

#[tokio::test]
async fn stopping_delivers_what_waits() {
    let answers = std::iter::repeat_n(StatusCode::SERVICE_UNAVAILABLE, 2).collect();
    let (inbox, url) = Inbox { answers: Mutex::new(answers), ..Inbox::default() }.serve().await;
    let bench = start(&url, &Kind::ALL, None, QUICK);
    (0..20).for_each(|n| settled(&bench.hooks, &n.to_string()));
    bench.hooks.finish(Duration::from_secs(10)).await;
    assert_eq!(inbox.came.lock().unwrap().len(), 22);
    assert_eq!((bench.counted("delivered", None), bench.counted("dropped", None)), (20, 0));
}
