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
use crate::wire::memory::{copy, reserve};

/// Bytes of a tag.
pub const TAG_SIZE: usize = 32;

/// The key that tags the datagrams of one direction.
#[derive(Clone, Debug)]
pub struct DatagramKey(Key);

/// The two keys of a conversation, made of the shared key with HKDF-SHA256 (RFC 5869) without a
/// salt. Each direction has its own, so nobody can send a request back as its own reply; and an
/// answer to a challenge is never the tag of a datagram.
#[derive(Clone, Debug)]
pub struct DatagramKeys {
    /// For requests.
    pub request: DatagramKey,
    /// For replies.
    pub reply: DatagramKey,
}

impl DatagramKeys {
    /// Those that belong to `key`.
    pub fn derive(key: &Key) -> Result<DatagramKeys> {
        let hkdf = Hkdf::<Sha256>::new(None, key.as_bytes());
        let derived = |info: &[u8]| {
            let mut bytes = Zeroizing::new([0; TAG_SIZE]);
            hkdf.expand(info, &mut *bytes)
                .map_err(|error| Error::new(ErrorKind::Key, error.to_string()))?;
            Key::new(&*bytes).map(DatagramKey)
        };
        Ok(DatagramKeys {
            request: derived(b"framefd datagram v1 request")?,
            reply: derived(b"framefd datagram v1 reply")?,
        })
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
    let mut datagram = Vec::new();
    reserve(&mut datagram, len)?;
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
    let header = Header::parse(copy(text, 1)?, limits::MAX_DEPTH)?;
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

    fn keys(byte: u8) -> DatagramKeys {
        DatagramKeys::derive(&Key::new(&[byte; 16]).unwrap()).unwrap()
    }

    fn key(byte: u8) -> DatagramKey {
        keys(byte).request
    }

    fn kind(datagram: &[u8]) -> ErrorKind {
        decode(datagram, None).unwrap_err().kind()
    }

    /// A datagram with this length before `rest`.
    fn raw(length: i32, rest: &str) -> Vec<u8> {
        [&length.to_le_bytes(), rest.as_bytes()].concat()
    }

    #[test]
    fn the_keys_are_hkdf_sha256() {
        // Made with: hmac.digest(hmac.digest(bytes(32), b"\x0b" * 22, "sha256"),
        //     b"framefd datagram v1 request\x01", "sha256").hex()
        let keys = DatagramKeys::derive(&Key::new(&[0x0b; 22]).unwrap()).unwrap();
        let hex = |DatagramKey(key): &DatagramKey| {
            let (high, low) = key.as_bytes().split_at(16);
            let number = |half: &[u8]| u128::from_be_bytes(half.try_into().unwrap());
            format!("{:032x}{:032x}", number(high), number(low))
        };
        assert_eq!(
            hex(&keys.request),
            "d18e446ddc1da7dac68e6defefcfc73c6ec0ca30b4c0eb8539eafca327046836"
        );
        assert_eq!(
            hex(&keys.reply),
            "6f7314711e0e204dbaf4bf2f4e483d76c20329fb2dbd531f73f5352e04985626"
        );
    }

    #[test]
    fn the_tag_of_one_direction_is_wrong_in_the_other() {
        let keys = keys(1);
        for (ours, other) in [(&keys.request, &keys.reply), (&keys.reply, &keys.request)] {
            let datagram = encode(Some(r#"{"id":1}"#), b"body", Some(ours), MAX).unwrap();
            assert_eq!(decode(&datagram, Some(other)).unwrap_err().kind(), ErrorKind::Auth);
        }
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
