//! Messages on pipes: eight bytes of length, little endian, then so many bytes.

use std::io::{self, Read, Write};

/// Longer keys than any store has.
pub(super) const KEY_BYTES: u64 = 64 << 10;

/// The next message; nothing at the end.
pub(super) fn read(input: &mut impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u64::from_le_bytes(length);
    if length > limit {
        return Err(io::Error::other(format!(
            "a message of {length} bytes, {limit} at most"
        )));
    }
    let mut message = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    input.take(length).read_to_end(&mut message)?;
    if message.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

pub(super) fn write(output: &mut impl Write, message: &[u8]) -> io::Result<()> {
    output.write_all(&(message.len() as u64).to_le_bytes())?;
    output.write_all(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_come_back_and_torn_ones_do_not() {
        let mut pipe = Vec::new();
        write(&mut pipe, b"one").unwrap();
        write(&mut pipe, b"").unwrap();
        let mut input = pipe.as_slice();
        assert_eq!(read(&mut input, 3).unwrap().unwrap(), b"one");
        assert_eq!(read(&mut input, 3).unwrap().unwrap(), b"");
        assert!(read(&mut input, 3).unwrap().is_none());
        assert!(read(&mut pipe.as_slice(), 2).is_err());
        assert!(read(&mut &pipe[..10], 3).is_err());
    }
}
