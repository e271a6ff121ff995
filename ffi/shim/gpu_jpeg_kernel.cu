/*
 * The kernel of gpu_jpeg.c: one thread for each 2x2 block of luma. What a thread does is in gpu_jpeg_pixel.h; here is only
 * which block is its own.
 *
 * scripts/gpu-kernel makes gpu_jpeg_kernel.ptx.h of it, with plain clang: no CUDA toolkit is needed for that, so there is
 * none of its headers either, and registers go by clang's own names. The driver compiles the PTX for the GPU at hand.
 */
#include "gpu_jpeg_pixel.h"

extern "C" __attribute__((global)) void bs_gpu_jpeg_convert(const BsConvert convert) {
    const int column = __nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + __nvvm_read_ptx_sreg_tid_x();
    const int row = __nvvm_read_ptx_sreg_ctaid_y() * __nvvm_read_ptx_sreg_ntid_y() + __nvvm_read_ptx_sreg_tid_y();
    if (column < convert.columns && row < convert.rows)
        bs_convert_block(&convert, column, row);
}
