//! Which names are ours to remove.

use uuid::Uuid;

/// Whether `name` is what the sink calls a data file: `part-<uuid>.parquet`.
pub(super) fn is_data(name: &str) -> bool {
    let id = name
        .strip_prefix("part-")
        .and_then(|rest| rest.strip_suffix(".parquet"));
    // Hyphenated and lower case, as we write it: other forms are not ours.
    id.is_some_and(|id| Uuid::parse_str(id).is_ok_and(|uuid| uuid.to_string() == id))
}

/// Whether `name` is a data file of ours whose upload has not ended: in local
/// folders, parts are collected under the name to come, `#` and a number.
pub(super) fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(data, number)| {
        is_data(data) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_sink_writes_is_ours() {
        let id = Uuid::now_v7();
        assert!(is_data(&format!("part-{id}.parquet")));
        assert!(is_staged(&format!("part-{id}.parquet#1")));
        for other in [
            format!("part-{}.parquet", id.simple()),
            format!("part-{}.parquet", id.to_string().to_uppercase()),
            format!("part-{id}.snappy.parquet"),
            format!("part-{id}-c000.parquet"),
            format!("{id}.parquet"),
            "part-00000-abc.parquet".to_owned(),
            "part-1.parquet".to_owned(),
            format!("part-{id}.parquet#1"),
        ] {
            assert!(!is_data(&other), "{other}");
        }
        assert!(!is_staged(&format!("part-{id}.parquet#")));
        assert!(!is_staged(&format!("part-{id}.parquet")));
    }
}
