//! Bitstream parsers: the ends of access units (H.264 7.4.1.2.3, H.265 7.4.2.4.4), with the order and structure from
//! their slice headers. Their use is left to the engine's containers.

use std::ptr::NonNull;

use crate::codec_parameters::CodecParameters;
use crate::error::AvError;
use crate::packet::PaddedBytes;
use crate::{NOPTS, log, sys};

/// Frame or field, from the slice headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureStructure {
    /// A whole frame, or unknown.
    Frame,
    /// A top field: half a picture.
    TopField,
    /// A bottom field: half a picture.
    BottomField,
}

/// The parser's result for one access unit.
#[derive(Debug, Clone, Copy)]
pub struct AccessUnit {
    /// Picture order count (H.264 8.2.1, H.265 8.3.1).
    pub picture_order_count: i32,
    /// Frame or field.
    pub structure: PictureStructure,
}

/// An `AVCodecParserContext` with the codec context that it needs.
#[derive(Debug)]
pub struct Parser {
    raw: NonNull<sys::AVCodecParserContext>,
    context: NonNull<sys::AVCodecContext>,
}

// SAFETY: plain memory that the value owns, used by one thread at a time.
unsafe impl Send for Parser {}

impl Parser {
    /// A parser for the codec, with `whole_units` if every call gets exactly one access unit. `None` if the codec has
    /// no parser.
    pub fn new(parameters: &CodecParameters, whole_units: bool) -> Option<Parser> {
        log::quiet();
        // SAFETY: any id is allowed; null means that there is no parser.
        let raw = NonNull::new(unsafe { sys::av_parser_init(parameters.codec_id()) })?;
        // SAFETY: allocates a context for no codec in particular.
        let Some(context) = NonNull::new(unsafe { sys::avcodec_alloc_context3(std::ptr::null()) }) else {
            // SAFETY: ours, closed once.
            unsafe { sys::av_parser_close(raw.as_ptr()) };
            return None;
        };
        let parser = Parser { raw, context };
        // SAFETY: both are valid; extradata (parameter sets outside the stream) is read from the context.
        unsafe {
            sys::avcodec_parameters_to_context(context.as_ptr(), parameters.as_raw());
            if whole_units {
                (*raw.as_ptr()).flags |= 1; // PARSER_FLAG_COMPLETE_FRAMES
            }
        }
        Some(parser)
    }

    /// Parses `data` from `from` on, and returns the number of bytes used, with an access unit if one ended there. It
    /// may have begun in an earlier call. Empty data flush the last one.
    ///
    /// # Errors
    /// [`AvError`] for data of 2 GiB or more, or from the parser.
    pub fn parse(&mut self, data: &PaddedBytes, from: usize) -> Result<(usize, Option<AccessUnit>), AvError> {
        let all = data.with_padding();
        let size = i32::try_from(data.len().saturating_sub(from)).map_err(|_| AvError::INVALID_ARGUMENT)?;
        let (mut unit, mut unit_size) = (std::ptr::null_mut(), 0);
        // SAFETY: `size` bytes and the padding after them are readable; the parser keeps no pointer to them beyond
        // what it copies; the unit's pointer is not used.
        let used = AvError::check(unsafe {
            sys::av_parser_parse2(
                self.raw.as_ptr(),
                self.context.as_ptr(),
                &mut unit,
                &mut unit_size,
                if size == 0 { std::ptr::null() } else { all[from..].as_ptr() },
                size,
                NOPTS,
                NOPTS,
                0,
            )
        })?;
        Ok((used as usize, (unit_size > 0).then(|| self.unit())))
    }

    fn unit(&self) -> AccessUnit {
        // SAFETY: valid from construction to drop.
        let parser = unsafe { self.raw.as_ref() };
        AccessUnit {
            picture_order_count: parser.output_picture_number,
            structure: match parser.picture_structure {
                sys::AVPictureStructure::AV_PICTURE_STRUCTURE_TOP_FIELD => PictureStructure::TopField,
                sys::AVPictureStructure::AV_PICTURE_STRUCTURE_BOTTOM_FIELD => PictureStructure::BottomField,
                _ => PictureStructure::Frame,
            },
        }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: both ours, freed once.
        unsafe {
            sys::av_parser_close(self.raw.as_ptr());
            sys::avcodec_free_context(&mut context);
        }
    }
}
