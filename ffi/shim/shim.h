/* C shims for Rust: code that needs FFmpeg's internal headers, a va_list, or a signal handler. */
#ifndef BUCKET_STREAMER_SHIM_H
#define BUCKET_STREAMER_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct AVFormatContext;

enum BsMovFlags { BS_MOV_KEY = 1, BS_MOV_DISCARD = 2 };

/* One sample of the MP4/MOV demuxer's index, edit lists applied, with the values that av_read_frame() would give its
 * packet. */
typedef struct BsMovSample {
    int64_t pos;
    int64_t dts;
    int64_t pts;
    int64_t duration;
    uint32_t size;
    uint32_t flags;       /* BsMovFlags */
    uint32_t description; /* index of the sample description (stsd entry) */
} BsMovSample;

/* Nonzero if the context was opened by the MP4/MOV demuxer. */
int bs_mov_is(const struct AVFormatContext *s);
/* Number of samples in the index so far. */
int bs_mov_sample_count(const struct AVFormatContext *s, unsigned stream);
/* Frees the index of all other streams. */
void bs_mov_drop_others(struct AVFormatContext *s, unsigned stream);
/* Nonzero if fragments (moof) are left to read: then av_read_frame() visits all samples, and a meter bounds that
 * work. */
int bs_mov_begin_fragments(const struct AVFormatContext *s);
/* Iterates over the samples of a stream in decode order. NULL without such a stream, or without memory. */
typedef struct BsMovWalk BsMovWalk;
BsMovWalk *bs_mov_walk_open(const struct AVFormatContext *s, unsigned stream);
void bs_mov_walk_close(BsMovWalk **walk);
/* Writes up to `capacity` further samples to `out`, and returns their number: 0 at the end. */
int bs_mov_walk_next(BsMovWalk *walk, BsMovSample *out, int capacity);
/* Number of sample descriptions. */
int bs_mov_description_count(const struct AVFormatContext *s, unsigned stream);
/* Returns the length of the decoder configuration of a sample description, and its address in *data, which the demuxer
 * owns. */
int bs_mov_description(const struct AVFormatContext *s, unsigned stream, int description, const uint8_t **data);
/* Nonzero if the samples of the track are encrypted (CENC, ISO/IEC 23001-7). */
int bs_mov_is_encrypted(const struct AVFormatContext *s, unsigned stream);

struct AVCodecContext;
struct AVFrame;
/* The state of a decoder after a picture: fork.c. */
typedef struct BsCheckpoint BsCheckpoint;

/* BS_PICTURE_OTHER_LAYER: not of the base layer. BS_PICTURE_NOT_WHOLE: bs_checkpoint_picture() cannot return it. */
enum BsPictureFlags { BS_PICTURE_OTHER_LAYER = 1, BS_PICTURE_NOT_WHOLE = 2 };

/* A picture that a checkpoint holds. */
typedef struct BsPicture {
    uint64_t identity; /* the same for the same picture in different checkpoints */
    uint64_t bytes;    /* memory that it takes, side tables too */
    int64_t tag;       /* -1 if it has none */
    uint32_t flags;    /* BsPictureFlags */
    const struct AVFrame *frame; /* the checkpoint's own */
} BsPicture;

/* Nonzero if this open decoder supports checkpoints. */
int bs_fork_is_supported(const struct AVCodecContext *decoder);
/* Samples that may still be in work when the decoder takes the next one. 0 for a decoder without checkpoints. */
int bs_decoder_lag(const struct AVCodecContext *decoder);
/* Allocates an empty checkpoint for decoders of the same codec; NULL without memory. */
BsCheckpoint *bs_checkpoint_alloc(const struct AVCodecContext *like);
/* Releases all pictures. The checkpoint can be used again. */
void bs_checkpoint_clear(BsCheckpoint *checkpoint);
void bs_checkpoint_free(BsCheckpoint *checkpoint);
/* Saves the state after the picture with the tag. AVERROR(EAGAIN) if the decoder does not have it yet, or any more. */
int bs_checkpoint_save(BsCheckpoint *to, struct AVCodecContext *decoder, uint32_t tag);
/* Restores the state into a flushed decoder. Other threads may restore the same checkpoint at the same time. */
int bs_checkpoint_restore(const BsCheckpoint *from, struct AVCodecContext *decoder);
/* Ends the charge of the checkpoint's pictures to the decoder's run, except for those that the decoder shares with it.
 * To be called after a save and after a restore. */
void bs_checkpoint_share(const BsCheckpoint *checkpoint, struct AVCodecContext *decoder);
/* Writes up to `capacity` pictures to `out`, and returns their number. */
int bs_checkpoint_pictures(const BsCheckpoint *checkpoint, BsPicture *out, int capacity);
/* References a held picture. AVERROR(EAGAIN) if the checkpoint does not hold it in a form that can be shown. */
int bs_checkpoint_picture(const BsCheckpoint *checkpoint, uint32_t tag, struct AVFrame *out);
/* As bs_checkpoint_picture(), for the picture that the decoder has decoded last. */
int bs_decoder_picture(struct AVCodecContext *decoder, uint32_t tag, struct AVFrame *out);

/* Zero if the picture that the decoder has decoded last, or one that it holds with it, is known to be damaged. With
 * frame threads libavcodec may output a picture before it flags it. */
int bs_decoder_is_clean(struct AVCodecContext *decoder, uint32_t tag);

/* Frees unused memory for tables of pictures. The decoder must be idle. */
void bs_decoder_trim(struct AVCodecContext *decoder);

/* The current AVFrame.decode_error_flags of a picture that the decoder has output. With frame threads an H.264 picture
 * is output with the flags that it has while another thread still decodes it. */
int bs_decoder_error_flags(struct AVCodecContext *decoder, uint32_t tag);

/* Makes damaged rows errors, in an open H.265 decoder with slice threads: wavefronts.c. */
void bs_check_rows(struct AVCodecContext *decoder);

/* The treatment of damage by a decoder. */
typedef struct BsWatchOptions {
    uint64_t owner;    /* unique number of the video: memory with its pictures is cleared for others */
    int is_lenient;    /* damaged pictures are output, marked; otherwise damage is an error of the packet */
    int checks_hashes; /* H.265: pictures are compared with their hash SEI messages (D.3.19) */
    int checks_ends;   /* data of a slice or tile that end early or late count too */
} BsWatchOptions;

/* BS_MARK_DAMAGED: damage may affect the picture. BS_MARK_SUSPECT: pictures that refer to it may be damaged. */
enum BsMarks { BS_MARK_DAMAGED = 1, BS_MARK_SUSPECT = 2 };
/* Signs of damage. BS_FOUND_END: only data that end early or late. BS_FOUND_DAMAGE: any other. */
enum BsFound { BS_FOUND_DAMAGE = 1, BS_FOUND_END = 2 };

/* The decoder for a codec id that checks every decoded picture: inspect.c. NULL without one. */
const struct AVCodec *bs_inspecting_codec(int codec_id);
/* Attaches the options to such a decoder before it is opened. 0, or AVERROR(ENOMEM). */
int bs_watch_attach(struct AVCodecContext *decoder, const BsWatchOptions *options);
/* Frees a decoder, and the state attached to it. */
void bs_decoder_free(struct AVCodecContext **decoder);
/* Begins a new run: clears the signs of damage. */
void bs_watch_begin(struct AVCodecContext *decoder);
/* The BsFound of pictures decoded since bs_watch_begin(). */
int bs_watch_found(const struct AVCodecContext *decoder);
/* Sets `checks_ends`. The decoder must be idle. */
void bs_watch_set_ends(struct AVCodecContext *decoder, int checks_ends);
/* Nonzero if damage may affect a picture that the decoder has output. */
int bs_is_damaged(const struct AVCodecContext *decoder, const struct AVFrame *f);

/* The memory of the pictures of one decode run, decoders' tables included: account.c. Reference-counted. */
typedef struct BsAccount BsAccount;
/* The total of all accounts of an engine. */
typedef struct BsLedger BsLedger;

/* A budget that lends memory to accounts. */
typedef struct BsLender {
    void *opaque;
    /* Called for an account of a `kind` with `granted` bytes that needs `used` in all. Returns the bytes granted from
     * now on. Must not wait. */
    int64_t (*grow)(void *opaque, int kind, int64_t granted, int64_t used);
    /* Called when the account is freed. */
    void (*release)(void *opaque);
} BsLender;

/* NULL without memory. */
BsLedger *bs_ledger_alloc(void);
void bs_ledger_unref(BsLedger *ledger);
/* Bytes that decoders hold now, and the largest number at one time so far. */
int64_t bs_ledger_live(const BsLedger *ledger);
int64_t bs_ledger_peak(const BsLedger *ledger);

/* Allocates an account. NULL without memory; the lender is not released then. Pictures that may result from damage get
 * `most` bytes at most. */
BsAccount *bs_account_alloc(BsLedger *ledger, const BsLender *lender, int kind, int64_t granted, int64_t most);
void bs_account_unref(BsAccount *account);
int64_t bs_account_granted(const BsAccount *account);
/* Gives up the granted bytes that are not in use, and returns the granted bytes. No decoder may be at work. */
int64_t bs_account_shrink(BsAccount *account);
/* The largest number of bytes in use at one time so far. */
int64_t bs_account_peak(const BsAccount *account);
/* The bytes in use at a refusal, with the refused ones; 0 without a refusal. */
int64_t bs_account_wanted(const BsAccount *account);
/* Nonzero if no larger grant would have helped. */
int bs_account_is_final(const BsAccount *account);

/* Charges the decoder's pictures to the account from now on; to none for NULL. The decoder must be idle. */
void bs_account_attach(struct AVCodecContext *decoder, BsAccount *account);
/* Nonzero if the account refused memory for a picture: the output of the decoder is then unusable. */
int bs_decoder_lacks_room(const struct AVCodecContext *decoder);
/* Bytes of the tables that the decoder keeps for pictures in work, also while it is idle. */
int64_t bs_decoder_table_bytes(const struct AVCodecContext *decoder);
/* Sets the bytes that the decoder shares with a checkpoint, which has its own budget. */
void bs_account_share(struct AVCodecContext *decoder, int64_t bytes);
/* Transfers a frame from the decoder to a caller: its memory leaves the account when the decoder releases it. */
int bs_let_out(struct AVFrame *f);

struct AVDictionary;
/* avformat_find_stream_info(), with its pictures charged to the account, which may be NULL. */
int bs_find_stream_info(struct AVFormatContext *s, int64_t max_pixels, BsAccount *account);

/* AVCodecContext.get_buffer2: memory for pictures, freed with the last reference: buffers.c. */
int bs_get_buffer(struct AVCodecContext *c, struct AVFrame *f, int flags);
/* The same memory for a frame whose format, width and height are set. */
int bs_get_planes(struct AVFrame *f);

/* An NVIDIA GPU with its driver: gpu.c. Reference-counted; objects made on it keep a reference. */
typedef struct BsGpu BsGpu;

typedef struct BsGpuInfo {
    char name[96];
    int ordinal;
    int driver;          /* CUDA version of the driver: 1000 * major + 10 * minor */
    int engines;         /* NVDECs that decode H.265; 0 if the driver does not report it */
    int sessions_opened; /* hardware decoders opened so far */
    int sessions_reused; /* times that one of them was reused for another stream */
} BsGpuInfo;

/* Capabilities of a GPU for a codec in a chroma format and bit depth. */
typedef struct BsGpuCaps {
    int is_supported;
    int engines;
    unsigned output_formats;
    int min_width, min_height, max_width, max_height, max_blocks; /* blocks of 16x16 */
} BsGpuCaps;

/* A picture in GPU memory: NV12, or P016 with the value in the upper bits; or three planes of such samples. */
typedef struct BsGpuPicture {
    uint64_t planes[3]; /* CUdeviceptr of the first visible sample */
    uint64_t context;   /* CUcontext, the primary one of the GPU */
    size_t pitch;
    int plane_count, width, height, bytes_per_sample, bit_depth, ordinal;
    int planar; /* AVPixelFormat that a software decoder would output */
} BsGpuPicture;

/* The colour of samples, for an encoder on the GPU. */
typedef struct BsGpuColour {
    float kr, kb;        /* weights of R' and B' in Y', by H.273 table 4 */
    int is_full_range;
    int chroma_location; /* AVChromaLocation; unspecified (0) is left */
} BsGpuColour;

/* Encodes JPEGs on one GPU, for one thread at a time. */
typedef struct BsGpuEncoder BsGpuEncoder;

/* Opens GPU `ordinal`. 0, or an AVERROR with the reason in bs_gpu_why(). */
int bs_gpu_open(int ordinal, BsGpu **out);
void bs_gpu_close(BsGpu **gpu);
/* The last failure of this thread since bs_gpu_forget(): its reason, and its AVERROR (0 without a failure). */
const char *bs_gpu_why(void);
int bs_gpu_error(void);
void bs_gpu_forget(void);
/* Nonzero after an error of the driver that makes all further calls fail. */
int bs_gpu_is_lost(const BsGpu *gpu);
void bs_gpu_info(BsGpu *gpu, BsGpuInfo *out);
/* `codec` and `chroma` as in cuviddec.h. */
int bs_gpu_caps(BsGpu *gpu, int codec, int chroma, int depth, BsGpuCaps *out);

/* The decoder for a codec id that decodes on a GPU; NULL if there is none. */
const struct AVCodec *bs_gpu_codec(int codec_id);
/* Attaches such a decoder to a GPU, after bs_watch_attach() and before it is opened. It must not outlive the GPU. */
void bs_gpu_attach(struct AVCodecContext *decoder, BsGpu *gpu);
/* Nonzero if the decoder was attached to a GPU. */
int bs_gpu_is_attached(const struct AVCodecContext *decoder);
/* Begins a new decode run: clears the damage of the last one. */
void bs_gpu_begin(struct AVCodecContext *decoder);
/* Copies a frame that such a decoder has output to the host, after a wait for its decoding: the planes that a software
 * decoder would output, not cropped. Also copies a frame kept on the device. AVERROR_INVALIDDATA if any picture since
 * bs_gpu_begin() was damaged. */
int bs_gpu_download(const struct AVFrame *from, struct AVFrame *to);
/* As bs_gpu_download(), into GPU memory, cropped; bs_gpu_kept() returns the location. */
int bs_gpu_keep(const struct AVFrame *from, struct AVFrame *to);
int bs_gpu_kept(const struct AVFrame *frame, BsGpuPicture *out);

/* Opens an encoder on the GPU that holds a kept frame. AVERROR(ENOSYS) without nvJPEG. */
int bs_gpu_encoder_open(const struct AVFrame *kept, BsGpuEncoder **out);
void bs_gpu_encoder_close(BsGpuEncoder **encoder);
/* Nonzero if the encoder is on the GPU that holds the frame. */
int bs_gpu_encoder_fits(const BsGpuEncoder *encoder, const struct AVFrame *kept);
/* Encodes a kept 4:2:0 frame as a JPEG: BT.601, full range. The bytes are av_malloc()ed. */
int bs_gpu_encode_jpeg(BsGpuEncoder *encoder, const struct AVFrame *kept, const BsGpuColour *colour, int quality,
                       uint8_t **bytes, size_t *size);

/* The exceeded limit: BsMeter.exceeded. */
enum BsExceeded { BS_EXCEEDED_MEMORY = 1, BS_EXCEEDED_WORK = 2, BS_EXCEEDED_TIME = 3, BS_EXCEEDED_BUSY = 4 };
/* The most NAL units of a sample. */
enum BsLimits { BS_UNIT_LIMIT = 8192 };

/* Limits of memory and work for FFmpeg's calls in one thread: meter.c. */
typedef struct BsMeter {
    int64_t used, peak, limit, cap; /* bytes */
    uint64_t steps, step_limit;
    int64_t started_ns, time_limit_ns; /* processor time of the thread */
    uint32_t ticks;
    int exceeded;   /* BsExceeded; 0 if none */
    int in_decoder; /* nonzero in a decoder: no allocation fails */
    const void *list; /* the last long list of a demuxer, and its bytes */
    size_t list_bytes;
    /* Requests a higher limit for `wanted` bytes. Returns the limit from now on, or -1 if other threads use all
     * bytes. */
    int64_t (*grow)(void *opaque, int64_t wanted);
    void *opaque;
} BsMeter;

/* Installs the meter of this thread; NULL removes it. */
void bs_meter_install(BsMeter *meter);
/* BsExceeded of this thread's meter, 0 without one. */
int bs_meter_exceeded(void);
/* Counts bytes that libavutil does not allocate; negative when they are freed. Nonzero if they are within the
 * limits. */
int bs_meter_charge(int64_t bytes);
/* Counts steps of work. */
void bs_meter_work(uint64_t steps);
/* Checks the processor time of the thread. */
void bs_meter_look(void);
/* Allows `more` further bytes at most, whatever the limit: visiting more entries again would be too much work. */
void bs_meter_cap(int64_t more);

/* Receives one whole line of FFmpeg's log, without its line end. */
typedef void (*BsLogLine)(int level, const char *line);
/* Sends FFmpeg's log to `line`, for messages up to `level`. */
void bs_log_install(int level, BsLogLine line);

/* Guards a map of a file against the truncation of the file: mapping.c. Returns a slot number, or -1 if all are in
 * use. */
int bs_guard_add(void *start, size_t length);
/* Nonzero once a read has met a missing page of the map. */
int bs_guard_is_broken(int slot);
void bs_guard_remove(int slot);
/* Installs the SIGBUS handler; returns 0, or errno. Call once. */
int bs_guard_install(void);

/* The number of this process: a different one in a child after fork(). Never 0. */
uint64_t bs_process(void);

#endif
