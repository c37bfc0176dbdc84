//! A collection is brought back to what it should hold, by ids.

use highwater_operators::sink::chroma::{Expected, Reconciled};
use serde_json::json;

use crate::sample::{assert_holds, map, open, points, runtime, write};
use crate::server::ChromaServer;

#[test]
fn surplus_goes_and_what_is_missing_is_named() {
    let server = ChromaServer::start();
    let runtime = runtime();
    let chroma = runtime.block_on(open(&server.url()));
    let metadata = map(&json!({ "a": 1 }));
    let collection = runtime
        .block_on(chroma.collection("chunks", &metadata))
        .unwrap();
    // It has 0..3,000 and should have 1,000..4,000.
    let all = points(0, 4_000, 1);
    runtime.block_on(write(&collection, &all[..3_000]));
    let wanted = &all[1_000..];
    let mut sum = (0, 0, 0);
    for share in 0..3 {
        let mut expected = Expected::share(share, 3);
        for point in wanted.iter().chain(&wanted[..10]) {
            expected.add(&point.id);
        }
        let done = runtime.block_on(expected.reconcile(&collection)).unwrap();
        sum = (
            sum.0 + done.kept,
            sum.1 + done.deleted,
            sum.2 + done.missing,
        );
        let missing: Vec<_> = wanted
            .iter()
            .filter(|point| expected.is_missing(&point.id))
            .cloned()
            .collect();
        assert_eq!(missing.len() as u64, done.missing);
        runtime.block_on(write(&collection, &missing));
    }
    assert_eq!(sum, (2_000, 1_000, 1_000));
    assert_holds(&runtime, &collection, wanted);

    let mut expected = Expected::default();
    wanted.iter().for_each(|point| expected.add(&point.id));
    let again = runtime.block_on(expected.reconcile(&collection)).unwrap();
    assert_eq!(
        again,
        Reconciled {
            kept: 3_000,
            deleted: 0,
            missing: 0
        }
    );

    // Control: pages that do not follow what is deleted pass over ids.
    let seen = runtime.block_on(async {
        let mut pages = collection.ids();
        let mut seen = 0;
        while let Some(page) = pages.next().await.unwrap() {
            seen += page.len();
            let ids: Vec<&str> = page.iter().map(String::as_str).collect();
            collection.delete(&ids).await.unwrap();
        }
        seen
    });
    assert!(seen < 3_000, "{seen}");
}
