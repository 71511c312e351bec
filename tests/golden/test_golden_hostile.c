/* Broken copies of a good golden file: each is refused with a sentence, none crashes the reader. */
#include "tests/golden/golden_case.h"
#include "tests/suite.h"

#include <stdint.h>
#include <string.h>

typedef struct {
    unsigned char *bytes;
    size_t size;
} image_t;

static image_t read_image(void) {
    FILE *stream = fopen(WEIR_GOLDEN_DEFAULT "/hstu_tiny.safetensors", "rb");
    image_t image = {0};
    ck_assert_ptr_nonnull(stream);
    ck_assert_int_eq(fseek(stream, 0, SEEK_END), 0);
    long size = ftell(stream);
    ck_assert_int_gt(size, 0);
    ck_assert_int_eq(fseek(stream, 0, SEEK_SET), 0);
    image.size = (size_t)size;
    image.bytes = aligned_alloc(64, (image.size + 63) / 64 * 64);
    ck_assert_ptr_nonnull(image.bytes);
    ck_assert_uint_eq(fread(image.bytes, 1, image.size, stream), image.size);
    (void)fclose(stream);
    return image;
}

static weir_err_t load(const image_t *image, size_t size, weir_error_t *error) {
    weir_tensor_file_t *file = NULL;
    golden_case_t golden = {0};
    weir_err_t err = weir_tensor_file_open_memory(image->bytes, size, "image", &file, error);
    if (err == WEIR_OK) {
        err = golden_load(file, &golden, error);
        golden_fini(&golden);
    }
    weir_tensor_file_close(file);
    return err;
}

START_TEST(a_good_file_is_read) {
    image_t image = read_image();
    weir_error_t error = {0};
    ck_assert_msg(load(&image, image.size, &error) == WEIR_OK, "%s", error.message);
    free(image.bytes);
}
END_TEST

START_TEST(a_truncated_file_is_refused_wherever_it_ends) {
    image_t image = read_image();
    for (size_t size = 0; size < image.size; size += 1 + image.size / 400) {
        weir_error_t error = {0};
        ck_assert_int_ne(load(&image, size, &error), WEIR_OK);
        ck_assert_str_ne(error.message, "");
    }
    free(image.bytes);
}
END_TEST

/* Equal lengths, so that the file's offsets stay right. */
START_TEST(metadata_that_do_not_fit_are_refused) {
    static const struct {
        const char *from, *to;
    } edits[] = {
        {"\"num_heads\": \"2\"", "\"num_heads\": \"0\""},
        {"\"num_heads\": \"2\"", "\"num_heads\": \"3\""},
        {"\"num_heads\": \"2\"", "\"num_heads\": \"x\""},
        {"\"num_heads\": \"2\"", "\"num_headz\": \"2\""},
        {"\"dqk\": \"4\"", "\"dqk\": \"-\""},
        {"\"dv\": \"4\"", "\"dv\": \"5\""},
        {"\"num_blocks\": \"2\"", "\"num_blocks\": \"9\""},
        {"\"embedding_dim\": \"8\"", "\"embedding_dim\": \"7\""},
        {"\"attention_length\": \"12\"", "\"attention_length\": \"99\""},
        {"\"max_sequence_length\": \"8\"", "\"max_sequence_length\": \"7\""},
        {"\"num_items\": \"20\"", "\"num_items\": \"19\""},
        {"\"num_items\": \"20\"", "\"num_items\": \"-1\""},
        {"\"num_items\": \"20\"", "\"num_items\": \"9e\""},
        {"\"num_negatives\": \"4\"", "\"num_negatives\": \"5\""},
        {"\"temperature\": \"0.05\"", "\"temperature\": \"-1.0\""},
        {"\"temperature\": \"0.05\"", "\"temperature\": \"nan \""},
        {"\"learning_rate\": \"0.001\"", "\"learning_rate\": \"1e999\""},
        {"\"layer_norm_eps\": \"1e-06\"", "\"layer_norm_eps\": \"1e-05\""},
        {"\"time_buckets\": \"128\"", "\"time_buckets\": \"127\""},
        {"\"dropout\": \"0\"", "\"dropout\": \"1\""},
        {"\"lengths\"", "\"lengthz\""},
        {"param/_hstu._attention_layers.1._uvqk", "param/_hstu._attention_layers.2._uvqk"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        image_t image = read_image();
        size_t length = strlen(edits[i].from);
        weir_error_t error = {0};
        ck_assert_uint_eq(length, strlen(edits[i].to));
        unsigned char *place = memmem(image.bytes, image.size, edits[i].from, length);
        ck_assert_msg(place != NULL, "%s is not in the file", edits[i].from);
        memcpy(place, edits[i].to, length);
        ck_assert_msg(load(&image, image.size, &error) != WEIR_OK, "%s was taken", edits[i].to);
        ck_assert_str_ne(error.message, "");
        free(image.bytes);
    }
}
END_TEST

/* Where the values of a tensor begin in the image. */
static unsigned char *find_values(const image_t *image, const char *name) {
    weir_tensor_file_t *file = NULL;
    ck_assert_int_eq(weir_tensor_file_open_memory(image->bytes, image->size, "image", &file, NULL),
                     WEIR_OK);
    const weir_tensor_t *tensor = weir_tensor_file_find(file, name);
    ck_assert_ptr_nonnull(tensor);
    size_t offset = (size_t)((const unsigned char *)tensor->values - image->bytes);
    weir_tensor_file_close(file);
    return image->bytes + offset;
}

START_TEST(values_out_of_range_are_refused) {
    static const char *const names[] = {"lengths", "item_ids", "negative_ids"};
    static const int64_t values[] = {0, -1, INT64_MAX, INT64_MIN, 21};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            image_t image = read_image();
            weir_error_t error = {0};
            memcpy(find_values(&image, names[n]), &values[v], sizeof values[v]);
            ck_assert_int_ne(load(&image, image.size, &error), WEIR_OK);
            ck_assert_str_ne(error.message, "");
            free(image.bytes);
        }
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("golden_hostile");
    TCase *t = tcase_create("golden_hostile");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_good_file_is_read);
    tcase_add_test(t, a_truncated_file_is_refused_wherever_it_ends);
    tcase_add_test(t, metadata_that_do_not_fit_are_refused);
    tcase_add_test(t, values_out_of_range_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
