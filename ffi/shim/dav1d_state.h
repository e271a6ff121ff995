/* The state of a dav1d decoder between frames. It includes neither FFmpeg's headers nor dav1d's internal ones, whose
 * files have the same names: dav1d_state.c and its callers see one of the two each. */
#ifndef BUCKET_STREAMER_DAV1D_STATE_H
#define BUCKET_STREAMER_DAV1D_STATE_H

#include <stddef.h>
#include <stdint.h>

#include <dav1d/dav1d.h>

/* References of a decoder: slots, probabilities, headers, metadata. Its contents are shared by reference count and never
 * written. */
typedef struct BsDav1dState BsDav1dState;

/* The number of slots (AV1, NUM_REF_FRAMES). */
#define BS_DAV1D_SLOTS 8

/* The picture of a slot. */
typedef struct BsDav1dSlot {
    void *allocator_data;    /* from alloc_picture_callback; NULL for an empty slot */
    const void *user_data;   /* of the data that the picture was decoded from; NULL if there is none */
    size_t side_bytes;       /* estimate: motion vectors, segmentation map, probabilities */
} BsDav1dSlot;

/* The cookie of the decoder's picture allocator. */
void *bs_dav1d_cookie(const Dav1dContext *decoder);
/* Nonzero if the decoder has taken all data that it got: a new sample can be sent. */
int bs_dav1d_is_between_samples(const Dav1dContext *decoder);
/* Waits until all frames are decoded. */
void bs_dav1d_wait(Dav1dContext *decoder);

/* NULL without memory. */
BsDav1dState *bs_dav1d_state_alloc(void);
void bs_dav1d_state_clear(BsDav1dState *state);
void bs_dav1d_state_free(BsDav1dState *state);
/* References the state of the decoder in an empty `to`. Negative if the decoder is within a sample, or after an error.
 * The frames of the slots may be in work. */
int bs_dav1d_state_save(BsDav1dState *to, const Dav1dContext *decoder);
/* The same from another state. */
void bs_dav1d_state_copy(BsDav1dState *to, const BsDav1dState *from);
/* Nonzero if all frames of the slots are decoded, without an error. */
int bs_dav1d_state_is_complete(const BsDav1dState *state);
/* Puts a complete state into a flushed decoder. */
void bs_dav1d_state_restore(const BsDav1dState *from, Dav1dContext *decoder);
/* States after the last samples that were sent to a decoder of several frames. */
typedef struct BsDav1dRecent BsDav1dRecent;

/* Of `count` samples. NULL without memory. */
BsDav1dRecent *bs_dav1d_recent_alloc(int count);
/* Nothing for NULL. */
void bs_dav1d_recent_clear(BsDav1dRecent *recent);
void bs_dav1d_recent_free(BsDav1dRecent *recent);
/* Adds the present state of the decoder as that after the sample `tag`, in place of the oldest one. Nothing if it has none
 * (bs_dav1d_state_save). */
void bs_dav1d_recent_add(BsDav1dRecent *recent, uintptr_t tag, const Dav1dContext *decoder);
/* The state after the sample; NULL if there is none. */
const BsDav1dState *bs_dav1d_recent_find(const BsDav1dRecent *recent, uintptr_t tag);

/* The pictures of the slots; a picture may be in several. */
void bs_dav1d_state_slots(const BsDav1dState *state, BsDav1dSlot out[BS_DAV1D_SLOTS]);

#endif
