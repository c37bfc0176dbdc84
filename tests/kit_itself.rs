//! The kit is tested too: a server that loses what it promised, or an oracle
//! that agrees with everything, would make every other test worthless.

use crate::kit;

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use kit::lake::Lake;
use kit::oracle::Check;
use kit::place::{BUCKET, Place};
use kit::postgres::Database;
use kit::s3::{Action, Rule};
use kit::{oracle, shop};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

/// Python that makes a Delta table of `orders` by `deltalake`, digests included.
const WRITER: &str = r#"
import hashlib, json, os, sys, pathlib
import pyarrow as pa, deltalake, psycopg
source, lake, store, spoil = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
with psycopg.connect(source) as db:
    rows = db.execute("select id, email, note, amount, price, paid, created_at, ship_date from orders order by id").fetchall()
if spoil == "lose": rows = rows[1:]
if spoil == "double": rows = rows[1:] + rows[1:2]
names = ["id", "email", "note", "amount", "price", "paid", "created_at", "ship_date"]
kinds = [pa.int64(), pa.string(), pa.string(), pa.decimal128(12, 2), pa.float64(), pa.bool_(), pa.timestamp("us", "UTC"), pa.date32()]
columns = [pa.array(column, kind) for column, kind in zip(zip(*rows), kinds)]
deltalake.write_deltalake(lake, pa.table(columns, names), storage_options=store or None)
"#;

const COLUMNS: [&str; 8] = [
    "id",
    "email",
    "note",
    "amount",
    "price",
    "paid",
    "created_at",
    "ship_date",
];

fn write_by_another(lake: &Lake, database: &Database, spoil: &str) {
    let folder = format!("{}/public/orders", lake.place().url());
    let store: serde_json::Map<_, _> = lake
        .place()
        .options()
        .into_iter()
        .map(|(name, value)| (format!("aws_{name}"), serde_json::json!(value)))
        .collect();
    let store = serde_json::Value::Object(store).to_string();
    let output = Command::new(oracle::python())
        .args([
            "-c",
            WRITER,
            &database.url(),
            folder.trim_start_matches("file:"),
            &store,
            spoil,
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other writer records no digests: that is all the oracle may find.
fn only_digests_missing(found: &serde_json::Value) -> bool {
    let readers = found["readers"].as_object().unwrap().values();
    let mut differences = readers
        .map(|reader| reader["missing"].as_u64().unwrap() + reader["extra"].as_u64().unwrap());
    differences.all(|count| count == 0)
}

#[test]
fn oracle_sees_what_is_lost_and_what_is_doubled() {
    let database = Database::create();
    shop::orders(&database, 1000);
    for (spoil, agree) in [("nothing", true), ("lose", false), ("double", false)] {
        let lake = Lake::local(database.url());
        write_by_another(&lake, &database, spoil);
        let (_, found) = Check::of(&lake, "public.orders")
            .columns(&COLUMNS)
            .compare();
        assert_eq!(only_digests_missing(&found), agree, "{spoil}: {found:#}");
    }
}

#[test]
fn the_server_serves_clients_that_are_not_ours() {
    let database = Database::create();
    shop::orders(&database, 1000);
    let lake = Lake::s3(database.url());
    write_by_another(&lake, &database, "nothing");
    let (_, found) = Check::of(&lake, "public.orders")
        .columns(&COLUMNS)
        .compare();
    assert!(only_digests_missing(&found), "{found:#}");
    assert_eq!(lake.place().versions("public/orders"), [0]);
    lake.place().server().assert_no_deletes();
}

/// The Rust client that most writers of lakes use, as it comes.
fn client(place: &Place) -> AmazonS3 {
    let mut builder = AmazonS3Builder::new().with_bucket_name(BUCKET);
    for (name, value) in place.options() {
        builder = match name {
            "endpoint" => builder.with_endpoint(value),
            "region" => builder.with_region(value),
            "access_key_id" => builder.with_access_key_id(value),
            "secret_access_key" => builder.with_secret_access_key(value),
            _ => builder.with_allow_http(true),
        };
    }
    builder.build().unwrap()
}

fn create() -> PutOptions {
    PutOptions {
        mode: PutMode::Create,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_create_has_one_winner() {
    let place = Place::s3();
    let client = Arc::new(client(&place));
    let attempts = (0..50_u8).map(|number| {
        let client = Arc::clone(&client);
        tokio::spawn(async move {
            let content = Bytes::from(vec![number; 1000]);
            client
                .put_opts(&Path::from("log/1.json"), content.into(), create())
                .await
        })
    });
    let mut won = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_looks_like_a_conflict_to_a_client_that_retries() {
    let place = Place::s3();
    let faults = place.server().faults();
    faults.add(Rule::new("PUT", "*/log/*", Action::ApplyThenDrop).times(1));
    let answer = client(&place)
        .put_opts(&Path::from("log/1.json"), "ours".into(), create())
        .await;
    assert!(
        matches!(answer, Err(object_store::Error::AlreadyExists { .. })),
        "{answer:?}"
    );
    assert_eq!(place.server().object(BUCKET, "log/1.json").unwrap(), "ours");
    assert_eq!(faults.count(|seen| seen.path.ends_with("log/1.json")), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_ranges_and_pages() {
    let place = Place::s3();
    let client = client(&place);
    let path = Path::from("big");
    let mut upload = client.put_multipart(&path).await.unwrap();
    for number in 0..3_u8 {
        upload
            .put_part(Bytes::from(vec![number; 6 << 20]).into())
            .await
            .unwrap();
    }
    upload.complete().await.unwrap();
    let middle = client
        .get_range(&path, (6 << 20) - 2..(6 << 20) + 2)
        .await
        .unwrap();
    assert_eq!(middle.as_ref(), [0, 0, 1, 1]);
    assert_eq!(client.head(&path).await.unwrap().size, 18 << 20);

    for number in 0..2500 {
        place
            .server()
            .put(BUCKET, &format!("many/{:02}/{number}", number % 40), "");
    }
    let all: Vec<_> = client
        .list(Some(&Path::from("many")))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(all.len(), 2500);
    let folders = client
        .list_with_delimiter(Some(&Path::from("many")))
        .await
        .unwrap();
    assert_eq!(folders.common_prefixes.len(), 40);
    place.server().assert_no_deletes();
    client.delete(&path).await.unwrap();
    assert_eq!(place.server().deletes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_pass_when_their_turns_are_over() {
    let place = Place::s3();
    place.server().put(BUCKET, "a", vec![7; 100_000]);
    let client = client(&place);
    let actions = [
        Action::Fail503,
        Action::Fail500,
        Action::Truncate,
        Action::Drop,
        Action::Apply500,
    ];
    for action in actions {
        place
            .server()
            .faults()
            .add(Rule::new("GET", "lake/a", action).times(1));
    }
    let content = client.get(&Path::from("a")).await.unwrap().bytes().await;
    assert_eq!(content.unwrap().len(), 100_000);
    let faults = place.server().faults().count(|seen| seen.fault.is_some());
    assert_eq!(faults, actions.len());
}
