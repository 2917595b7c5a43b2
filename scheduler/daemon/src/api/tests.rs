//! The API over real HTTP on loopback.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sterna_core::directive::Ask;
use sterna_core::record::Recorded;
use sterna_policies::policy::Mode;
use tokio::net::TcpListener;

use super::events::Feed;
use super::token::Token;
use super::*;
use crate::control::notice::Notice;
use crate::fixture;
use crate::observe::Observed;

const TOKEN: &str = "a token that is long enough";

#[derive(Debug, Clone, Copy)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }
}

struct Served {
    url: String,
    http: reqwest::Client,
    api: Api,
    _folder: tempfile::TempDir,
}

async fn serve(token: Option<&str>) -> Served {
    // The client wants one, whether or not it speaks TLS.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let api = Api {
        history: HistoryStore::open(folder.path()).unwrap(),
        desk: Arc::new(Desk::new(&fixture::continuum(), &[fixture::policy(Mode::Approve)])),
        telemetry: Arc::new(Telemetry::new()),
        feed: Feed::default(),
        token: token.map(Token::new),
        clock: Arc::new(Noon),
        looking_back: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
    tokio::spawn(crate::telemetry::serve(listener, routes(api.clone())));
    Served { url, http: reqwest::Client::new(), api, _folder: folder }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    async fn say(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// A decision that moves the shop, recorded and put up.
    async fn put_up(&self) -> i64 {
        let recorded = decided().await;
        let expires = recorded.now + Duration::from_secs(900);
        let id = self.api.history.record_decision(recorded).await.unwrap();
        self.api.history.put_up(id, Noon.now(), expires).await.unwrap();
        id
    }
}

async fn decided() -> Recorded {
    let mut policy = fixture::policy(Mode::Approve);
    policy.metrics.clear();
    let store = NoStore;
    let Observed { mut observation, .. } =
        crate::observe::observe(&store, &fixture::continuum(), fixture::view(), &policy, Noon.now()).await;
    let ms = |text: &str| sterna_core::observation::Sample {
        value: text.parse().unwrap(),
        age: Default::default(),
        source: sterna_core::observation::Source::Measured,
    };
    observation.latency = [(
        "north".into(),
        [("a".into(), ms("80ms")), ("b".into(), ms("10ms")), ("cloud".into(), ms("70ms"))].into(),
    )]
    .into();
    policy.metrics = fixture::policy(Mode::Approve).metrics;
    Recorded::make(observation, policy, Default::default(), Noon.now(), 1)
}

struct NoStore;

impl crate::observe::store::MetricStore for NoStore {
    async fn now(&self) -> Result<Timestamp, crate::observe::store::StoreError> {
        Ok(Noon.now())
    }
    async fn instant(
        &self,
        _: &str,
        _: Timestamp,
        _: sterna_policies::quantity::Millis,
    ) -> Result<crate::observe::store::Answer, crate::observe::store::StoreError> {
        Ok(crate::observe::store::Answer { rows: Vec::new() })
    }
}

#[test]
fn the_document_is_the_one_in_the_repository() {
    insta::assert_snapshot!(document().unwrap());
}

#[tokio::test]
async fn every_path_of_the_document_is_served_and_changes_need_the_token() {
    let served = serve(Some(TOKEN)).await;
    let document = served.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 12);
    for (path, methods) in paths {
        let path = path.strip_prefix("/api/v1").unwrap().replace("{id}", "1");
        for method in methods.as_object().unwrap().keys().filter(|one| *one == "post") {
            let method: Method = method.to_uppercase().parse().unwrap();
            let url = format!("{}{path}", served.url);
            for bearer in [None, Some("another token that is long")] {
                let mut request = served.http.request(method.clone(), &url).json(&json!({ "by": "eve" }));
                if let Some(bearer) = bearer {
                    request = request.bearer_auth(bearer);
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
                assert!(response.headers().contains_key("www-authenticate"));
                let error: Value = response.json().await.unwrap();
                assert!(error["next"].as_str().unwrap().contains("api-token"), "{error}");
            }
        }
        if methods.get("get").is_some() && path != "/events" {
            let (status, value) = served.ask(Method::GET, &path, None).await;
            let known = status == StatusCode::OK || value["message"].as_str().unwrap().contains('1');
            assert!(known, "{path}: {status} {value}");
        }
    }
    assert_eq!(served.api.history.directives().await.unwrap().0, []);
}

#[tokio::test]
async fn without_a_token_nothing_can_be_changed_and_it_is_said_why() {
    let served = serve(None).await;
    let (status, error) = served.say("/pause", json!({ "by": "eve" })).await;
    assert_eq!((status, error["error"].as_str()), (StatusCode::FORBIDDEN, Some("read-only")));
    assert_eq!(served.get("/status").await["continuum"], "fixture");
}

#[tokio::test]
async fn words_are_kept_with_who_said_them_and_shown_and_taken_back() {
    let served = serve(Some(TOKEN)).await;
    let heard = served.say("/pause", json!({ "by": "eve", "reason": "a demo" })).await.1;
    assert_eq!(heard["changed"], true);
    assert_eq!(heard["directives"][0]["by"], "eve");
    assert_eq!(served.say("/pause", json!({ "by": "bob" })).await.1["changed"], false);
    for (path, body) in [
        ("/cordon", json!({ "node": "b1", "by": "eve" })),
        ("/drain", json!({ "site": "cloud", "by": "eve" })),
        ("/optout", json!({ "service": "shop", "by": "eve" })),
    ] {
        assert_eq!(served.say(path, body).await.1["changed"], true, "{path}");
    }
    let status = served.get("/status").await;
    let of = |list: &str, key: &str, name: &str| {
        status[list].as_array().unwrap().iter().find(|one| one[key] == name).unwrap().clone()
    };
    assert_eq!(of("nodes", "node", "b1")["cordoned"], true);
    assert_eq!(of("nodes", "node", "c1")["drained"], true);
    assert_eq!(of("services", "service", "shop")["opted_out"], true);
    assert_eq!(status["directives"].as_array().unwrap().len(), 4);
    for (path, body) in [
        ("/resume", json!({ "by": "bob" })),
        ("/uncordon", json!({ "node": "b1", "by": "bob" })),
        ("/undrain", json!({ "site": "cloud", "by": "bob" })),
        ("/optin", json!({ "service": "shop", "by": "bob" })),
    ] {
        assert_eq!(served.say(path, body).await.1["changed"], true, "{path}");
    }
    assert_eq!(served.api.history.directives().await.unwrap().find(&Ask::Pause), None);
    // All of it stays on record.
    let file = rusqlite::Connection::open(served.api.history.path()).unwrap();
    let count: i64 = file.query_row("SELECT count(*) FROM directive", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 8);
    assert!(file.execute("DELETE FROM directive", []).unwrap_err().to_string().contains("append-only"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_to_do() {
    let served = serve(Some(TOKEN)).await;
    let long = "x".repeat(600);
    let huge = "x".repeat(20_000);
    for (path, body, status) in [
        ("/pause", json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        ("/pause", json!({ "by": " " }), StatusCode::BAD_REQUEST),
        ("/pause", json!({ "by": "eve", "why": "x" }), StatusCode::UNPROCESSABLE_ENTITY),
        ("/pause", json!({ "by": long }), StatusCode::BAD_REQUEST),
        ("/pause", json!({ "by": huge }), StatusCode::PAYLOAD_TOO_LARGE),
        ("/cordon", json!({ "by": "eve" }), StatusCode::BAD_REQUEST),
        ("/cordon", json!({ "by": "eve", "node": "b1", "site": "b" }), StatusCode::BAD_REQUEST),
        ("/cordon", json!({ "by": "eve", "node": "nowhere" }), StatusCode::NOT_FOUND),
        ("/optout", json!({ "by": "eve", "service": "nobody" }), StatusCode::NOT_FOUND),
        ("/approvals/9", json!({ "by": "eve" }), StatusCode::NOT_FOUND),
        ("/nothing", json!({ "by": "eve" }), StatusCode::NOT_FOUND),
        ("/status", json!({ "by": "eve" }), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let (found, error) = served.say(path, body).await;
        assert_eq!(found, status, "{path}: {error}");
        assert!(
            !error["next"].as_str().unwrap().is_empty() && !error["message"].as_str().unwrap().is_empty()
        );
    }
    for path in [
        "/decisions?since=soon",
        "/decisions?sinc=1d",
        "/decisions/first",
        "/report?since=-1d",
        "/decisions/5",
    ] {
        let (status, error) = served.ask(Method::GET, path, None).await;
        assert!(status.is_client_error(), "{path}: {status}");
        assert!(!error["next"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_plan_is_shown_and_approved_once() {
    let served = serve(Some(TOKEN)).await;
    let id = served.put_up().await;
    let status = served.get("/status").await;
    assert_eq!(status["approvals"][0]["id"], id);
    assert_eq!(status["approvals"][0]["moves"][0]["to"], "b1");
    assert_eq!(served.get("/approvals").await[0]["steps"], json!([]));
    let path = format!("/approvals/{id}");
    let (code, waiting) = served.say(&path, json!({ "by": "eve" })).await;
    assert_eq!(code, StatusCode::OK, "{waiting}");
    assert_eq!(
        (&waiting["steps"][0]["step"], &waiting["steps"][0]["by"]),
        (&json!("approved"), &json!("eve"))
    );
    let (code, error) = served.say(&path, json!({ "by": "bob" })).await;
    assert_eq!((code, error["error"].as_str()), (StatusCode::CONFLICT, Some("conflict")));

    let decision = served.get(&format!("/decisions/{id}")).await;
    assert_eq!(decision["recorded"]["policy"]["mode"], "approve");
    assert!(decision["text"].as_str().unwrap().contains("shop a1 -> b1"));
    let listed = served.get("/decisions?since=1h&moves=true").await;
    assert_eq!((&listed[0]["id"], &listed[0]["moves"]), (&json!(id), &json!(1)));
    assert_eq!(served.get("/decisions?since=2026-01-31T12:00:01Z").await, json!([]));
    assert_eq!(served.get("/migrations").await, json!([]));
    assert_eq!(served.get("/report").await["decisions"], 1);
}

#[tokio::test]
async fn an_order_that_is_stuck_is_told_however_many_came_after_it() {
    let served = serve(None).await;
    let mut file = rusqlite::Connection::open(served.api.history.path()).unwrap();
    let rows = file.transaction().unwrap();
    for n in 0..1500 {
        let at = format!("2026-01-01T00:{:02}:{:02}.000000000Z", n / 60, n % 60);
        rows.execute(
            "INSERT INTO intent VALUES (?1, NULL, ?2, 'shop', 'a1', 'b1', 0, 0, 0)",
            (n.to_string(), &at),
        )
        .unwrap();
        if n > 0 {
            let end = "INSERT INTO migration (id, ended, service, outcome) VALUES (?1, ?2, 'shop', 'moved')";
            rows.execute(end, (n.to_string(), &at)).unwrap();
        }
    }
    rows.commit().unwrap();
    let status = served.get("/status").await;
    let ids: Vec<_> = status["under_way"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["0"]);
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let served = serve(None).await;
    let mut response = served.http.get(format!("{}/events", served.url)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    served.api.feed.tell(&Notice::Failed(None, "the link broke"));
    let chunk = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await.unwrap().unwrap();
    let text = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
    assert_eq!(text, "event: failed\ndata: {\"event\":\"failed\",\"reason\":\"the link broke\"}\n\n");
}

#[tokio::test]
async fn what_a_refused_file_would_change_is_shown_for_as_long_as_it_is_refused() {
    use crate::reload::{FileError, Refused};
    use crate::telemetry::ConfigFile;
    use sterna_core::difference::Difference;
    let served = serve(None).await;
    assert_eq!(served.get("/status").await["refused"], json!([]));
    let mut response = served.http.get(format!("{}/events", served.url)).send().await.unwrap();
    let place = |n: usize| Difference { path: format!("k{n}"), old: Some(json!("1ms")), new: None };
    let error = FileError::Unfit { path: "p".into(), reason: "no".to_owned() };
    let refused = Refused { error, written: Some((0..120).map(place).collect()) };
    served.api.feed.tell(&Notice::ReloadRefused(ConfigFile::Policy, &refused));
    let chunk = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await.unwrap().unwrap();
    let text = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
    let sent: Value = serde_json::from_str(text.split_once("data: ").unwrap().1.trim()).unwrap();
    assert_eq!((&sent["file"], &sent["reason"]), (&json!("policy"), &json!("p can't be taken over: no")));
    assert_eq!(sent["written"]["places"][0], json!({ "path": "k0", "old": "1ms", "new": null }));
    let count = sent["written"]["places"].as_array().unwrap().len();
    assert_eq!((count, &sent["written"]["more"]), (100, &json!(20)));

    served.api.desk.read_again(ConfigFile::Policy, Some(refused), Noon.now());
    let shown = &served.get("/status").await["refused"];
    assert_eq!((&shown[0]["file"], &shown[0]["at"]), (&json!("policy"), &json!("2026-01-31T12:00:00Z")));
    assert_eq!(shown[0]["written"], sent["written"]);
    served.api.desk.read_again(ConfigFile::Policy, None, Noon.now());
    assert_eq!(served.get("/status").await["refused"], json!([]));
}
