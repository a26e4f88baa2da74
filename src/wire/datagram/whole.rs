//! One frame in one datagram, and the tag that authenticates it.

use hkdf::Hkdf;
use hmac::Mac as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::wire::auth::Key;
use crate::wire::frame::head::Head;
use crate::wire::frame::packet::PrefixFormat;
use crate::wire::json::header::Header;

/// Bytes of a tag.
pub const TAG_SIZE: usize = 32;

/// The key that tags datagrams: HKDF-SHA256 (RFC 5869) of the shared key, without a salt,
/// so that an answer to a challenge is never the tag of a datagram.
#[derive(Clone, Debug)]
pub struct DatagramKey(Key);

impl DatagramKey {
    /// The one that belongs to `key`.
    pub fn derive(key: &Key) -> Result<DatagramKey> {
        let mut bytes = Zeroizing::new([0; TAG_SIZE]);
        Hkdf::<Sha256>::new(None, key.as_bytes())
            .expand(b"framefd datagram v1", &mut *bytes)
            .map_err(|error| Error::new(ErrorKind::Key, error.to_string()))?;
        Key::new(&*bytes).map(DatagramKey)
    }
}

/// The datagram that holds a frame of `header`, a JSON object without `data_size` or
/// nothing, and `body`; with a key its tag follows. More than `max` bytes are
/// [`ErrorKind::TooBig`].
pub fn encode(
    header: Option<&str>,
    body: &[u8],
    key: Option<&DatagramKey>,
    max: usize,
) -> Result<Vec<u8>> {
    let head = Head::new(header, body.len() as u64, limits::MAX_HEADER)?;
    let len = head.len() + body.len() + tag_size(key);
    if len > max {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a datagram of {len} bytes, the limit is {max}"),
        ));
    }
    let mut datagram = Vec::with_capacity(len);
    head.append_to(&mut datagram);
    datagram.extend_from_slice(body);
    if let Some(DatagramKey(key)) = key {
        let tag = key.mac().chain_update(&datagram).finalize();
        datagram.extend_from_slice(&tag.into_bytes());
    }
    Ok(datagram)
}

/// The header and the body of the frame in `datagram`. A size that does not match the datagram
/// is [`ErrorKind::BadLength`]. With a key, a wrong or missing tag is [`ErrorKind::Auth`], and
/// nothing else was examined.
pub fn decode<'a>(datagram: &'a [u8], key: Option<&DatagramKey>) -> Result<(Header, &'a [u8])> {
    let frame = key.map_or(Ok(datagram), |key| verify(datagram, key))?;
    let format = PrefixFormat::default();
    let Some((prefix, rest)) = frame.split_at_checked(format.width()) else {
        return Err(bad_length(format!("a datagram of {} bytes", frame.len())));
    };
    let declared = format.decode(prefix)?;
    let header = usize::try_from(declared).ok().and_then(|len| rest.split_at_checked(len));
    let Some((text, body)) = header.filter(|(text, _)| !text.is_empty()) else {
        return Err(bad_length(format!(
            "a header of {declared} bytes in a datagram of {}",
            frame.len()
        )));
    };
    let header = Header::parse(text.to_vec(), limits::MAX_DEPTH)?;
    let data_size = header.data_size().unwrap_or(0);
    if data_size != body.len() as u64 {
        return Err(bad_length(format!(
            "data_size is {data_size}, but {} bytes follow the header",
            body.len()
        )));
    }
    Ok((header, body))
}

/// Bytes of a datagram other than its body of `body_len` bytes.
pub(super) fn size(header: &str, body_len: usize, key: Option<&DatagramKey>) -> Result<usize> {
    let head = Head::new(Some(header), body_len as u64, limits::MAX_HEADER)?;
    Ok(head.len() + tag_size(key))
}

fn tag_size(key: Option<&DatagramKey>) -> usize {
    key.map_or(0, |_| TAG_SIZE)
}

/// The bytes before the tag at the end, which is compared in constant time.
fn verify<'a>(datagram: &'a [u8], DatagramKey(key): &DatagramKey) -> Result<&'a [u8]> {
    let at = datagram.len().saturating_sub(TAG_SIZE);
    let (frame, tag) = datagram.split_at(at);
    key.mac()
        .chain_update(frame)
        .verify_slice(tag)
        .map_err(|_| Error::new(ErrorKind::Auth, "the tag of a datagram is wrong"))?;
    Ok(frame)
}

fn bad_length(detail: String) -> Error {
    Error::new(ErrorKind::BadLength, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = limits::DATAGRAM_HARD;

    fn key(byte: u8) -> DatagramKey {
        DatagramKey::derive(&Key::new(&[byte; 16]).unwrap()).unwrap()
    }

    fn kind(datagram: &[u8]) -> ErrorKind {
        decode(datagram, None).unwrap_err().kind()
    }

    /// A datagram with this length before `rest`.
    fn raw(length: i32, rest: &str) -> Vec<u8> {
        [&length.to_le_bytes(), rest.as_bytes()].concat()
    }

    #[test]
    fn the_key_is_hkdf_sha256() {
        // Made with: hmac.digest(hmac.digest(bytes(32), b"\x0b" * 22, "sha256"),
        //     b"framefd datagram v1\x01", "sha256").hex()
        let key = DatagramKey::derive(&Key::new(&[0x0b; 22]).unwrap()).unwrap();
        let expected = [
            0xed, 0x34, 0x47, 0xcd, 0xaf, 0xef, 0x39, 0x3d, 0x32, 0x09, 0x0e, 0xe0, 0x41, 0x56,
            0x64, 0xdc, 0xfe, 0xe6, 0xa5, 0x83, 0x56, 0xc6, 0x48, 0x80, 0xc2, 0x73, 0xe2, 0xbf,
            0xc4, 0x1b, 0x05, 0x83,
        ];
        assert_eq!(key.0.as_bytes(), expected);
    }

    #[test]
    fn a_frame_comes_back_as_it_went() {
        for key in [None, Some(&key(1))] {
            for body in [&b""[..], b"body"] {
                let datagram = encode(Some(r#"{"cmd":"x"}"#), body, key, MAX).unwrap();
                let (header, decoded) = decode(&datagram, key).unwrap();
                assert_eq!((&*header.string("cmd").unwrap(), decoded), ("x", body));
            }
        }
    }

    #[test]
    fn the_size_is_checked_before_anything_is_sent() {
        for (key, len) in [(None, 22), (Some(&key(1)), 54)] {
            assert_eq!(encode(None, b"123", key, len).unwrap().len(), len);
            let error = encode(None, b"123", key, len - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooBig);
        }
    }

    #[test]
    fn lengths_lead_exactly_to_the_end() {
        let whole = r#"{"data_size":2}ab"#;
        assert_eq!(decode(&raw(15, whole), None).unwrap().1, b"ab");
        for length in [0, -1, i32::MIN, 0x00ff_ffff, i32::MAX, 18] {
            assert_eq!(kind(&raw(length, whole)), ErrorKind::BadLength, "{length}");
        }
        for cut in 0..=3 {
            assert_eq!(kind(&raw(15, whole)[..cut]), ErrorKind::BadLength, "{cut}");
        }
        for length in [1, 14, 16, 17] {
            assert_eq!(kind(&raw(length, whole)), ErrorKind::BadJson, "{length}");
        }
        for rest in [r#"{"data_size":2}a"#, r#"{"data_size":2}abc"#, r#"{"data_size":2}"#] {
            assert_eq!(kind(&raw(15, rest)), ErrorKind::BadLength, "{rest}");
        }
        assert_eq!(kind(&raw(2, "{}a")), ErrorKind::BadLength, "no data_size is 0");
    }

    #[test]
    fn every_cut_of_a_datagram_is_refused() {
        let datagram = encode(Some(r#"{"cmd":"x"}"#), b"body", None, MAX).unwrap();
        for len in 0..datagram.len() {
            decode(&datagram[..len], None).unwrap_err();
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let right = key(1);
        let datagram = encode(Some(r#"{"cmd":"x"}"#), b"body", Some(&right), MAX).unwrap();
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&changed, Some(&right)).unwrap_err().kind(), ErrorKind::Auth);
        }
        for len in 0..datagram.len() {
            let error = decode(&datagram[..len], Some(&right)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth);
        }
        assert_eq!(decode(&datagram, Some(&key(2))).unwrap_err().kind(), ErrorKind::Auth);
        assert_eq!(kind(&datagram), ErrorKind::BadLength, "a tag is no body");
    }
}
