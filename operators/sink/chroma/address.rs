//! Addresses of servers.

use url::Url;

use super::error::ChromaError;

/// Where a server listens unless told otherwise.
const PORT: u16 = 8000;

/// The HTTP address of `chroma://host:port`, `chroma+https://host`, `http://host`.
///
/// A path stays: servers stand behind others.
pub(super) fn base(text: &str) -> Result<Url, ChromaError> {
    let shown = highwater::run::Secret::new(text).to_string();
    let wrong = |why: &str| ChromaError::Url {
        url: shown.clone(),
        why: why.to_owned(),
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme"))?;
    let (http, port) = match scheme {
        "chroma" | "chroma+http" => ("http", Some(PORT)),
        "chroma+https" => ("https", None),
        "http" | "https" => (scheme, None),
        _ => {
            return Err(wrong(
                "its scheme is neither chroma, chroma+https, http nor https",
            ));
        }
    };
    let mut url =
        Url::parse(&format!("{http}://{rest}")).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "a token does not belong into the URL but into an option of its own",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("nothing may follow the path"));
    }
    // `http://host:80` looks like `http://host` once it is parsed.
    let authority = rest.split('/').next().unwrap_or_default();
    let says_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !says_port && port.is_some() && url.set_port(port).is_err() {
        return Err(wrong("no host"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_servers() {
        for (text, expected) in [
            ("chroma://localhost", "http://localhost:8000/"),
            ("chroma://localhost:80", "http://localhost/"),
            ("chroma://[::1]", "http://[::1]:8000/"),
            ("chroma://[::1]:9", "http://[::1]:9/"),
            (
                "chroma+https://vectors.example/below",
                "https://vectors.example/below",
            ),
            ("http://127.0.0.1:8123", "http://127.0.0.1:8123/"),
            ("https://vectors.example", "https://vectors.example/"),
        ] {
            assert_eq!(base(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secret() {
        for text in [
            "localhost:8000",
            "chroma://",
            "ftp://host",
            "chroma://:canary@host",
            "chroma://host?token=canary",
            "chroma://host:99999",
        ] {
            let error = base(text).unwrap_err().to_string();
            assert!(
                !error.contains("canary") && error.contains("chroma://"),
                "{error}"
            );
        }
    }
}
