/* The state of the coordinator, shared by coordinator.c (who speaks, the end), coordinator_save.c
 * (checkpoints) and coordinator_send.c (what goes out). */
#ifndef WEIR_COORDINATOR_COORDINATOR_INTERNAL_H
#define WEIR_COORDINATOR_COORDINATOR_INTERNAL_H

#include "coordinator/coordinator.h"
#include "proto/control_client.h"
#include "proto/envelope.h"

typedef Weir__Control__Envelope weir_envelope_t;

enum { WEIR_MAX_WAITING_CTL = 16, WEIR_FOLDER_MAX = 4096 };

typedef struct {
    bool joined;  /* its connection stands: what is sent to it arrives */
    bool silent;  /* said so in the log */
    bool written; /* its files of the checkpoint under way are on disk */
    bool left;    /* it knows that the job is over */
    uint32_t index;
    const char *role; /* static */
    char host[64];
    uint64_t pid, step, epoch, rows, bytes;
    weir_phase_t phase;
    double loss, tokens_per_second, heard;
    weir_wait_t wait; /* what it waits for, and of whom */
    weir_rank_metrics_t metrics;
    double moved; /* when its step, phase or progress last changed */
} weir_member_t;

/* A checkpoint under way. */
typedef struct {
    bool active, best;
    uint64_t step, epoch;
    double started;
    char folder[WEIR_FOLDER_MAX];
    char *metrics_json;            /* owned; NULL: none */
    weir_checkpoint_file_t *files; /* owned */
    size_t file_count, file_capacity;
    uint64_t base;    /* that it may build on; 0: it is to be full */
    uint32_t awaited; /* ranks that have not reported */
} weir_save_t;

struct weir_coordinator {
    weir_coordinator_options_t options;
    weir_coordinator_operations_t operations;
    weir_member_t *ranks; /* 1 + P + W; entry 0 is the coordinator itself */
    uint32_t rank_count;
    double started, now; /* now: of the last call */
    weir_save_t save;
    weir_identity_t waiting[WEIR_MAX_WAITING_CTL]; /* ctl that waits for a checkpoint */
    size_t waiting_count;
    bool checkpoint_wished; /* for worker 0, which had not joined yet */
    bool stop_wished, stop_saves;
    bool finished; /* worker 0 said so; `reason` says why */
    double finished_at;
    char reason[64];
    uint64_t last_checkpoint, refused;
    uint64_t published, failed;        /* checkpoints of this job */
    double published_at, save_seconds; /* of the last published */
    uint64_t save_bytes;
    uint64_t base, deltas; /* the last that this job published, 0: none; deltas since a full one */
    double calm_since;     /* nothing can be stuck that was not stuck then */
    bool cut_off;          /* said so in the log */
    bool hung;
    char culprit[512];
};

/* Rank of worker 0. */
uint32_t weir_coordinator_lead(const weir_coordinator_t *coordinator);

/* Count a message that is not understood or not its sender's to say; the first is logged. */
void weir_coordinator_refuse(weir_coordinator_t *coordinator, const char *why);

/* ---- coordinator_hang.c ---- */

/* Look for a job that stands still. */
void weir_coordinator_tick_hang(weir_coordinator_t *coordinator, double now);
/* What a rank waits for: "rows from ps 1"; empty: nothing. */
void weir_coordinator_describe_wait(const weir_coordinator_t *coordinator,
                                    const weir_member_t *member, char *text, size_t capacity);

/* ---- coordinator_send.c ---- */

void weir_coordinator_send_rank(weir_coordinator_t *coordinator, uint32_t rank,
                                weir_envelope_t *envelope);
void weir_coordinator_reply(weir_coordinator_t *coordinator, const weir_identity_t *to, bool ok,
                            const char *text);
void weir_coordinator_send_stop(weir_coordinator_t *coordinator, uint32_t rank, bool save,
                                bool done);
/* `metrics`: with what each rank counts. */
void weir_coordinator_send_status(weir_coordinator_t *coordinator, const weir_identity_t *to,
                                  bool metrics, double now);

/* ---- coordinator_save.c ---- */

/* Worker 0: all workers stand at this step, save now. */
void weir_coordinator_begin_save(weir_coordinator_t *coordinator,
                                 const Weir__Control__CheckpointRequest *request, double now);
/* A rank reports its files, or why there are none. */
void weir_coordinator_take_report(weir_coordinator_t *coordinator, uint32_t rank,
                                  const Weir__Control__CheckpointDone *done);
/* A ctl asks for a checkpoint. */
void weir_coordinator_wish_save(weir_coordinator_t *coordinator, const weir_identity_t *from,
                                const Weir__Control__CheckpointRequest *request);
/* A rank joined: tell it of the checkpoint that it has missed the begin of. */
void weir_coordinator_catch_up_save(weir_coordinator_t *coordinator, uint32_t rank);
/* The checkpoint's deadline. */
void weir_coordinator_tick_save(weir_coordinator_t *coordinator, double now);
/* Training is over: who waits for a checkpoint waits in vain. */
void weir_coordinator_end_waiting(weir_coordinator_t *coordinator, const char *why);
/* Free what a checkpoint under way owns. */
void weir_coordinator_end_save(weir_coordinator_t *coordinator);

#endif
