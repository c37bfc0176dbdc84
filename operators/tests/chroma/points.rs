//! Points written, read, replaced and removed; what is refused.

use std::time::Duration;

use bytes::Bytes;
use highwater::run::config::InstanceConfig;
use highwater::run::{Config, Secret};
use highwater::store::pace::RetryPolicy;
use highwater_operators::service::{Connection, HttpErrorKind, JsonClient};
use highwater_operators::sink::chroma::{Chroma, ChromaError, ChromaOptions};
use http::Method;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::sample::{DIMENSION, Owned, assert_holds, map, open, options, points, runtime, write};
use crate::server::ChromaServer;

#[test]
fn points_come_back_as_they_were_written() {
    let server = ChromaServer::start();
    let runtime = runtime();
    let chroma = runtime.block_on(open(&server.url()));
    let metadata = map(&json!({ "highwater_lake": "a", "highwater_version": 7 }));
    let mut collection = runtime
        .block_on(chroma.collection("chunks", &metadata))
        .unwrap();
    assert_eq!(collection.metadata(), Some(&metadata));
    assert_eq!(
        (collection.space(), collection.dimension()),
        (Some("cosine"), None)
    );

    let mut all = points(0, 5_000, 1);
    runtime.block_on(write(&collection, &all));
    assert_holds(&runtime, &collection, &all);
    // Again, and all is as before.
    runtime.block_on(write(&collection, &all));
    assert_holds(&runtime, &collection, &all);
    // Replaced and removed; what is not there may be removed too.
    all[1_000..2_000].clone_from_slice(&points(1_000, 1_000, 2));
    runtime.block_on(write(&collection, &all[1_000..2_000]));
    let ids: Vec<&str> = all[..500]
        .iter()
        .map(|point| point.id.as_str())
        .chain(["none"])
        .collect();
    for _ in 0..2 {
        runtime.block_on(collection.delete(&ids)).unwrap();
    }
    runtime.block_on(collection.delete(&[])).unwrap();
    runtime.block_on(collection.upsert(&[])).unwrap();
    assert_holds(&runtime, &collection, &all[500..]);

    runtime.block_on(async {
        // A key of metadata goes with null alone.
        let mut point = all[600].clone();
        point.metadata = map(&json!({ "page": 3, "weight": null }));
        write(&collection, std::slice::from_ref(&point)).await;
        let found = collection.get(&[&point.id]).await.unwrap();
        let expected = json!({ "page": 3, "path": "A > \"B\"", "version": 1 });
        assert_eq!(found[0].metadata, map(&expected));

        let later = map(&json!({ "highwater_version": 8 }));
        collection.set_metadata(later.clone()).await.unwrap();
        let found = chroma.find("chunks").await.unwrap().unwrap();
        assert_eq!(
            (found.metadata(), found.dimension()),
            (Some(&later), Some(DIMENSION))
        );
        let again = chroma.collection("chunks", &metadata).await.unwrap();
        assert_eq!(again.metadata(), Some(&later));
        refusals(&chroma, &all[0]).await;
        assert!(chroma.remove("chunks").await.unwrap());
        assert!(!chroma.remove("chunks").await.unwrap());
        assert!(chroma.find("chunks").await.unwrap().is_none());
        let point = all[0].point();
        for error in [
            collection.upsert(&[point]).await.unwrap_err(),
            collection.delete(&["a"]).await.unwrap_err(),
            collection.count().await.unwrap_err(),
            collection.ids().next().await.unwrap_err(),
            collection.set_metadata(metadata.clone()).await.unwrap_err(),
        ] {
            assert!(error.is_lost_collection(), "{error}");
        }
    });
}

/// Each is one clear error, and nothing is written.
async fn refusals(chroma: &Chroma, point: &Owned) {
    let collection = chroma.find("chunks").await.unwrap().unwrap();
    let count = collection.count().await.unwrap();
    let short = Owned {
        vector: vec![1.0; 3],
        ..point.clone()
    };
    let mixed = [point.point(), short.point()];
    let error = collection.upsert(&mixed).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChromaError::Dimension {
                expected: DIMENSION,
                found: 3,
                ..
            }
        ),
        "{error}"
    );

    // Two who found it empty: what the second one learns, it learns from the server.
    let empty = map(&json!({ "made": "for the test" }));
    let first = chroma.collection("second", &empty).await.unwrap();
    let second = chroma.find("second").await.unwrap().unwrap();
    write(&first, std::slice::from_ref(point)).await;
    let error = second.upsert(&[short.point()]).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChromaError::Dimension {
                expected: DIMENSION,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "collection \"second\" holds vectors of 384 numbers, not of 3: use another collection for another model, or delete this one"
    );

    let mut nan = point.clone();
    nan.vector[5] = f32::NAN;
    let nameless = Owned {
        id: String::new(),
        ..point.clone()
    };
    for bad in [nan, nameless] {
        let error = collection
            .upsert(&[point.point(), bad.point()])
            .await
            .unwrap_err();
        assert!(matches!(error, ChromaError::BadPoint { .. }), "{error}");
    }
    let nested = Owned {
        metadata: map(&json!({ "a": { "b": 1 } })),
        ..point.clone()
    };
    let error = collection.upsert(&[nested.point()]).await.unwrap_err();
    assert!(matches!(error, ChromaError::Rejected { .. }), "{error}");
    let error = chroma.collection("x", &empty).await.unwrap_err();
    assert!(error.to_string().contains("Expected a name"), "{error}");
    assert_eq!(collection.count().await.unwrap(), count);
}

#[test]
fn requests_are_no_larger_than_the_server_takes() {
    let server = ChromaServer::start();
    let runtime = runtime();
    runtime.block_on(async {
        let small = open(&server.url()).await;
        assert!((100..100_000).contains(&small.max_batch_points()));
        let metadata = map(&json!({ "a": 1 }));
        let collection = small.collection("large", &metadata).await.unwrap();
        // 60 MB of texts in one call.
        let mut all = points(0, 60, 1);
        for point in &mut all {
            point.text = "long ".repeat(200_000);
        }
        write(&collection, &all).await;
        assert_eq!(collection.count().await.unwrap(), 60);

        // Control: at once the server does not take them.
        let body = json!({
            "ids": all.iter().map(|point| point.id.as_str()).collect::<Vec<_>>(),
            "embeddings": all.iter().map(|point| &point.vector[..]).collect::<Vec<_>>(),
            "documents": all.iter().map(|point| point.text.as_str()).collect::<Vec<_>>(),
        });
        let http = JsonClient::new(Connection {
            base: format!("http://{}", server.address()).parse().unwrap(),
            credentials: None,
            timeout: Duration::from_secs(60),
        })
        .unwrap();
        let path = "api/v2/tenants/default_tenant/databases/default_database/collections";
        let found: serde_json::Value = http
            .send(Method::GET, &format!("{path}/large"), Bytes::new())
            .await
            .unwrap();
        let path = format!("{path}/{}/upsert", found["id"].as_str().unwrap());
        let sent = http.send::<IgnoredAny>(Method::POST, &path, Bytes::from(body.to_string()));
        let error = sent.await.unwrap_err();
        // It hangs up while it is still being sent to, or says why.
        assert!(
            matches!(error.kind, HttpErrorKind::TooLarge | HttpErrorKind::Broken),
            "{error:?}"
        );

        // Who allows too much is told by the server, and sends halves.
        let large = ChromaOptions {
            request_bytes: 45 << 20,
            ..options()
        };
        let large = Chroma::open(&server.url(), large).await.unwrap();
        let collection = large.collection("halves", &metadata).await.unwrap();
        let all = &all[..44];
        write(&collection, all).await;
        assert_eq!(collection.count().await.unwrap(), 44);
    });
}

#[test]
fn what_is_no_server_is_said_in_one_error() {
    let server = ChromaServer::start();
    let runtime = runtime();
    let quick = ChromaOptions {
        retries: RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        },
        timeout: Duration::from_secs(5),
        ..ChromaOptions::default()
    };
    let refused = |url: &str, options: &ChromaOptions| {
        runtime
            .block_on(Chroma::open(url, options.clone()))
            .unwrap_err()
    };
    let elsewhere = ChromaOptions {
        database: "elsewhere".to_owned(),
        ..quick.clone()
    };
    let error = refused(&server.url(), &elsewhere);
    assert!(matches!(error, ChromaError::NoDatabase { .. }), "{error}");
    let error = refused("chroma://127.0.0.1:9", &quick);
    assert!(
        matches!(error, ChromaError::Away { .. }) && error.passes(),
        "{error}"
    );
    let below = format!("{}/below", server.url());
    let error = refused(&below, &quick);
    assert!(matches!(error, ChromaError::NotChroma { .. }), "{error}");
    let error = refused("file:///tmp", &quick);
    assert!(matches!(error, ChromaError::Url { .. }), "{error}");
}

/// What a configuration takes for the name of a collection is what the server takes.
#[test]
fn names_of_collections_are_those_that_the_server_takes() {
    let server = ChromaServer::start();
    let runtime = runtime();
    let chroma = runtime.block_on(open(&server.url()));
    let metadata = map(&json!({ "a": 1 }));
    let (long, longer) = ("a".repeat(512), "a".repeat(513));
    let names = [
        "abc",
        "A-b_c.d",
        "1.2",
        "01.2.3.4",
        "999.1.1.1",
        "1.2.3.4.5",
        &long,
        "ab",
        &longer,
        "-abc",
        "abc.",
        "abc_",
        "a..b",
        "a b c",
        "a/b/c",
        "äöü",
        "127.0.0.1",
    ];
    let mut taken = 0;
    for name in names {
        let instance = InstanceConfig {
            source: Secret::new("file:docs"),
            chroma: Some(Secret::new(server.url())),
            collection: Some(name.to_owned()),
            ..InstanceConfig::default()
        };
        let mut config = Config::new(Secret::new("file:docs"), "file:lake");
        config.instances.insert("docs".to_owned(), instance);
        let made = runtime.block_on(chroma.collection(name, &metadata));
        let problems = config.problems();
        assert_eq!(
            problems.is_empty(),
            made.is_ok(),
            "{name}: {problems:?}, {made:?}"
        );
        taken += u64::from(made.is_ok());
    }
    assert_eq!(taken, 7);
}
