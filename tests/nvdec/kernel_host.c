/*
 * The kernel of gpu_jpeg.c on the host, for tests without a GPU: a stand-in for the driver, in which device memory is
 * ordinary memory, calls fake_launch() from its cuLaunchKernel. Threads run one after another.
 */
#include <string.h>

#include "gpu_jpeg_pixel.h"

/* Grid and block in x and y. 0, or -1 for a kernel that is not known here. */
int fake_launch(const char *kernel_name, unsigned gx, unsigned gy, unsigned bx, unsigned by, void **params);

int fake_launch(const char *kernel_name, unsigned gx, unsigned gy, unsigned bx, unsigned by, void **params) {
    const BsConvert *convert = params[0];
    if (strcmp(kernel_name, BS_CONVERT_NAME))
        return -1;
    for (unsigned row = 0; row < gy * by; row++) {
        for (unsigned column = 0; column < gx * bx; column++) {
            if ((int)column < convert->columns && (int)row < convert->rows)
                bs_convert_block(convert, (int)column, (int)row);
        }
    }
    return 0;
}
