//! The server is killed, the line breaks: in the end the collection is as it should be.

use std::time::Duration;

use serde_json::json;

use crate::flaky::{Cut, FlakyLine};
use crate::sample::{assert_holds, map, open, points, runtime, write};
use crate::server::ChromaServer;

#[test]
fn a_killed_server_loses_nothing_that_is_sent_again() {
    let mut server = ChromaServer::start();
    let runtime = runtime();
    let chroma = runtime.block_on(open(&server.url()));
    let metadata = map(&json!({ "a": 1 }));
    let collection = runtime
        .block_on(chroma.collection("chunks", &metadata))
        .unwrap();
    let all = points(0, 4_000, 1);
    let writing = runtime.spawn({
        let (collection, all) = (collection.clone(), all.clone());
        async move {
            for batch in all.chunks(100) {
                write(&collection, batch).await;
            }
        }
    });
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(400));
        server.kill();
        std::thread::sleep(Duration::from_millis(200));
        server.restart();
    }
    runtime.block_on(writing).unwrap();
    assert_holds(&runtime, &collection, &all);
    // What was answered is in its folder.
    server.restart();
    assert_holds(&runtime, &collection, &all);
    // Emptied: it is found out, not written into the void.
    server.kill();
    server.empty();
    server.restart();
    let error = runtime.block_on(collection.count()).unwrap_err();
    assert!(error.is_lost_collection(), "{error}");
}

#[test]
fn a_line_that_breaks_is_no_matter() {
    let server = ChromaServer::start();
    let plan = [
        Cut::Answers(0),
        Cut::Requests(300_000),
        Cut::Answers(40),
        Cut::Requests(10),
        Cut::Answers(700),
        Cut::Requests(1_000_000),
        Cut::Answers(130),
        Cut::Answers(5_000),
    ];
    let cuts = plan.len() as u64;
    let line = FlakyLine::to(server.address(), plan.to_vec());
    let runtime = runtime();
    let chroma = runtime.block_on(open(&format!("chroma://{}", line.address)));
    let metadata = map(&json!({ "a": 1 }));
    let collection = runtime
        .block_on(chroma.collection("chunks", &metadata))
        .unwrap();
    let all = points(0, 3_000, 1);
    runtime.block_on(async {
        for (number, batch) in all.chunks(250).enumerate() {
            write(&collection, batch).await;
            if number % 2 == 1 {
                let ids: Vec<&str> = batch.iter().map(|point| point.id.as_str()).collect();
                collection.delete(&ids).await.unwrap();
            }
        }
    });
    let kept = all.chunks(250).step_by(2).flatten();
    assert_holds(&runtime, &collection, kept);
    assert_eq!(line.cuts(), cuts);
}
