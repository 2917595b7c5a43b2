//! Answers that a real server gives only in bad times.

use std::time::Duration;

use jiff::Timestamp;
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

async fn answering(response: ResponseTemplate) -> (MockServer, Prometheus) {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/api/v1/query")).respond_with(response).mount(&server).await;
    let store = Prometheus::new(&server.uri(), Millis::from_micros(300_000_000)).unwrap();
    (server, store)
}

async fn ask(response: ResponseTemplate) -> Result<Answer, StoreError> {
    let (_server, store) = answering(response).await;
    let at = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    store.instant("x", at, Millis::from_micros(30_000_000_000)).await
}

fn json(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), "application/json")
}

#[tokio::test]
async fn the_evaluation_time_and_the_lookback_are_sent_with_milliseconds() {
    let (server, store) =
        answering(json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#)).await;
    let at = Timestamp::from_millisecond(1_700_000_000_023).unwrap();
    store.instant("a + b", at, Millis::from_micros(1_500_000_000)).await.unwrap();
    let request = &server.received_requests().await.unwrap()[0];
    let body = String::from_utf8(request.body.clone()).unwrap();
    for part in
        ["query=a+%2B+b", "time=1700000000.023", "lookback_delta=1500ms", "timeout=300ms", "limit=100000"]
    {
        assert!(body.split('&').any(|one| one == part), "no {part} in {body}");
    }
}

#[tokio::test]
async fn infinite_values_and_native_histograms_are_rows_all_the_same() {
    let answer = ask(json(
        r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"x","site":"a"},"value":[1.5,"+Inf"]},
            {"metric":{"site":"b"},"value":[1.5,"NaN"]},
            {"metric":{"site":"c"},"histogram":[1.5,{"count":"3","sum":"2","buckets":[]}]}]},"infos":["odd name"]}"#,
    ))
    .await
    .unwrap();
    let values: Vec<_> = answer.rows.iter().map(|row| row.value.map(|value| value.to_string())).collect();
    assert_eq!(values, [Some("inf".to_owned()), Some("NaN".to_owned()), None]);
    assert_eq!(answer.rows[0].labels.keys().collect::<Vec<_>>(), ["site"]);
}

#[tokio::test]
async fn more_than_any_query_should_give_is_refused() {
    let answer = |series: usize| {
        let row = |n: usize| format!(r#"{{"metric":{{"n":"{n}"}},"value":[1,"1"]}}"#);
        let rows: Vec<String> = (0..series).map(row).collect();
        let rows = rows.join(",");
        json(&format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{rows}]}}}}"#))
    };
    // It takes a while to read it.
    let ask = async |response| {
        let (server, _) = answering(response).await;
        let store = Prometheus::new(&server.uri(), "1m".parse().unwrap()).unwrap();
        store.instant("x", Timestamp::UNIX_EPOCH, "30s".parse().unwrap()).await
    };
    assert_eq!(ask(answer(1000)).await.unwrap().rows.len(), 1000);
    let series = StoreError::TooMuch { most: "100000 series".to_owned() };
    assert_eq!(ask(answer(MOST_SERIES + 1)).await, Err(series));
    let bytes = StoreError::TooMuch { most: "64 MiB".to_owned() };
    assert_eq!(ask(json(&" ".repeat(MOST_BYTES + 1))).await, Err(bytes));
}

#[tokio::test]
async fn warnings_make_an_answer_partial() {
    let body =
        r#"{"status":"success","warnings":["store x is down"],"data":{"resultType":"vector","result":[]}}"#;
    assert_eq!(ask(json(body)).await, Err(StoreError::Partial("store x is down".to_owned())));
}

#[tokio::test]
async fn refusals_are_told_from_proxies_and_silence() {
    let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let response = ResponseTemplate::new(400).set_body_raw(refused.as_bytes().to_vec(), "application/json");
    assert!(matches!(ask(response).await, Err(StoreError::Refused { kind, .. }) if kind == "bad_data"));
    let slow = r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
    let response = ResponseTemplate::new(503).set_body_raw(slow.as_bytes().to_vec(), "application/json");
    assert!(matches!(ask(response).await, Err(StoreError::Timeout { .. })));
    let response = ResponseTemplate::new(502).set_body_string("<html>bad gateway</html>");
    assert!(
        matches!(ask(response).await, Err(StoreError::NotPrometheus { reason, .. }) if reason.contains("502"))
    );
    let response = json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#);
    let late = response.set_delay(Duration::from_secs(5));
    assert!(matches!(ask(late).await, Err(StoreError::Timeout { .. })));
    let matrix = json(r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#);
    assert_eq!(ask(matrix).await, Err(StoreError::NotVector("range vector".to_owned())));
}

#[tokio::test]
async fn the_server_s_clock_is_asked_without_a_time() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let server = MockServer::start().await;
    let time = json(
        r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.25,"1700000000.25"]}}"#,
    );
    Mock::given(body_string_contains("query=time%28%29")).respond_with(time).mount(&server).await;
    let store = Prometheus::new(&server.uri(), Millis::from_micros(300_000_000)).unwrap();
    assert_eq!(store.now().await.unwrap().as_millisecond(), 1_700_000_000_250);
    let request = &server.received_requests().await.unwrap()[0];
    assert!(!String::from_utf8_lossy(&request.body).contains("time="));
}

#[test]
fn an_address_without_a_scheme_is_refused() {
    let error = Prometheus::new("localhost:9090", Millis::from_micros(1_000_000)).err().unwrap();
    assert!(error.to_string().contains("http://127.0.0.1:9090"), "{error}");
}
