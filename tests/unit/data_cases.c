#include "tests/unit/data_cases.h"

#include "common/dataset.h"
#include "common/file.h"
#include "common/tensor_file.h"

#include <check.h>
#include <stdio.h>

size_t data_events_of_user(size_t user) {
    return user % DATA_MAX_EVENTS + 1;
}

int64_t data_time_of_event(size_t user, size_t k) {
    return (int64_t)(100 * user + 10 * k);
}

static weir_tensor_writer_t *create_file(const char *folder, const char *name) {
    char path[WEIR_PATH_MAX];
    weir_tensor_writer_t *writer = NULL;
    ck_assert_int_eq(weir_path_join(path, sizeof path, folder, name, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    return writer;
}

static void describe(weir_tensor_writer_t *writer, size_t items) {
    char users_text[24], items_text[24];
    (void)snprintf(users_text, sizeof users_text, "%d", (int)DATA_USERS);
    (void)snprintf(items_text, sizeof items_text, "%zu", items);
    const char *const metadata[][2] = {{"format", WEIR_DATASET_FORMAT},
                                       {"version", WEIR_DATASET_VERSION},
                                       {"num_users", users_text},
                                       {"num_items", items_text},
                                       {"source", "test"}};
    for (size_t i = 0; i < sizeof metadata / sizeof metadata[0]; i++) {
        ck_assert_int_eq(weir_tensor_writer_metadata(writer, metadata[i][0], metadata[i][1], NULL),
                         WEIR_OK);
    }
}

static void finish_file(weir_tensor_writer_t *writer) {
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
}

void data_write(const char *folder, size_t items_count, data_item_t item_of_event) {
    enum { MAX_TOTAL = DATA_USERS * DATA_MAX_EVENTS };
    int64_t offsets[DATA_USERS + 1] = {0}, items[MAX_TOTAL], times[MAX_TOTAL];
    float actions[MAX_TOTAL];
    uint64_t events = 0;
    for (size_t user = 0; user < DATA_USERS; user++) {
        for (size_t k = 0; k < data_events_of_user(user); k++, events++) {
            items[events] = item_of_event(user, k);
            times[events] = data_time_of_event(user, k);
            actions[events] = 1.0f;
        }
        offsets[user + 1] = (int64_t)events;
    }
    const struct {
        const char *name;
        weir_dtype_t dtype;
        uint64_t count;
        const void *values;
        size_t bytes;
    } tensors[] = {{"offsets", WEIR_DTYPE_I64, DATA_USERS + 1, offsets, sizeof offsets},
                   {"items", WEIR_DTYPE_I64, events, items, events * sizeof items[0]},
                   {"times", WEIR_DTYPE_I64, events, times, events * sizeof times[0]},
                   {"actions", WEIR_DTYPE_F32, events, actions, events * sizeof actions[0]}};
    enum { TENSORS = sizeof tensors / sizeof tensors[0] };
    weir_tensor_writer_t *writer = create_file(folder, WEIR_DATASET_EVENTS);
    describe(writer, items_count);
    for (size_t i = 0; i < TENSORS; i++) {
        ck_assert_int_eq(weir_tensor_writer_declare(writer, tensors[i].name, tensors[i].dtype, 1,
                                                    &tensors[i].count, NULL),
                         WEIR_OK);
    }
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    for (size_t i = 0; i < TENSORS; i++) {
        ck_assert_int_eq(
            weir_tensor_writer_append(writer, tensors[i].values, tensors[i].bytes, NULL), WEIR_OK);
    }
    finish_file(writer);
    /* Training and evaluation never look into the dictionary; it only has to be there. */
    writer = create_file(folder, WEIR_DATASET_DICTIONARY);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    finish_file(writer);
}
