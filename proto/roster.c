#include "proto/roster.h"

#include <string.h>

const char weir_roster_magic[8] = {'w', 'e', 'i', 'r', 'c', 'a', 'r', 'd'};

static void terminate_strings(weir_card_t *card) {
    card->version[sizeof card->version - 1] = '\0';
    card->role[sizeof card->role - 1] = '\0';
    card->host[sizeof card->host - 1] = '\0';
    card->endpoint[sizeof card->endpoint - 1] = '\0';
    card->control_key[sizeof card->control_key - 1] = '\0';
    card->message[sizeof card->message - 1] = '\0';
}

/* Of one kind and version: only then is the rest of a card what it seems. */
static weir_err_t check_versions(const weir_card_t *cards, weir_rank_t size, weir_error_t *error) {
    for (weir_rank_t rank = 0; rank < size; rank++) {
        const weir_card_t *card = &cards[rank];
        if (memcmp(card->magic, weir_roster_magic, sizeof weir_roster_magic) != 0) {
            return weir_errorf(error, WEIR_ERR_VERSION,
                               "rank %u is not a weir process of this kind", rank);
        }
        if (strcmp(card->version, cards[0].version) != 0) {
            (void)weir_errorf(error, WEIR_ERR_VERSION,
                              "rank %u on %s is weir-%s %s, but rank 0 on %s is weir-%s %s", rank,
                              card->host, card->role, card->version, cards[0].host, cards[0].role,
                              cards[0].version);
            weir_error_hint(error, "install one version of weir on all hosts");
            return WEIR_ERR_VERSION;
        }
    }
    return WEIR_OK;
}

static weir_err_t check_starts(const weir_card_t *cards, weir_rank_t size, weir_rank_t *speaker,
                               weir_error_t *error) {
    for (weir_rank_t rank = 0; rank < size; rank++) {
        if (cards[rank].status != WEIR_OK) {
            *speaker = rank;
            return weir_errorf(error, (weir_err_t)cards[rank].status, "%s", cards[rank].message);
        }
    }
    return WEIR_OK;
}

static const char *expected_role(weir_rank_t rank, uint32_t ps) {
    return rank == 0 ? "coordinator" : rank <= ps ? "ps" : "worker";
}

static weir_err_t check_places(const weir_card_t *cards, weir_rank_t size, uint32_t ps,
                               uint32_t workers, weir_error_t *error) {
    uint64_t wanted = (uint64_t)1 + ps + workers;
    if (size != wanted) {
        (void)weir_errorf(error, WEIR_ERR_INVALID,
                          "the job has %u ranks; 1 coordinator, %u servers and %u workers make "
                          "%llu",
                          size, ps, workers, (unsigned long long)wanted);
        weir_error_hint(error,
                        "cluster.ps and cluster.workers must be the counts of the mpirun line");
        return WEIR_ERR_INVALID;
    }
    for (weir_rank_t rank = 0; rank < size; rank++) {
        const weir_card_t *card = &cards[rank];
        if (strcmp(card->role, expected_role(rank, ps)) != 0) {
            (void)weir_errorf(error, WEIR_ERR_INVALID, "rank %u on %s is a %s, but should be a %s",
                              rank, card->host, card->role, expected_role(rank, ps));
            weir_error_hint(error, "order: 1 weir-coordinator : P weir-ps : W weir-worker");
            return WEIR_ERR_INVALID;
        }
        if (card->config_digest != cards[0].config_digest) {
            (void)weir_errorf(error, WEIR_ERR_INVALID,
                              "rank %u (%s on %s) has another configuration than the coordinator",
                              rank, card->role, card->host);
            weir_error_hint(error,
                            "give all roles the same --config and --set, and look for "
                            "WEIR_* in the environment of %s",
                            card->host);
            return WEIR_ERR_INVALID;
        }
    }
    return WEIR_OK;
}

weir_err_t weir_roster_check(weir_card_t *cards, weir_rank_t size, uint32_t ps, uint32_t workers,
                             weir_rank_t *speaker, weir_error_t *error) {
    weir_rank_t told = 0;
    for (weir_rank_t rank = 0; rank < size; rank++) {
        terminate_strings(&cards[rank]);
    }
    weir_err_t err = check_versions(cards, size, error);
    if (err == WEIR_OK) {
        err = check_starts(cards, size, &told, error);
    }
    if (err == WEIR_OK) {
        err = check_places(cards, size, ps, workers, error);
    }
    if (err != WEIR_OK) {
        *speaker = told;
    }
    return err;
}
