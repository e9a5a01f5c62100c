//! Options added after the first release: tagged sections after the others.
//!
//! A section is a tag, the length of its body, and its body. A section that this release does not
//! know is ignored, since options only tune; whatever must not be ignored is not an option.

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};

/// Appends one section.
pub(crate) fn put_section(out: &mut Vec<u8>, tag: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    put_varint(out, tag);
    put_bytes(out, &body);
}

/// Runs `take` on the tag and the body of every section up to the end of the bytes.
pub(crate) fn for_each_section(
    decoder: &mut Decoder<'_>,
    mut take: impl FnMut(u64, &mut Decoder<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !decoder.is_empty() {
        let tag = decoder.varint()?;
        take(tag, &mut Decoder::new(decoder.bytes()?))?;
    }
    Ok(())
}
