//! [`Store`]: the two clients of one place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use super::cloud;
use super::error::{StoreError, StoreErrorKind};
use super::local::DurableFolder;

/// One place that holds objects, reached through two clients: one that retries,
/// and one that sends each request exactly once (C2). Cloning is cheap.
#[derive(Clone)]
pub struct Store {
    retrying: Arc<dyn ObjectStore>,
    single_shot: Arc<dyn ObjectStore>,
    prefix: Path,
    url: Url,
    folder: Option<PathBuf>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

impl Store {
    /// Opens `file:relative`, `file:///absolute`, `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `az://container/prefix`. Options are named as
    /// `object_store` names them (`endpoint`, `region`, `allow_http`, ...); what
    /// they leave open comes from the environment (`AWS_REGION`, ...). Nothing
    /// is read or written yet.
    ///
    /// # Errors
    /// The URL or an option is not valid.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        match url.split_once(':') {
            Some(("file", rest)) => Self::open_folder(rest, options),
            Some(("s3" | "gs" | "az", _)) => Self::open_cloud(url, options),
            _ => Err(usage(format!(
                "`{}` is not the URL of a lake; write file:folder, s3://bucket/prefix, \
                 gs://bucket/prefix or az://container/prefix",
                // Whatever it is, it may hold a password.
                if url.contains('@') { "..." } else { url },
            ))),
        }
    }

    fn open_folder(rest: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        if let Some(option) = options.keys().next() {
            return Err(usage(format!(
                "option `{option}` means nothing for a local folder; leave it out"
            )));
        }
        let folder = resolve_folder(rest)?;
        let wrong = |_| {
            usage(format!(
                "`{}` cannot be used as a lake's folder",
                folder.display()
            ))
        };
        let prefix = Path::from_absolute_path(&folder).map_err(|e| wrong(e.to_string()))?;
        let url = Url::from_directory_path(&folder).map_err(|()| wrong(String::new()))?;
        // Nothing is ever sent twice to a local folder, so one client is both.
        let files: Arc<dyn ObjectStore> = Arc::new(DurableFolder::new());
        Ok(Self {
            retrying: Arc::clone(&files),
            single_shot: files,
            prefix,
            url,
            folder: Some(folder),
        })
    }

    fn open_cloud(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let parsed = Url::parse(url).map_err(|e| usage(format!("the lake's URL: {e}")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(usage(
                "credentials do not belong into the lake's URL; give them as options \
                 (access_key_id, secret_access_key) or in the environment"
                    .to_owned(),
            ));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(usage(
                "the lake's URL must not have a `?` or `#` part".to_owned(),
            ));
        }
        let prefix = Path::from_url_path(parsed.path())
            .map_err(|e| usage(format!("the path of {parsed} is not valid: {e}")))?;
        Ok(Self {
            retrying: cloud::build(&parsed, options, cloud::Retry::ByClient)?,
            single_shot: cloud::build(&parsed, options, cloud::Retry::Never)?,
            prefix,
            url: parsed,
            folder: None,
        })
    }

    /// A store made of clients that exist already, for instance wrapped ones.
    /// `single_shot` must send every request at most once (C2).
    #[must_use]
    pub fn from_clients(
        objects: Arc<dyn ObjectStore>,
        single_shot: Arc<dyn ObjectStore>,
        url: Url,
    ) -> Self {
        Self {
            retrying: objects,
            single_shot,
            prefix: Path::default(),
            url,
            folder: None,
        }
    }

    /// The client that retries by itself, rooted here.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        rooted(&self.retrying, &self.prefix)
    }

    /// The client that sends each request exactly once, rooted here (C2).
    #[must_use]
    pub fn single_shot(&self) -> Arc<dyn ObjectStore> {
        rooted(&self.single_shot, &self.prefix)
    }

    /// The store of the folder `path` below this one. Characters that would
    /// mean something else in a path (`..`, `#`, `?`, ...) are percent-encoded.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let mut child = self.clone();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let name = folder_name(segment);
            if let Ok(joined) = Path::parse(format!("{}/{name}", child.prefix)) {
                child.prefix = joined;
            }
            if let Ok(mut segments) = child.url.path_segments_mut() {
                segments.pop_if_empty().push(&name).push("");
            }
            child.folder = child.folder.map(|folder| folder.join(&name));
        }
        child
    }

    /// Where this store is; holds no secrets.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL of one object here, for messages.
    #[must_use]
    pub fn url_of(&self, path: &Path) -> String {
        format!("{}/{path}", self.url.as_str().trim_end_matches('/'))
    }

    /// The folder, where this store is a local one.
    #[must_use]
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }
}

fn usage(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Usage, message)
}

fn rooted(store: &Arc<dyn ObjectStore>, prefix: &Path) -> Arc<dyn ObjectStore> {
    if prefix.is_root() {
        return Arc::clone(store);
    }
    Arc::new(PrefixStore::new(Arc::clone(store), prefix.clone()))
}

/// One path segment that means the same to every store, shell and reader:
/// letters and digits of any script and a few signs as they are, the rest
/// percent-encoded.
fn folder_name(segment: &str) -> String {
    if segment == "." || segment == ".." {
        return segment.replace('.', "%2E");
    }
    let mut name = String::with_capacity(segment.len());
    for character in segment.chars() {
        if character.is_alphanumeric() || " -_.~=+@,()!$&'".contains(character) {
            name.push(character);
        } else {
            let mut buffer = [0_u8; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    name
}

/// The absolute folder that the part after `file:` names. Symbolic links of
/// what exists are resolved, so that one lake has one name.
fn resolve_folder(rest: &str) -> Result<PathBuf, StoreError> {
    let given = match rest.strip_prefix("//") {
        Some(_) => Url::parse(&format!("file:{rest}"))
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| {
                usage(format!(
                    "`file:{rest}` is not a local folder; write file:///absolute or file:relative"
                ))
            })?,
        None if rest.is_empty() => {
            return Err(usage(
                "`file:` names no folder; write file:./lake".to_owned(),
            ));
        }
        None => PathBuf::from(rest),
    };
    let mut absolute = PathBuf::new();
    let full = std::path::absolute(&given)
        .map_err(|e| usage(format!("`file:{rest}` is not a usable folder: {e}")))?;
    for component in full.components() {
        match component {
            Component::ParentDir => {
                absolute.pop();
            }
            Component::CurDir => {}
            other => absolute.push(other),
        }
        if let Ok(real) = absolute.canonicalize() {
            absolute = real;
        }
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn folders_are_absolute_and_children_are_below() {
        let home = tempfile::tempdir().unwrap();
        let url = format!("file:{}/x/../lake", home.path().display());
        let store = Store::open(&url, &BTreeMap::new()).unwrap();
        let lake = home.path().canonicalize().unwrap().join("lake");
        assert_eq!(store.folder(), Some(lake.as_path()));
        let child = store.child("sales/..").child("größe #1");
        assert_eq!(
            child.folder(),
            Some(lake.join("sales/%2E%2E/größe %231").as_path())
        );
        let relative = Store::open("file:lake", &BTreeMap::new()).unwrap();
        assert!(relative.folder().unwrap().is_absolute());
    }

    #[test]
    fn wrong_urls_say_what_is_right_and_leak_nothing() {
        for url in [
            "./lake",
            "ftp://x",
            "http://user:canary@host/x",
            "s3://key:canary@b/x",
        ] {
            let error = Store::open(url, &BTreeMap::new()).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Usage);
            assert!(!error.message.contains("canary"), "{error}");
        }
    }

    #[test]
    fn unknown_options_name_the_nearest_known() {
        let error = Store::open("s3://b/p", &options(&[("endpiont", "http://x")])).unwrap_err();
        assert!(error.message.contains("`endpoint`"), "{error}");
        let error = Store::open("file:x", &options(&[("region", "x")])).unwrap_err();
        assert!(error.message.contains("region"), "{error}");
    }

    #[test]
    fn s3_opens_without_talking() {
        let given = [
            ("endpoint", "http://127.0.0.1:9"),
            ("region", "us-east-1"),
            ("access_key_id", "a"),
            ("secret_access_key", "canary"),
            ("allow_http", "true"),
            ("virtual_hosted_style_request", "false"),
        ];
        let store = Store::open("s3://bucket/lake", &options(&given))
            .unwrap()
            .child("t");
        assert_eq!(store.url().as_str(), "s3://bucket/lake/t/");
        assert!(!format!("{store:?}").contains("canary"));
    }
}
