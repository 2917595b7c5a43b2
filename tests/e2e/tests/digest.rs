//! A Redis of the host's engine: the digest tells a lost write, the writer's record does not.

use std::time::Duration;

use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::Reference;
use sterna_e2e::docker;
use sterna_e2e::writer::Writer;

#[tokio::test]
async fn the_record_of_the_client_agrees_with_what_redis_holds() {
    let id = std::process::id();
    let written = Reference::start(&format!("sterna-e2e-written-{id}")).await.unwrap();
    let dataset = Dataset::new(5000);
    dataset.load(written.address()).await.unwrap();
    let mut writer = Writer::start(&[written.address()], dataset.clone());
    writer.wait_until(Duration::from_secs(60), |seen| seen.writes > 6000).await.unwrap();
    let (dataset, seen) = writer.stop().await.unwrap();
    assert_eq!(seen.reconnects, 0);

    let name = format!("sterna-e2e-reference-{id}");
    let reference = Reference::start(&name).await.unwrap();
    let expected = reference.digest_of(&dataset).await.unwrap();
    assert_eq!(written.digest().await.unwrap(), expected);
    assert_eq!(dataset.differences(written.address(), 5).await.unwrap(), Vec::<String>::new());

    // One write that Redis holds and nobody was told of: both must show it.
    let mut other = dataset.clone();
    other.acknowledged(7, seen.writes + 1);
    assert_ne!(reference.digest_of(&other).await.unwrap(), expected);
    let differences = other.differences(written.address(), 5).await.unwrap();
    assert!(matches!(&differences[..], [one] if one.starts_with("key:7 ")), "{differences:?}");

    drop(reference);
    assert_eq!(docker::left_over(&name).await.unwrap(), Vec::<String>::new());
}
