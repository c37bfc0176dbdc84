//! `lake-compact` on tables that `deltalake` wrote: the same rows in fewer files,
//! in the order that was asked for.

use crate::kit;

use serde_json::json;

use kit::compact::ForeignTable;

#[test]
fn small_files_are_joined() {
    let table = ForeignTable::make(12, 300, &[]);
    let plan = table.start("plan", &[]).wait().exits(0);
    let plan: serde_json::Value = serde_json::from_str(plan.stdout.trim()).unwrap();
    assert_eq!(
        plan["tables"][0]["layout"]["rewritten_files"], 12,
        "{plan:#}"
    );
    let outcome = table.run(&[]).exits(0);
    assert_eq!(outcome.number("replaced_files"), 12);
    assert_eq!((table.files(), table.version()), (1, 12));
    assert_eq!(table.same(11, 12)["rows"], 3600);
    // And then there is nothing to gain.
    let again = table.run(&[]).exits(0);
    assert_eq!(again.report()["tables"][0]["outcome"], "unchanged");
    assert_eq!(table.version(), 12);
}

#[test]
fn rows_are_sorted_within_files_and_across() {
    let table = ForeignTable::make(20, 2000, &[]);
    for (columns, by) in [
        ("id", json!(["id"])),
        ("words desc,id", json!(["words desc", "id"])),
        ("short,amount desc", json!(["short", "amount desc"])),
    ] {
        let before = table.version();
        // Small targets, so that there are several files.
        table
            .run(&["--sort-by", columns, "--target", "256KiB"])
            .exits(0);
        assert_eq!(table.version(), before + 1);
        table.same(before, before + 1);
        let found = table.asks(json!({"do": "order", "by": by}));
        assert!(found["files"].as_u64().unwrap() > 2, "{found}");
        let again = table
            .run(&["--sort-by", columns, "--target", "256KiB"])
            .exits(0);
        assert_eq!(
            again.report()["tables"][0]["outcome"],
            "unchanged",
            "{columns}"
        );
    }
}

#[test]
fn only_what_new_files_reach_into_is_rewritten() {
    let table = ForeignTable::make(20, 2000, &[]);
    let sort = [
        "--sort-by",
        "id",
        "--target",
        "256KiB",
        "--smaller-than",
        "64KiB",
    ];
    table.run(&sort).exits(0);
    let files = table.files();
    table.asks(json!({"do": "append", "from": 100_003 * 3 + 1, "to": 100_003 * 3 + 2}));
    let before = table.version();
    let outcome = table.run(&sort).exits(0);
    let replaced = outcome.number("replaced_files");
    assert!(
        replaced < files && (1..=3).contains(&replaced),
        "{replaced} of {files}"
    );
    table.same(before, before + 1);
    table.asks(json!({"do": "order", "by": ["id"]}));
}

#[test]
fn partitions_stay_or_change() {
    let table = ForeignTable::make(8, 500, &["part", "tiny"]);
    let was = table.asks(json!({"do": "files"}));
    table.run(&["--sort-by", "id"]).exits(0);
    table.same(7, 8);
    table.asks(json!({"do": "order", "by": ["id"]}));
    let is = table.asks(json!({"do": "files"}));
    assert_eq!(is["files"], 28);
    assert!(was["files"].as_u64().unwrap() > 28);

    table
        .run(&["--partition-by", "short", "--sort-by", "id desc"])
        .exits(0);
    table.same(8, 9);
    let is = table.asks(json!({"do": "order", "by": ["id desc"]}));
    assert_eq!(is["files"], 81);
    let is = table.asks(json!({"do": "files"}));
    assert_eq!(is["columns"], json!(["short"]));

    table.run(&["--partition-by", "none"]).exits(0);
    table.same(9, 10);
    let is = table.asks(json!({"do": "files"}));
    assert_eq!((&is["columns"], &is["files"]), (&json!([]), &json!(1)));
}

#[test]
fn each_partition_may_be_published_by_itself() {
    let table = ForeignTable::make(6, 200, &["part"]);
    table.run(&["--commit", "partition"]).exits(0);
    assert_eq!((table.files(), table.version()), (4, 9));
    table.same(5, 9);
}

#[test]
fn a_z_order_serves_both_columns() {
    let table = ForeignTable::make(20, 2000, &[]);
    table
        .run(&["--z-order", "id,real", "--target", "128KiB"])
        .exits(0);
    table.same(19, 20);
    let box_of = |by: [&str; 2]| {
        let found = table.asks(json!({"do": "quarters", "by": by}));
        (
            found["hits"].as_u64().unwrap(),
            found["files"].as_u64().unwrap(),
        )
    };
    let (hits, files) = box_of(["id", "version"]);
    assert!(files >= 8 && hits < files, "{hits} of {files}");
    // The control: sorted by one column, a box in the other is everywhere.
    let again = table
        .run(&["--z-order", "id,real", "--target", "128KiB"])
        .exits(0);
    assert_eq!(again.report()["tables"][0]["outcome"], "unchanged");
}

#[test]
fn the_newest_row_of_each_key_stays() {
    let table = ForeignTable::make(10, 1000, &[]);
    let newest = ["--newest-key", "short,tiny", "--newest-by", "version"];
    let outcome = table.run(&newest).exits(0);
    let before = json!({"do": "newest", "before": 9, "after": 10, "key": ["short", "tiny"], "by": "version"});
    let found = table.asks(before);
    assert_eq!(found["rows"].as_u64().unwrap(), outcome.number("rows"));
    assert!(outcome.number("deleted") > 9000);
    let apart = [&newest[..], &["--sort-by", "id"]].concat();
    table.run(&apart).exits(2).says(&["neighbours"]);
}

#[test]
fn one_worker_or_two_leave_the_same_rows() {
    let table = ForeignTable::make(10, 1000, &[]);
    for (version, workers) in (9..).zip(["1", "2", "3"]) {
        let sort = if workers == "2" { "id desc" } else { "id" };
        table
            .run(&["--sort-by", sort, "--target", "64KiB", "--workers", workers])
            .exits(0);
        table.same(version, version + 1);
        table.asks(json!({"do": "order", "by": [sort]}));
    }
}

/// The processes of `cluster`, and the threads of each.
fn in_processes(processes: usize, workers: usize) {
    let table = ForeignTable::make(10, 1000, &["tiny"]);
    let processes = processes.to_string();
    let workers = workers.to_string();
    let lake = format!("file:{}", table.path().display());
    let layouts: [&[&str]; 5] = [
        &[],
        &["--sort-by", "id desc"],
        &["--partition-by", "short", "--sort-by", "words,id"],
        &["--partition-by", "none", "--z-order", "id,amount"],
        &["--sort-by", "id", "--target", "64KiB"],
    ];
    for (version, layout) in (9..).zip(layouts) {
        let mut arguments = vec!["cluster", "--processes", &processes, "--json", "--"];
        arguments.extend(["--lake", &lake, "--workers", &workers]);
        arguments.extend(["--memory", "256MiB", "--progress", "never"]);
        arguments.extend(layout);
        let outcome = kit::compact::command(&arguments).wait().exits(0);
        assert!(outcome.number("replaced_files") > 0, "{layout:?}");
        table.same(version, version + 1);
    }
    table.asks(json!({"do": "order", "by": ["id"]}));
    assert!(table.files() > 2);
    let newest = ["--newest-key", "short,tiny", "--newest-by", "version"];
    for outcome in table.team(2, &newest).wait() {
        outcome.exits(0);
    }
    let question = json!({
        "do": "newest", "before": 14, "after": 15, "key": ["short", "tiny"], "by": "version",
    });
    table.asks(question);
}

#[test]
fn two_processes_of_one_worker_leave_the_same_rows() {
    in_processes(2, 1);
}

#[test]
fn two_processes_of_two_workers_leave_the_same_rows() {
    in_processes(2, 2);
}

#[test]
fn three_processes_leave_the_same_rows() {
    in_processes(3, 1);
}

/// A table that does not fit: everything goes by way of the disk, and of the spill
/// folder nothing is left.
#[test]
fn a_small_limit_is_kept() {
    let table = ForeignTable::make(10, 100_000, &[]);
    let outcome = table
        .run(&["--sort-by", "words,id", "--memory", "160MiB"])
        .exits(0);
    let peak = outcome.number("peak_rss_bytes");
    println!("peak {} MiB in {:?}", peak >> 20, outcome.wall);
    assert!(peak <= 160 << 20, "{peak}");
    assert_eq!(table.same(9, 10)["rows"], 1_000_000);
    table.asks(json!({"do": "order", "by": ["words", "id"]}));
    let left = std::fs::read_dir(table.spill()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let table = ForeignTable::make(2, 10, &["part"]);
    table
        .run(&["--sort-by", "nothing"])
        .exits(2)
        .says(&["no column nothing"]);
    table
        .run(&["--sort-by", "part"])
        .exits(2)
        .says(&["partitioned by part"]);
    table
        .run(&["--sort-by", "id", "--z-order", "tiny"])
        .exits(2)
        .says(&["two orders"]);
    table
        .run(&["--partition-by", "short", "--z-order", "id,tiny"])
        .exits(2)
        .says(&["partitioned anew"]);
    let protocol = |features: &str| {
        let version = table.version() + 1;
        let entry = format!(
            "{{\"protocol\":{{\"minReaderVersion\":3,\"minWriterVersion\":7,\
             \"readerFeatures\":[{features}],\"writerFeatures\":[{features}]}}}}\n"
        );
        let path = table.path().join(format!("_delta_log/{version:020}.json"));
        std::fs::write(&path, entry).unwrap();
        path
    };
    for feature in ["columnMapping2", "icebergCompatV9"] {
        let entry = protocol(&format!("\"{feature}\""));
        table.run(&[]).exits(1).says(&[feature]);
        std::fs::remove_file(entry).unwrap();
    }
    let nowhere = kit::scratch();
    kit::compact::start(nowhere.path(), nowhere.path(), "run", &[])
        .wait()
        .exits(2)
        .says(&["no table"]);
}

/// Rows that are deleted but still in their file: who does not know of them would
/// bring them back. The feature alone harms nobody.
#[test]
fn deletion_vectors_are_refused_by_name() {
    let table = ForeignTable::make(3, 100, &[]);
    let entry = |version: u64| table.path().join(format!("_delta_log/{version:020}.json"));
    let protocol = json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"],
    }});
    let first = std::fs::read_to_string(entry(0)).unwrap();
    let lines = first.lines().map(serde_json::from_str::<serde_json::Value>);
    let mut lines = lines.map(Result::unwrap);
    let add = lines.find_map(|line| line.get("add").cloned()).unwrap();
    let remove = json!({"remove": {
        "path": add["path"], "deletionTimestamp": 1, "dataChange": true,
        "extendedFileMetadata": true, "partitionValues": {}, "size": add["size"],
    }});
    let mut deleted = add;
    // A vector of six rows; the example of Delta's protocol.
    deleted["deletionVector"] = json!({
        "storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 40, "cardinality": 6,
    });
    let with = format!("{protocol}\n{remove}\n{}\n", json!({ "add": deleted }));
    std::fs::write(entry(3), with).unwrap();
    for more in [&[][..], &["--sort-by", "id"]] {
        table
            .run(more)
            .exits(1)
            .says(&["deletion vectors", "rows of"]);
    }
    assert!(!entry(4).exists(), "something was published");

    std::fs::write(entry(3), format!("{protocol}\n")).unwrap();
    let outcome = table.run(&["--sort-by", "id"]).exits(0);
    assert_eq!(
        (outcome.number("rows"), outcome.number("version")),
        (300, 4)
    );
}

/// Timestamps in 96 bits, of years that nanoseconds in 64 bits do not reach.
#[test]
fn old_timestamps_are_read_right() {
    let table = ForeignTable::empty();
    let size = json!({"files": 4, "rows": 500});
    let asks = |what: &str| {
        let mut question = size.clone();
        question["do"] = json!(what);
        table.asks(question)
    };
    asks("int96");
    table.run(&["--sort-by", "at,id"]).exits(0);
    asks("int96_is");
    table.asks(json!({"do": "order", "by": ["at", "id"]}));
}
