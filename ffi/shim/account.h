/* What buffers.c, dav1d.c and fork.c charge to decode runs: see account.c. */
#ifndef BUCKET_STREAMER_ACCOUNT_H
#define BUCKET_STREAMER_ACCOUNT_H

#include "libavcodec/avcodec.h"

#include "inspect.h"
#include "shim.h"

/* The account of what this thread decodes to find out what a file is. */
extern _Thread_local BsAccount *bs_probe_account;

BsAccount *bs_account_ref(BsAccount *account);
/* Nonzero if there is room. Without an account there always is. `may_be_made_up`: damaged pictures count against a limit of
 * their own. */
int bs_account_charge(BsAccount *account, int64_t bytes, int may_be_made_up);
void bs_account_settle(BsAccount *account, int64_t bytes);
/* What the decoder keeps beside a picture. */
int64_t bs_picture_table_bytes(enum AVCodecID id, int64_t pixels);
/* Charges what a decoder keeps for each picture that it can have in work, once for each size that it grows to. */
int bs_charge_contexts(BsWatch *watch, enum AVCodecID id, int contexts, int64_t pixels, int sample_bytes);

struct Dav1dPicture;
/* Memory for a picture of dav1d's (buffers.c): a buffer of `size` bytes, charged with the tables for so many pixels. */
AVBufferRef *bs_get_memory(BsWatch *watch, enum AVCodecID id, size_t size, int64_t pixels);

#endif
