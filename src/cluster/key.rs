//! The secret that all processes of a run share. It is read from a file that
//! only its owner can read, and nothing prints it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::ClusterError;

/// What a key must have at least, in bytes, white space around it not counted.
const MIN_SECRET_BYTES: usize = 32;
/// A key file that is longer is not a key file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A pre-shared key: who has it belongs to the run.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(redacted)")
    }
}

impl ClusterKey {
    /// Reads the key of a file: any bytes, 32 or more.
    ///
    /// # Errors
    /// The file cannot be read, is readable by others than its owner and group (Unix), or
    /// its secret is too short.
    pub fn from_file(path: &Path) -> Result<Self, ClusterError> {
        let refuse = |why: String| ClusterError::Key {
            path: path.to_owned(),
            why,
        };
        let about = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?;
        if !about.is_file() || about.len() > MAX_FILE_BYTES {
            return Err(refuse("it is not a small regular file".to_owned()));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = about.permissions().mode() & 0o777;
            // A group may read it: Kubernetes mounts secrets so.
            if mode & 0o037 != 0 {
                return Err(refuse(format!(
                    "others than its owner and group may use it (mode {mode:03o}); run `chmod 600` on it"
                )));
            }
        }
        let secret = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
        Self::from_secret(&secret).ok_or_else(|| {
            refuse(format!(
                "it holds fewer than {MIN_SECRET_BYTES} bytes; make one with \
                 `head -c 32 /dev/urandom | base64`"
            ))
        })
    }

    /// A key from a secret: `None` if it is shorter than 32 bytes without the
    /// white space around it.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Option<Self> {
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET_BYTES {
            return None;
        }
        let mut digest = Sha256::new();
        digest.update(b"highwater cluster key 1\0");
        digest.update(secret);
        Some(Self(digest.finalize().into()))
    }

    /// What stands in for a key where there is none. Everybody knows it: it
    /// proves nothing, and is only for processes of one host.
    pub(super) fn none() -> Self {
        Self(Sha256::digest(b"highwater cluster without a key 1").into())
    }

    /// The pre-shared key of the handshake.
    pub(super) fn psk(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file(secret: &[u8], mode: u32) -> tempfile::NamedTempFile {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(secret).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).unwrap();
        file
    }

    #[test]
    fn white_space_around_a_key_does_not_count() {
        let bare = file(&[b'k'; 32], 0o600);
        let line = file(b"\n  kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\r\n", 0o400);
        let key = ClusterKey::from_file(bare.path()).unwrap();
        assert_eq!(key, ClusterKey::from_file(line.path()).unwrap());
        assert_ne!(key, ClusterKey::none());
    }

    #[test]
    fn a_key_that_others_can_read_or_guess_is_refused() {
        for mode in [0o644, 0o604, 0o660] {
            let open = file(&[b'k'; 32], mode);
            let error = ClusterKey::from_file(open.path()).unwrap_err().to_string();
            assert!(error.contains("others than its owner"), "{error}");
        }
        let short = file(b"  short                                     ", 0o600);
        let error = ClusterKey::from_file(short.path()).unwrap_err().to_string();
        assert!(error.contains("fewer than 32 bytes"), "{error}");
        assert!(ClusterKey::from_file(Path::new("/nowhere/key")).is_err());
    }

    #[test]
    fn nothing_prints_a_key() {
        let key = ClusterKey::from_secret(&[b'k'; 40]).unwrap();
        assert_eq!(format!("{key:?}"), "ClusterKey(redacted)");
    }
}
