/*
 * Converts one pixel from NV12 or P016 to JFIF's planes: 8 bit, full range, BT.601, 4:2:0. A kernel on the GPU and, in
 * tests, a loop on the host share this code, so it includes no headers and uses no library.
 *
 *     Y'  = luma_gain * Y + luma_of_cb * Cb + luma_of_cr * Cr + luma_offset     Cb and Cr at the place of Y
 *     Cb' =                   cb_of_cb * Cb +   cb_of_cr * Cr + cb_offset
 *     Cr' =                   cr_of_cb * Cb +   cr_of_cr * Cr + cr_offset
 *
 * Samples are code values, of their depth in the source and of 8 bits in the result. Chroma keeps its resolution and
 * its siting, as in the conversion on the CPU. The factors come from gpu_jpeg.c.
 */
#ifndef BUCKET_STREAMER_GPU_JPEG_PIXEL_H
#define BUCKET_STREAMER_GPU_JPEG_PIXEL_H

#ifdef __CUDA__
#define BS_PIXEL_FUNCTION static inline __attribute__((device))
#else
#define BS_PIXEL_FUNCTION static inline
#endif

/* The name of the kernel in its module. */
#define BS_CONVERT_NAME "bs_gpu_jpeg_convert"

/* The only parameter of the kernel. Both compilers give it the same layout: 8-byte members before 4-byte ones. */
typedef struct BsConvert {
    const unsigned char *luma, *chroma;  /* of the source, from the first visible pixel; Cb and Cr alternate */
    unsigned char *to_luma, *to_cb, *to_cr;
    unsigned long long luma_pitch, chroma_pitch, to_luma_pitch, to_chroma_pitch; /* in bytes */
    int sample_bytes;                    /* 1 or 2 */
    int shift;                           /* unused low bits of a sample of two bytes */
    int width, height;                   /* visible luma samples */
    int columns, rows;                   /* 2x2 blocks to write; those outside of the picture repeat its edge */
    int is_corrected;                    /* nonzero if luma depends on chroma */
    int near_column[2], near_row[2];     /* for even and odd luma: quarters of the chroma sample that covers it */
    float luma_gain, luma_of_cb, luma_of_cr, luma_offset;
    float cb_of_cb, cb_of_cr, cb_offset;
    float cr_of_cb, cr_of_cr, cr_offset; /* offsets hold the half that makes rounding down round to the nearest */
} BsConvert;

BS_PIXEL_FUNCTION int bs_at_most(int value, int most) {
    return value < most ? value : most;
}

BS_PIXEL_FUNCTION unsigned char bs_to_byte(float value) {
    return value <= 0.0f ? 0 : value >= 255.0f ? 255 : (unsigned char)(int)value;
}

BS_PIXEL_FUNCTION int bs_sample(const BsConvert *c, const unsigned char *row, int index) {
    return c->sample_bytes == 1 ? row[index] : ((const unsigned short *)row)[index] >> c->shift;
}

/* The column or row of the chroma sample that is second nearest to a luma sample: the one before its own for an even
 * luma sample, the one after for an odd one. The edge is repeated. */
BS_PIXEL_FUNCTION int bs_neighbour(int luma, int last) {
    const int own = luma >> 1;
    if (luma & 1)
        return bs_at_most(own + 1, last);
    return own > 0 ? own - 1 : 0;
}

/* Sixteen times Cb (component 0) or Cr (1) at luma (x, y), interpolated between the nearest two columns and rows. */
BS_PIXEL_FUNCTION int bs_chroma_at(const BsConvert *c, int x, int y, int component) {
    const int other_column = bs_neighbour(x, (c->width - 1) >> 1), other_row = bs_neighbour(y, (c->height - 1) >> 1);
    const int near_column = x & 1 ? c->near_column[1] : c->near_column[0];
    const int near_row = y & 1 ? c->near_row[1] : c->near_row[0];
    const unsigned char *own = c->chroma + (unsigned long long)(y >> 1) * c->chroma_pitch;
    const unsigned char *other = c->chroma + (unsigned long long)other_row * c->chroma_pitch;
    const int at = 2 * (x >> 1) + component, beside = 2 * other_column + component;
    const int upper = near_column * bs_sample(c, own, at) + (4 - near_column) * bs_sample(c, own, beside);
    const int lower = near_column * bs_sample(c, other, at) + (4 - near_column) * bs_sample(c, other, beside);
    return near_row * upper + (4 - near_row) * lower;
}

BS_PIXEL_FUNCTION unsigned char bs_luma_at(const BsConvert *c, int x, int y) {
    float value = c->luma_gain * bs_sample(c, c->luma + (unsigned long long)y * c->luma_pitch, x) + c->luma_offset;
    if (c->is_corrected) {
        value += c->luma_of_cb * (bs_chroma_at(c, x, y, 0) * 0.0625f);
        value += c->luma_of_cr * (bs_chroma_at(c, x, y, 1) * 0.0625f);
    }
    return bs_to_byte(value);
}

/* Converts the four luma samples and the chroma of block (column, row): the work of one thread. Blocks outside of the
 * picture repeat its edge. */
BS_PIXEL_FUNCTION void bs_convert_block(const BsConvert *c, int column, int row) {
    const int from_column = bs_at_most(column, (c->width - 1) >> 1), from_row = bs_at_most(row, (c->height - 1) >> 1);
    const unsigned char *chroma = c->chroma + (unsigned long long)from_row * c->chroma_pitch;
    const float cb = bs_sample(c, chroma, 2 * from_column), cr = bs_sample(c, chroma, 2 * from_column + 1);
    const unsigned long long at = (unsigned long long)row * c->to_chroma_pitch + column;
    c->to_cb[at] = bs_to_byte(c->cb_of_cb * cb + c->cb_of_cr * cr + c->cb_offset);
    c->to_cr[at] = bs_to_byte(c->cr_of_cb * cb + c->cr_of_cr * cr + c->cr_offset);
    for (int y = 2 * row; y < 2 * row + 2; y++) {
        for (int x = 2 * column; x < 2 * column + 2; x++) {
            const int from_x = bs_at_most(x, c->width - 1), from_y = bs_at_most(y, c->height - 1);
            c->to_luma[(unsigned long long)y * c->to_luma_pitch + x] = bs_luma_at(c, from_x, from_y);
        }
    }
}

#endif
