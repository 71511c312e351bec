/* Schemas, records, and tables read by a schema, up to the prepared data that they become. */
#include "common/dataset.h"
#include "common/dataset_split.h"
#include "common/file.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/dataset_writer.h"
#include "tools/records.h"
#include "tools/tables.h"

#include <string.h>

static weir_error_t error;
static weir_schema_t schema;

static void must(weir_err_t code) {
    ck_assert_msg(code == WEIR_OK, "%s", error.message);
}

static const char good_schema[] = "log: {path: log.csv, user: u, item: i, time: t, time_unit: ms}\n"
                                  "files:\n"
                                  "  things: {path: things.jsonl, key: id}\n"
                                  "  people: {path: people.csv, key: id, delimiter: ';'}\n"
                                  "actions:\n"
                                  "  click: c\n"
                                  "  liked: {column: r, at_least: 4}\n"
                                  "numbers: {watched: {column: w, scale: 0.5}}\n"
                                  "context:\n"
                                  "  tab: tab\n"
                                  "  hour: {of_time: hour}\n"
                                  "  day: {of_time: weekday}\n"
                                  "item_features:\n"
                                  "  colour: {from: things, column: look.colour}\n"
                                  "  size: {from: things, column: size, bounds: \"1 2.5 10\"}\n"
                                  "  shelf: {column: shelf}\n"
                                  "user_features:\n"
                                  "  town: {from: people, column: town, hash: 16}\n";

static void parse(const char *text) {
    must(weir_schema_parse(text, strlen(text), "s.yaml", &schema, &error));
}

START_TEST(a_schema_names_columns_and_files) {
    parse(good_schema);
    ck_assert_int_eq(schema.per_second, 1000);
    ck_assert_str_eq(schema.user, "u");
    ck_assert_uint_eq(schema.file_count, 2);
    ck_assert_int_eq(schema.files[0].format, WEIR_RECORDS_JSONL);
    ck_assert_int_eq(schema.files[1].delimiter, ';');
    ck_assert_uint_eq(schema.action_count, 2);
    ck_assert(schema.actions[1].value == 4.0);
    ck_assert_uint_eq(schema.items[1].bound_count, 3);
    ck_assert_int_eq(schema.users[0].encoding, WEIR_ENCODING_HASH);
}
END_TEST

START_TEST(the_schema_of_configs_is_one) {
    char *text = NULL;
    size_t size = 0;
    must(weir_file_read(WEIR_SOURCE_DIR "/configs/kuairand-pure.schema.yaml", 1 << 20, &text, &size,
                        &error));
    must(weir_schema_parse(text, size, "kuairand-pure", &schema, &error));
    ck_assert_uint_eq(schema.action_count, 7);
    free(text);
}
END_TEST

START_TEST(a_wrong_schema_is_refused_with_its_line) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "empty"},
        {"- a\n", "map of sections"},
        {"log: 3\n", "s.yaml:1: expected a map"},
        {"log: {path: a, user: u, item: i}\n", "log.time is missing"},
        {"log: {path: a, user: u, item: i, time: t, time_unit: h}\n", "s.yaml:1: log.time_unit"},
        {"log: {path: a, path: b}\n", "given twice"},
        {"log: {path: a, user: u, item: i, time: t}\n\nactions: {click: [a]}\n", "s.yaml:3: lists"},
        {"log: {path: a, user: u, item: i, time: t}\nactions: {\"a,b\": x}\n", "s.yaml:2: actions"},
        {"log: {path: a, user: u, item: i, time: t}\nactions: {a: {at_least: 3}}\n",
         "column is missing"},
        {"log: {path: a, user: u, item: i, time: t}\nitem_features: {a: {from: z, column: x}}\n",
         "not among the files"},
        {"log: {path: a, user: u, item: i, time: t}\ncontext: {a: {column: x, bounds: \"2 1\"}}\n",
         "rising"},
        {"log: {path: a, user: u, item: i, time: t}\ncontext: {a: {column: x, hash: 0}}\n",
         "buckets"},
        {"log: {path: a, user: u, item: i, time: t}\nuser_features: {a: {of_time: hour}}\n",
         "context alone"},
        {"log: {path: a, user: u, item: i, time: t}\nfiles: {f: {path: x}}\n", "files.f.key"},
        {"log: {path: a, user: u, item: i, time: t}\nthings: {f: {path: x}}\n", "section of"},
        {"log: {path: &a b, user: u}\n", "anchors"},
        {"log: {path: a, user: u, item: i, time: t}\n--- \na: {b: c}\n", "second document"},
        {"log: {path: a\n", "not YAML"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&error, 0, sizeof error);
        ck_assert_int_eq(
            weir_schema_parse(cases[i].text, strlen(cases[i].text), "s.yaml", &schema, &error),
            WEIR_ERR_INVALID);
        ck_assert_msg(strstr(error.message, cases[i].says) != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(json_lines_give_fields_as_text) {
    static const char text[] = "{\"a\": \"x\", \"b\": {\"c\": 12}, \"d\": 1.5}\n"
                               "\n"
                               "{\"a\": true, \"b.c\": null, \"d\": -0.1, \"e\": [1]}\r\n"
                               "[1]\n"
                               "{\"a\": 1, \"a\": 2}\n"
                               "{\"a\": {}}\n"
                               "nonsense\n"
                               "{}";
    static const char *const columns[] = {"a", "b.c", "d"};
    static const struct {
        uint64_t line;
        const char *bad, *fields[3];
    } expected[] = {{1, NULL, {"x", "12", "1.5"}},
                    {3, NULL, {"1", NULL, "-0.1"}},
                    {4, "object", {0}},
                    {5, "JSON", {0}},
                    {6, "list", {0}},
                    {7, "JSON", {0}},
                    {8, NULL, {NULL, NULL, NULL}}};
    weir_input_t input;
    weir_records_t *records = NULL;
    weir_record_t record;
    bool more = true;
    must(weir_input_open_memory(text, sizeof text - 1, "x.jsonl", &input, &error));
    must(weir_records_open(&input, WEIR_RECORDS_JSONL, ',', columns, 3, &records, &error));
    for (size_t i = 0; i < 7; i++) {
        must(weir_records_read(records, &record, &more, &error));
        ck_assert(more);
        ck_assert_uint_eq(record.line, expected[i].line);
        ck_assert_msg((record.bad == NULL) == (expected[i].bad == NULL), "%s", record.bad);
        if (record.bad != NULL) {
            ck_assert_ptr_nonnull(strstr(record.bad, expected[i].bad));
            continue;
        }
        for (size_t k = 0; k < 3; k++) {
            const char *field = expected[i].fields[k];
            ck_assert((record.fields[k].bytes == NULL) == (field == NULL));
            ck_assert_uint_eq(record.fields[k].size, field != NULL ? strlen(field) : 0);
            ck_assert(field == NULL || memcmp(record.fields[k].bytes, field, strlen(field)) == 0);
        }
    }
    must(weir_records_read(records, &record, &more, &error));
    ck_assert(!more);
    weir_records_close(records);
    weir_input_close(&input);
}
END_TEST

/* ---- a log and two tables ---- */

static const char log_text[] = "t,u,i,c,r,w,tab,shelf\n"
                               "1000,ann,p,1,5,2,home,top\n"          /* Thursday, hour 0 */
                               "-1000,bob,q,0,3.5,8,,\n"              /* Wednesday, hour 23 */
                               "90000000,ann,q,true,4,0,search,low\n" /* Friday, hour 1 */
                               "5,ann,q,maybe,4,0,home,low\n"
                               "6,ann,q,1,4,x,home,low\n"
                               "7,ann\n"
                               "8000,bob,p,,4.5,6,home,other\n";
static const char things_text[] =
    "{\"id\": \"q\", \"look\": {\"colour\": \"red\"}, \"size\": 2.5}\n"
    "{\"id\": \"never\", \"look\": {\"colour\": \"blue\"}}\n"
    "{\"id\": \"p\", \"look\": {\"colour\": \"green\"}, \"size\": 0}\n"
    "broken\n";
static const char people_text[] = "id;town\nbob;Ulm\nann;\nzoe;Bern\n";

typedef struct {
    weir_interner_t *users, *items;
    weir_event_log_t log;
    weir_bad_lines_t bad;
    uint64_t lines;
    weir_tables_t *tables;
} read_t;

static void read_text(read_t *read, const weir_schema_file_t *file, const char *text) {
    weir_input_t input;
    weir_tables_out_t out = {read->users, read->items, &read->log, &read->bad, &read->lines};
    must(weir_input_open_memory(text, strlen(text), "text", &input, &error));
    must(file == NULL ? weir_tables_read_log(read->tables, &input, &out, &error)
                      : weir_tables_read_file(read->tables, file, &input, &out, &error));
    weir_input_close(&input);
}

static void read_all(read_t *read) {
    *read = (read_t){0};
    parse(good_schema);
    must(weir_interner_create(&read->users, &error));
    must(weir_interner_create(&read->items, &error));
    must(weir_tables_create(&schema, &read->tables, &error));
    read->log.width = weir_dataset_writer_width(weir_tables_columns(read->tables));
    read_text(read, NULL, log_text);
    read_text(read, &schema.files[0], things_text);
    read_text(read, &schema.files[1], people_text);
    weir_tables_out_t out = {read->users, read->items, &read->log, &read->bad, &read->lines};
    must(weir_tables_finish(read->tables, &out, &error));
}

static void end_read(read_t *read) {
    weir_tables_destroy(read->tables);
    weir_event_log_fini(&read->log);
    weir_interner_destroy(read->users);
    weir_interner_destroy(read->items);
}

START_TEST(events_have_actions_numbers_and_context) {
    read_t read;
    read_all(&read);
    const weir_dataset_columns_t *columns = weir_tables_columns(read.tables);
    /* bits, watched, tab, hour, day */
    static const uint32_t bits[] = {3, 0, 3, 2}, tabs[] = {1, 0, 2, 1}, hours[] = {1, 24, 2, 1},
                          days[] = {4, 3, 5, 4};
    static const float watched[] = {1.0f, 4.0f, 0.0f, 3.0f};
    ck_assert_uint_eq(read.lines, 7);
    ck_assert_uint_eq(read.bad.total, 4);
    ck_assert_uint_eq(read.log.count, 4);
    for (size_t i = 0; i < 4; i++) {
        const uint32_t *words = read.log.words + i * read.log.width;
        float number = 0.0f;
        memcpy(&number, words + 1, sizeof number);
        ck_assert_uint_eq(words[0], bits[i]);
        ck_assert(number == watched[i]);
        ck_assert_uint_eq(words[2], tabs[i]);
        ck_assert_uint_eq(words[3], hours[i]);
        ck_assert_uint_eq(words[4], days[i]);
    }
    ck_assert_uint_eq(columns->context[0].size, 3);
    ck_assert_uint_eq(columns->context[1].size, 25);
    /* p: item 0, q: item 1; "blue" is numbered with its item, but never of one that is not there */
    ck_assert_uint_eq(columns->items[0].ids[1], 1);
    ck_assert_uint_eq(columns->items[0].ids[0], 2);
    ck_assert_uint_eq(columns->items[0].size, 3);
    ck_assert_uint_eq(columns->items[1].ids[1], 3); /* 2.5 reaches 1 and 2.5 */
    ck_assert_uint_eq(columns->items[1].ids[0], 1);
    ck_assert_uint_eq(columns->items[2].ids[0], 1); /* the first value that there is */
    ck_assert_uint_eq(columns->items[2].ids[1], 2);
    ck_assert_uint_eq(columns->users[0].ids[0], 0);
    ck_assert(columns->users[0].ids[1] >= 1 && columns->users[0].ids[1] <= 16);
    end_read(&read);
}
END_TEST

static void get_letter(void *list, uint64_t index, const char **bytes, size_t *size) {
    (void)list;
    *bytes = &"abcdefgh"[index];
    *size = 1;
}

static void write_folder(const char *folder, read_t *read) {
    weir_renumbering_t users = {0}, items = {0};
    weir_dataset_writer_t *writer = NULL;
    weir_event_log_summary_t summary;
    must(weir_event_log_filter(&read->log, 2, 2, 0, 0, &users, &items, &error));
    must(weir_dataset_writer_create(folder, true, &writer, &error));
    must(weir_dataset_writer_extend(writer, weir_tables_columns(read->tables), &error));
    must(weir_event_log_write(&read->log, &users, &items, writer, &summary, &error));
    weir_dataset_names_t names = {.items = 2,
                                  .item_ids = {get_letter, NULL},
                                  .user_ids = {get_letter, NULL},
                                  .values = weir_tables_values(read->tables),
                                  .schema = good_schema,
                                  .source = "test"};
    must(weir_dataset_writer_finish(writer, &names, &error));
    weir_dataset_writer_destroy(writer);
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
}

START_TEST(columns_are_mapped_in_the_order_of_events) {
    read_t read;
    weir_scratch_t scratch;
    weir_dataset_t *dataset = NULL;
    weir_scratch_init(&scratch);
    read_all(&read);
    write_folder(scratch.path, &read);
    must(weir_dataset_open(scratch.path, &dataset, &error));
    const weir_dataset_columns_t *columns = weir_dataset_columns(dataset);
    ck_assert_uint_eq(columns->action_count, 2);
    ck_assert_str_eq(columns->actions[1], "liked");
    static const uint32_t bits[] = {3, 3, 0, 2}, hours[] = {1, 2, 24, 1}; /* ann, ann, bob, bob */
    static const float watched[] = {1.0f, 0.0f, 4.0f, 3.0f};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(columns->action_bits[i], bits[i]);
        ck_assert_uint_eq(columns->context[1].ids[i], hours[i]);
        ck_assert(columns->numbers[0].values[i] == watched[i]);
    }
    ck_assert_uint_eq(weir_dataset_first_event(dataset, 1), 2);
    ck_assert_uint_eq(columns->items[0].ids[1], 1);
    ck_assert_str_eq(columns->users[0].name, "town");
    static const struct {
        weir_feature_kind_t kind;
        size_t feature;
        uint32_t id;
        const char *text;
    } texts[] = {{WEIR_FEATURE_CONTEXT, 0, 1, "home"}, {WEIR_FEATURE_CONTEXT, 0, 0, ""},
                 {WEIR_FEATURE_CONTEXT, 1, 3, ""},     {WEIR_FEATURE_ITEM, 0, 2, "green"},
                 {WEIR_FEATURE_ITEM, 2, 3, "other"},   {WEIR_FEATURE_USER, 0, 7, ""}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *bytes = NULL;
        size_t size = 0;
        must(weir_dataset_feature_text(dataset, texts[i].kind, texts[i].feature, texts[i].id,
                                       &bytes, &size, &error));
        ck_assert_uint_eq(size, strlen(texts[i].text));
        ck_assert_mem_eq(bytes, texts[i].text, size);
        ck_assert_int_eq(weir_dataset_feature_text(dataset, texts[i].kind, texts[i].feature, 25,
                                                   &bytes, &size, &error),
                         WEIR_ERR_INVALID);
    }
    weir_user_events_t ann = weir_dataset_user(dataset, 0);
    ck_assert_uint_eq(weir_dataset_first_test(ann, 1), 0);
    ck_assert_uint_eq(weir_dataset_first_test(ann, 2), 1);
    ck_assert_uint_eq(weir_dataset_first_test(ann, 90000), 1);
    ck_assert_uint_eq(weir_dataset_first_test(ann, 90001), 2);
    weir_dataset_close(dataset);
    end_read(&read);
    weir_scratch_fini(&scratch);
}
END_TEST

/* One byte of a file, found by what stands there, becomes another. */
static void damage(const char *folder, const char *file, const char *from, const char *to) {
    char path[WEIR_PATH_MAX], *bytes = NULL;
    size_t size = 0, length = strlen(from), at = 0;
    must(weir_path_join(path, sizeof path, folder, file, &error));
    must(weir_file_read(path, 1 << 20, &bytes, &size, &error));
    while (at + length <= size && memcmp(bytes + at, from, length) != 0) {
        at++;
    }
    ck_assert_msg(at + length <= size, "%s is not in %s", from, file);
    memcpy(bytes + at, to, length);
    must(weir_file_replace(path, bytes, size, &error));
    free(bytes);
}

START_TEST(damaged_columns_are_refused) {
    static const struct {
        const char *file, *from, *to, *says;
    } cases[] = {
        {WEIR_DATASET_EVENTS, "click,liked", "click,,iked", "no list of names"},
        {WEIR_DATASET_EVENTS, "click,liked", "click_liked", "beyond the 1 actions"},
        {WEIR_DATASET_EVENTS, "hour:25", "hour:24", "is not below 24"},
        {WEIR_DATASET_EVENTS, "hour:25", "hour:2x", "no list of names"},
        {WEIR_DATASET_EVENTS, "shelf:4", "shelf:1", "is not below 1"},
        {WEIR_DATASET_EVENTS, "shelf:4", "shelv:4", "item.shelv"},
        {WEIR_DATASET_FEATURES, "\"num_items\":\"2\"", "\"num_items\":\"3\"", "3 items"},
        {WEIR_DATASET_FEATURES, "\"item.shelf\"", "\"item.bhelf\"", "item.shelf"},
    };
    read_t read;
    weir_scratch_t scratch;
    weir_scratch_init(&scratch);
    read_all(&read);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_dataset_t *dataset = NULL;
        write_folder(scratch.path, &read);
        damage(scratch.path, cases[i].file, cases[i].from, cases[i].to);
        ck_assert_int_ne(weir_dataset_open(scratch.path, &dataset, &error), WEIR_OK);
        ck_assert_msg(strstr(error.message, cases[i].says) != NULL, "%s", error.message);
    }
    end_read(&read);
    weir_scratch_fini(&scratch);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("tables");
    TCase *t = tcase_create("tables");
    tcase_add_test(t, a_schema_names_columns_and_files);
    tcase_add_test(t, the_schema_of_configs_is_one);
    tcase_add_test(t, a_wrong_schema_is_refused_with_its_line);
    tcase_add_test(t, json_lines_give_fields_as_text);
    tcase_add_test(t, events_have_actions_numbers_and_context);
    tcase_add_test(t, columns_are_mapped_in_the_order_of_events);
    tcase_add_test(t, damaged_columns_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
