//! Keys that only the target has: kept on disk until it is known whether they may
//! be removed, because that depends on how many there are.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Mutex, PoisonError};

/// Keys of one process, in a file without a name: nothing is left of a killed run.
#[derive(Debug)]
pub struct Extras {
    file: Mutex<BufWriter<File>>,
}

impl Extras {
    /// None yet.
    ///
    /// # Errors
    /// There is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: Mutex::new(BufWriter::new(tempfile::tempfile()?)),
        })
    }

    /// Adds a key.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&self, key: &str) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = u32::try_from(key.len()).unwrap_or(u32::MAX);
        file.write_all(&bytes.to_le_bytes())?;
        file.write_all(key.as_bytes())
    }

    /// Calls `each` for so many keys at a time. `unreadable` makes an error of what
    /// goes wrong with the file.
    ///
    /// # Errors
    /// The file cannot be read, or `each` fails.
    pub fn in_groups<E>(
        &self,
        of: usize,
        unreadable: impl Fn(io::Error) -> E,
        mut each: impl FnMut(Vec<String>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut keys = Vec::with_capacity(of);
        for key in self.keys().map_err(&unreadable)? {
            keys.push(key.map_err(&unreadable)?);
            if keys.len() >= of {
                each(std::mem::take(&mut keys))?;
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        each(keys)
    }
}

/// The keys of [`Extras`], in the order in which they came.
pub struct ExtraKeys(BufReader<File>);

impl Iterator for ExtraKeys {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.0).transpose()
    }
}

impl Extras {
    /// All keys, from the first one.
    ///
    /// # Errors
    /// The file cannot be written to its end, or read.
    pub fn keys(&self) -> io::Result<ExtraKeys> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush()?;
        let mut reading = file.get_ref().try_clone()?;
        reading.seek(SeekFrom::Start(0))?;
        Ok(ExtraKeys(BufReader::new(reading)))
    }
}

fn next(file: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut length = [0_u8; 4];
    match file.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut key = vec![0; u32::from_le_bytes(length) as usize];
    file.read_exact(&mut key)?;
    String::from_utf8(key)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_come_back_in_groups() {
        let extras = Extras::new().unwrap();
        for number in 0..7 {
            extras.push(&format!("k{number}\n")).unwrap();
        }
        let mut groups = Vec::new();
        extras
            .in_groups(
                3,
                |error| error,
                |keys| {
                    groups.push(keys.len());
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(groups, [3, 3, 1]);
    }
}
