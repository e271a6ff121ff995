/*
 * The memory of pictures, and the decode run that is charged for it.
 *
 * An account belongs to one decode run. Every picture that libavcodec allocates for the run's decoders is charged to it
 * (buffers.c, dav1d.c), with the tables that the decoder keeps for the picture, and so are the tables that a decoder
 * keeps for each picture that it can have in work. A run that needs more than it was granted requests it from its
 * lender (the engine's budget, in Rust), which never waits. A refusal fails the allocation and is final for the run:
 * its owner returns the decoder, which releases all pictures, and tries again with a larger grant.
 *
 * A picture leaves the account when the last decoder releases it, or a checkpoint takes it over. Pictures that a
 * checkpoint and a decoder share are charged to the run as one amount, until the next checkpoint replaces it.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "libavcodec/avcodec.h"
#include "libavutil/mem.h"

#include "account.h"
#include "inspect.h"

/* Reference pictures of a decoder, and the one that it decodes. */
#define MOST_PICTURES 17

struct BsLedger {
    _Atomic int refs;
    _Atomic int64_t live, peak;
};

struct BsAccount {
    _Atomic int refs;
    BsLedger *ledger;
    BsLender lender;
    pthread_mutex_t lock; /* held during a call of the lender */
    int kind;
    int64_t most; /* for pictures that may result from damage */
    _Atomic int64_t used, peak, granted;
    _Atomic int64_t wanted; /* the total that was refused; 0 without a refusal */
    _Atomic int is_final;   /* refused because of `most` */
};

_Thread_local BsAccount *bs_probe_account;

static void raise_to(_Atomic int64_t *value, int64_t least) {
    int64_t now = atomic_load_explicit(value, memory_order_relaxed);
    while (now < least && !atomic_compare_exchange_weak(value, &now, least))
        ;
}

BsLedger *bs_ledger_alloc(void) {
    BsLedger *ledger = av_mallocz(sizeof(*ledger));
    if (ledger)
        atomic_init(&ledger->refs, 1);
    return ledger;
}

void bs_ledger_unref(BsLedger *ledger) {
    if (ledger && atomic_fetch_sub(&ledger->refs, 1) == 1)
        av_free(ledger);
}

int64_t bs_ledger_live(const BsLedger *ledger) { return atomic_load(&ledger->live); }
int64_t bs_ledger_peak(const BsLedger *ledger) { return atomic_load(&ledger->peak); }

BsAccount *bs_account_alloc(BsLedger *ledger, const BsLender *lender, int kind, int64_t granted, int64_t most) {
    BsAccount *account = av_mallocz(sizeof(*account));
    if (!account)
        return NULL;
    atomic_fetch_add(&ledger->refs, 1);
    account->ledger = ledger;
    account->lender = *lender;
    account->kind = kind;
    account->most = most;
    pthread_mutex_init(&account->lock, NULL);
    atomic_init(&account->refs, 1);
    atomic_init(&account->granted, granted);
    return account;
}

BsAccount *bs_account_ref(BsAccount *account) {
    if (account)
        atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
    return account;
}

void bs_account_unref(BsAccount *account) {
    if (!account || atomic_fetch_sub(&account->refs, 1) != 1)
        return;
    account->lender.release(account->lender.opaque);
    bs_ledger_unref(account->ledger);
    pthread_mutex_destroy(&account->lock);
    av_free(account);
}

int64_t bs_account_granted(const BsAccount *account) { return atomic_load(&account->granted); }

int64_t bs_account_shrink(BsAccount *account) {
    int64_t used = FFMIN(atomic_load(&account->used), atomic_load(&account->granted));
    atomic_store(&account->granted, used);
    return used;
}
int64_t bs_account_peak(const BsAccount *account) { return atomic_load(&account->peak); }
int64_t bs_account_wanted(const BsAccount *account) { return atomic_load(&account->wanted); }
int bs_account_is_final(const BsAccount *account) { return atomic_load(&account->is_final); }

static int ask(BsAccount *account, int64_t used) {
    pthread_mutex_lock(&account->lock);
    int64_t granted = atomic_load(&account->granted);
    if (granted < used) {
        granted = account->lender.grow(account->lender.opaque, account->kind, granted, used);
        atomic_store(&account->granted, granted);
    }
    pthread_mutex_unlock(&account->lock);
    return granted >= used;
}

static int is_granted(BsAccount *account, int64_t used, int may_be_made_up) {
    if (atomic_load(&account->wanted))
        return 0;
    if (may_be_made_up && used > account->most) {
        atomic_store(&account->is_final, 1);
        return 0;
    }
    return used <= atomic_load(&account->granted) || ask(account, used);
}

static void enter(BsAccount *account, int64_t bytes) {
    raise_to(&account->ledger->peak, atomic_fetch_add(&account->ledger->live, bytes) + bytes);
}

int bs_account_charge(BsAccount *account, int64_t bytes, int may_be_made_up) {
    if (!account)
        return 1;
    int64_t used = atomic_fetch_add(&account->used, bytes) + bytes;
    if (!is_granted(account, used, may_be_made_up)) {
        atomic_fetch_sub(&account->used, bytes);
        raise_to(&account->wanted, used);
        return 0;
    }
    raise_to(&account->peak, used);
    enter(account, bytes);
    return 1;
}

void bs_account_settle(BsAccount *account, int64_t bytes) {
    if (!account)
        return;
    atomic_fetch_sub(&account->used, bytes);
    atomic_fetch_sub(&account->ledger->live, bytes);
}

/* Bytes of side tables for each picture, in 16ths of a byte a pixel, as the pinned libavcodec and dav1d allocate
 * them: mainly motion vectors. */
static int picture_tables(enum AVCodecID id) {
    switch (id) {
    case AV_CODEC_ID_HEVC: return 13;
    case AV_CODEC_ID_H264: return 10;
    default: return 4;
    }
}

/* The same for each context with a picture in work. With frame threads VP9 and AV1 keep all coefficients of a
   picture. */
static int context_tables(enum AVCodecID id, int has_many, int sample_bytes) {
    switch (id) {
    case AV_CODEC_ID_HEVC: return 20;
    case AV_CODEC_ID_H264: return 5;
    case AV_CODEC_ID_VP9: return has_many ? 16 + 56 * sample_bytes : 2;
    case AV_CODEC_ID_AV1: return has_many ? 40 + 56 * sample_bytes : 10;
    default: return 0;
    }
}

int64_t bs_picture_table_bytes(enum AVCodecID id, int64_t pixels) { return pixels * picture_tables(id) / 16; }

int bs_charge_contexts(BsWatch *watch, enum AVCodecID id, int contexts, int64_t pixels, int sample_bytes) {
    raise_to(&watch->pixels, pixels);
    int64_t need = pixels * contexts * context_tables(id, contexts > 1, sample_bytes) / 16;
    int64_t more = need - atomic_load(&watch->tables);
    if (more <= 0)
        return 1;
    if (!bs_account_charge(watch->account, more, watch->options.is_lenient))
        return 0;
    atomic_fetch_add(&watch->tables, more);
    return 1;
}

void bs_watch_settle(BsWatch *watch) {
    BsAccount *account = watch->account;
    watch->account = NULL;
    if (account) {
        bs_account_settle(account, atomic_load(&watch->tables) + watch->shared);
        bs_account_unref(account);
    }
}

void bs_account_attach(AVCodecContext *decoder, BsAccount *account) {
    BsWatch *watch = bs_watch_of(decoder);
    if (!watch)
        return;
    bs_watch_settle(watch);
    watch->shared = 0;
    watch->account = bs_account_ref(account);
    int64_t tables = atomic_load(&watch->tables);
    /* The tables exist whether or not there is room for them: without room the run ends with its first picture. */
    if (account && !bs_account_charge(account, tables, watch->options.is_lenient)) {
        atomic_fetch_add(&account->used, tables);
        enter(account, tables);
    }
}

int64_t bs_decoder_table_bytes(const AVCodecContext *decoder) {
    /* Pools of tables that bs_decoder_trim() does not empty keep one table for each picture that was in work. */
    int pooled = decoder->codec_id == AV_CODEC_ID_H264 || decoder->codec_id == AV_CODEC_ID_VP9 ? MOST_PICTURES : 0;
    BsWatch *watch = bs_watch_of(decoder);
    if (!watch)
        return 0;
    return atomic_load(&watch->tables) + pooled * bs_picture_table_bytes(decoder->codec_id, atomic_load(&watch->pixels));
}

int bs_decoder_lacks_room(const AVCodecContext *decoder) {
    BsWatch *watch = bs_watch_of(decoder);
    return watch && watch->account && atomic_load_explicit(&watch->account->wanted, memory_order_acquire) != 0;
}

void bs_account_share(AVCodecContext *decoder, int64_t bytes) {
    BsWatch *watch = bs_watch_of(decoder);
    BsAccount *account = watch ? watch->account : NULL;
    if (!account)
        return;
    bs_account_settle(account, watch->shared);
    watch->shared = bs_account_charge(account, bytes, watch->options.is_lenient) ? bytes : 0;
}
