//! The decoder, a connection and the stateless functions find the same in any bytes, however
//! they are cut.

#![no_main]

#[path = "../../tests/common/agreement.rs"]
mod agreement;

use agreement::{What, agree, by_decoder, options};
use framefd::wire::frame::packet::PrefixFormat;
use libfuzzer_sys::fuzz_target;

/// A stream of this size or less is cut everywhere; a longer one, where the input says.
const SHORT: usize = 96;

// What to look for comes last, so that a frame alone is an input.
fuzz_target!(|input: &[u8]| {
    let (bytes, [what, cut_high, cut_low]) = input.split_last_chunk().unwrap_or((input, &[0; 3]));
    let prefix = PrefixFormat::new(1 << (what >> 2 & 3), what & 16 != 0, what & 32 != 0).unwrap();
    let what = [What::Frames, What::Streamed, What::Packets][usize::from(what & 3) % 3];
    let cut = usize::from(u16::from_be_bytes([*cut_high, *cut_low])) % (bytes.len() + 1);
    let found = agree(bytes, &[cut], what, prefix);
    if bytes.len() <= SHORT {
        let each: Vec<usize> = (0..bytes.len()).collect();
        agree(bytes, &each, what, prefix);
        for cut in each {
            assert_eq!(by_decoder(bytes, &[cut], what, &options(prefix)), found, "cut at {cut}");
        }
    }
});
