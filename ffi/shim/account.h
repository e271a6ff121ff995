/* Charges of buffers.c, dav1d.c and fork.c to decode runs: see account.c. */
#ifndef BUCKET_STREAMER_ACCOUNT_H
#define BUCKET_STREAMER_ACCOUNT_H

#include "libavcodec/avcodec.h"

#include "inspect.h"
#include "shim.h"

/* The account for pictures that this thread decodes to determine the properties of a file. */
extern _Thread_local BsAccount *bs_probe_account;

BsAccount *bs_account_ref(BsAccount *account);
/* Nonzero if there is room. Without an account there always is. `may_be_made_up`: pictures that may result from
 * damage have a limit of their own. */
int bs_account_charge(BsAccount *account, int64_t bytes, int may_be_made_up);
void bs_account_settle(BsAccount *account, int64_t bytes);
/* Bytes that the decoder keeps beside a picture. */
int64_t bs_picture_table_bytes(enum AVCodecID id, int64_t pixels);
/* Charges the tables that a decoder keeps for each picture in work, once for each larger size. */
int bs_charge_contexts(BsWatch *watch, enum AVCodecID id, int contexts, int64_t pixels, int sample_bytes);

struct Dav1dPicture;
/* Memory for a picture of dav1d (buffers.c): a buffer of `size` bytes, charged with the tables for `pixels` pixels. */
AVBufferRef *bs_get_memory(BsWatch *watch, enum AVCodecID id, size_t size, int64_t pixels);

#endif
