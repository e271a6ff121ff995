/*
 * The kernel of gpu_jpeg.c: one thread for each 2x2 block of luma. gpu_jpeg_pixel.h has the work of a thread; this file
 * only selects its block.
 *
 * scripts/gpu-kernel compiles this file to gpu_jpeg_kernel.ptx.h with plain clang. That needs no CUDA toolkit, so
 * CUDA's headers are missing here, and registers have clang's own names. The driver compiles the PTX for its GPU.
 */
#include "gpu_jpeg_pixel.h"

extern "C" __attribute__((global)) void bs_gpu_jpeg_convert(const BsConvert convert) {
    const int column = __nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + __nvvm_read_ptx_sreg_tid_x();
    const int row = __nvvm_read_ptx_sreg_ctaid_y() * __nvvm_read_ptx_sreg_ntid_y() + __nvvm_read_ptx_sreg_tid_y();
    if (column < convert.columns && row < convert.rows)
        bs_convert_block(&convert, column, row);
}
