/*
 * The state that a dav1d decoder carries from frame to frame, by reference count.
 *
 * All of it lies in eight slots (AV1 7.20, 7.21): picture, motion vectors, segmentation map and order hints in `refs`,
 * probabilities in `cdf`. Beside them a decoder keeps the sequence header with what follows from it (operating point,
 * layers), and metadata for the next pictures. dav1d shares all of these between its own frames, writes none of them
 * again after the frame that made them, and frees each with its last reference, even after the decoder is closed.
 *
 * This file is compiled against the internal headers of the dav1d that is linked, with its config.h.
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#include "src/cdf.h"
#include "src/filmgrain.h"
#include "src/internal.h"
#include "src/picture.h"
#include "src/ref.h"

#include "dav1d_state.h"

struct BsDav1dState {
    struct {
        Dav1dThreadPicture p;
        Dav1dRef *segmap, *refmvs;
        unsigned refpoc[7];
    } refs[BS_DAV1D_SLOTS];
    CdfThreadContext cdf[BS_DAV1D_SLOTS];
    Dav1dRef *seq_hdr_ref, *content_light_ref, *mastering_display_ref;
    Dav1dSequenceHeader *seq_hdr;
    Dav1dContentLightLevel *content_light;
    Dav1dMasteringDisplay *mastering_display;
    int max_spatial_id;
    unsigned operating_point_idc;
    enum PictureFlags frame_flags;
};

static Dav1dRef *ref(Dav1dRef *r) {
    if (r)
        dav1d_ref_inc(r);
    return r;
}

void *bs_dav1d_cookie(const Dav1dContext *c) { return c->allocator.cookie; }

int bs_dav1d_is_between_samples(const Dav1dContext *c) { return !c->in.sz && !c->frame_hdr; }

void bs_dav1d_wait(Dav1dContext *c) {
    if (c->n_fc == 1)
        return;
    pthread_mutex_lock(&c->task_thread.lock);
    for (unsigned i = 0; i < c->n_fc; i++)
        while (c->fc[i].n_tile_data > 0)
            pthread_cond_wait(&c->fc[i].task_thread.cond, &c->task_thread.lock);
    pthread_mutex_unlock(&c->task_thread.lock);
}

BsDav1dState *bs_dav1d_state_alloc(void) { return calloc(1, sizeof(BsDav1dState)); }

void bs_dav1d_state_clear(BsDav1dState *s) {
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        if (s->refs[i].p.p.frame_hdr)
            dav1d_thread_picture_unref(&s->refs[i].p);
        dav1d_ref_dec(&s->refs[i].segmap);
        dav1d_ref_dec(&s->refs[i].refmvs);
        dav1d_cdf_thread_unref(&s->cdf[i]);
    }
    dav1d_ref_dec(&s->seq_hdr_ref);
    dav1d_ref_dec(&s->content_light_ref);
    dav1d_ref_dec(&s->mastering_display_ref);
    memset(s, 0, sizeof(*s));
}

void bs_dav1d_state_free(BsDav1dState *s) {
    if (!s)
        return;
    bs_dav1d_state_clear(s);
    free(s);
}

int bs_dav1d_state_save(BsDav1dState *to, const Dav1dContext *c) {
    if (!bs_dav1d_is_between_samples(c) || c->cached_error || !c->seq_hdr)
        return -1;
    BsDav1dState state = {
        .seq_hdr_ref = c->seq_hdr_ref,
        .seq_hdr = c->seq_hdr,
        .content_light_ref = c->content_light_ref,
        .content_light = c->content_light,
        .mastering_display_ref = c->mastering_display_ref,
        .mastering_display = c->mastering_display,
        .max_spatial_id = c->max_spatial_id,
        .operating_point_idc = c->operating_point_idc,
        .frame_flags = c->frame_flags,
    };
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        state.refs[i].p = c->refs[i].p;
        state.refs[i].segmap = c->refs[i].segmap;
        state.refs[i].refmvs = c->refs[i].refmvs;
        memcpy(state.refs[i].refpoc, c->refs[i].refpoc, sizeof(state.refs[i].refpoc));
        state.cdf[i] = c->cdf[i];
    }
    bs_dav1d_state_copy(to, &state);
    return 0;
}

void bs_dav1d_state_copy(BsDav1dState *to, const BsDav1dState *from) {
    *to = *from;
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        memset(&to->refs[i].p, 0, sizeof(to->refs[i].p));
        if (from->refs[i].p.p.frame_hdr)
            dav1d_thread_picture_ref(&to->refs[i].p, &from->refs[i].p);
        ref(to->refs[i].segmap);
        ref(to->refs[i].refmvs);
        ref(to->cdf[i].ref);
    }
    ref(to->seq_hdr_ref);
    ref(to->content_light_ref);
    ref(to->mastering_display_ref);
}

/* What a decoder of several frames waits for: all rows of a picture, and the probabilities. One that decodes a frame at a
 * time counts neither. */
static atomic_uint all_rows[2] = { UINT_MAX, UINT_MAX };

int bs_dav1d_state_is_complete(const BsDav1dState *s) {
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        const atomic_uint *rows = s->refs[i].p.progress;
        if (rows && (atomic_load(&rows[0]) != UINT_MAX || atomic_load(&rows[1]) != UINT_MAX))
            return 0;
        if (s->cdf[i].progress && atomic_load(s->cdf[i].progress) != 1)
            return 0;
    }
    return 1;
}

/* A decoder chooses its functions when it decodes its first frame. Before that, a sample may show a frame of a slot, with
 * film grain. */
static void choose_functions(Dav1dContext *c) {
    Dav1dFilmGrainDSPContext *grain = &c->dsp[c->seq_hdr->hbd].fg;
    if (grain->generate_grain_y)
        return;
    if (c->seq_hdr->hbd)
        dav1d_film_grain_dsp_init_16bpc(grain);
    else
        dav1d_film_grain_dsp_init_8bpc(grain);
}

void bs_dav1d_state_restore(const BsDav1dState *from, Dav1dContext *c) {
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        if (from->refs[i].p.p.frame_hdr) {
            dav1d_thread_picture_ref(&c->refs[i].p, &from->refs[i].p);
            if (!c->refs[i].p.progress)
                c->refs[i].p.progress = all_rows;
        }
        c->refs[i].segmap = ref(from->refs[i].segmap);
        c->refs[i].refmvs = ref(from->refs[i].refmvs);
        memcpy(c->refs[i].refpoc, from->refs[i].refpoc, sizeof(c->refs[i].refpoc));
        c->cdf[i] = from->cdf[i];
        ref(c->cdf[i].ref);
    }
    c->seq_hdr_ref = ref(from->seq_hdr_ref);
    c->seq_hdr = from->seq_hdr;
    c->content_light_ref = ref(from->content_light_ref);
    c->content_light = from->content_light;
    c->mastering_display_ref = ref(from->mastering_display_ref);
    c->mastering_display = from->mastering_display;
    c->max_spatial_id = from->max_spatial_id;
    c->operating_point_idc = from->operating_point_idc;
    c->frame_flags = from->frame_flags;
    choose_functions(c);
}

void bs_dav1d_state_slots(const BsDav1dState *s, BsDav1dSlot out[BS_DAV1D_SLOTS]) {
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        const Dav1dPicture *p = &s->refs[i].p.p;
        out[i] = (BsDav1dSlot){ 0 };
        if (!p->frame_hdr || !p->data[0])
            continue;
        /* Blocks of 4 by 4 samples, in whole superblocks of 128 (dav1d_decode_frame_init). */
        size_t columns = (size_t)((p->p.w + 127) >> 7) << 5, rows = (size_t)((p->p.h + 127) >> 7) << 5;
        out[i].allocator_data = p->allocator_data;
        out[i].user_data = p->m.user_data.data;
        out[i].side_bytes = (s->refs[i].refmvs ? columns / 2 * (rows / 2) * sizeof(refmvs_temporal_block) : 0) +
                            (s->refs[i].segmap ? columns * rows : 0) + (s->cdf[i].ref ? sizeof(CdfContext) : 0);
    }
}

struct BsDav1dRecent {
    int count, next;
    struct {
        uintptr_t tag; /* 0: empty */
        BsDav1dState state;
    } entries[];
};

BsDav1dRecent *bs_dav1d_recent_alloc(int count) {
    BsDav1dRecent *recent = calloc(1, sizeof(*recent) + count * sizeof(*recent->entries));
    if (recent)
        recent->count = count;
    return recent;
}

void bs_dav1d_recent_clear(BsDav1dRecent *recent) {
    for (int i = 0; recent && i < recent->count; i++) {
        recent->entries[i].tag = 0;
        bs_dav1d_state_clear(&recent->entries[i].state);
    }
}

void bs_dav1d_recent_free(BsDav1dRecent *recent) {
    bs_dav1d_recent_clear(recent);
    free(recent);
}

void bs_dav1d_recent_add(BsDav1dRecent *recent, uintptr_t tag, const Dav1dContext *decoder) {
    if (!bs_dav1d_is_between_samples(decoder))
        return; /* It does not take the next sample yet. */
    int at = recent->next, newest = (at ? at : recent->count) - 1;
    /* A sample may be several packets. */
    if (recent->entries[newest].tag == tag)
        at = newest;
    bs_dav1d_state_clear(&recent->entries[at].state);
    int is_saved = bs_dav1d_state_save(&recent->entries[at].state, decoder) >= 0;
    recent->entries[at].tag = is_saved ? tag : 0;
    recent->next = (at + 1) % recent->count;
}

const BsDav1dState *bs_dav1d_recent_find(const BsDav1dRecent *recent, uintptr_t tag) {
    for (int i = 0; recent && tag && i < recent->count; i++)
        if (recent->entries[i].tag == tag)
            return &recent->entries[i].state;
    return NULL;
}
