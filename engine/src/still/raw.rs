//! The planes as in the stream: cropped, in its own pixel format, without rotation, scaling or conversion.

use ffi::Frame;
use md5::{Digest, Md5};

/// Length in bytes of [`write()`]'s result: the visible bytes of all planes.
pub fn len(picture: &Frame) -> usize {
    (0..picture.planes()).filter_map(|plane| picture.plane(plane)).map(|plane| plane.row_bytes * plane.rows).sum()
}

/// The visible bytes, plane after plane, row after row: the output of `ffmpeg -f rawvideo`.
pub fn write(picture: &Frame) -> Vec<u8> {
    let mut out = Vec::with_capacity(len(picture));
    each_row(picture, |row| out.extend_from_slice(row));
    out
}

/// MD5 of [`write()`]'s bytes: the output of `ffmpeg -f framemd5`.
pub fn md5(picture: &Frame) -> [u8; 16] {
    let mut md5 = Md5::new();
    each_row(picture, |row| md5.update(row));
    md5.finalize().into()
}

/// MD5 of each plane, as in a decoded picture hash SEI message (H.265 D.3.19).
pub fn plane_md5s(picture: &Frame) -> Vec<[u8; 16]> {
    let planes = (0..picture.planes()).filter_map(|plane| picture.plane(plane));
    planes
        .map(|plane| {
            let mut md5 = Md5::new();
            plane.rows().for_each(|row| md5.update(row));
            md5.finalize().into()
        })
        .collect()
}

fn each_row(picture: &Frame, mut take: impl FnMut(&[u8])) {
    for plane in (0..picture.planes()).filter_map(|plane| picture.plane(plane)) {
        if plane.stride == plane.row_bytes {
            take(plane.data);
        } else {
            plane.rows().for_each(&mut take);
        }
    }
}

/// Bytes in hexadecimal, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
