#include "tools/feature_ids.h"

#include "common/hash.h"
#include "tools/number.h"

#include <stdlib.h>
#include <string.h>

enum { DAY = 86400, HOUR = 3600 };

weir_err_t weir_feature_ids_init(const weir_schema_feature_t *schema, weir_feature_ids_t *ids,
                                 weir_error_t *error) {
    *ids = (weir_feature_ids_t){.schema = schema};
    return schema->encoding == WEIR_ENCODING_DICTIONARY
               ? weir_interner_create(&ids->dictionary, error)
               : WEIR_OK;
}

void weir_feature_ids_fini(weir_feature_ids_t *ids) {
    weir_interner_destroy(ids->dictionary);
    free(ids->ids);
    *ids = (weir_feature_ids_t){0};
}

static uint32_t count_bounds(const weir_schema_feature_t *schema, double value) {
    uint32_t reached = 0;
    while (reached < schema->bound_count && value >= schema->bounds[reached]) {
        reached++;
    }
    return reached;
}

weir_err_t weir_feature_ids_encode(weir_feature_ids_t *ids, weir_field_t field, uint32_t *id,
                                   weir_error_t *error) {
    const weir_schema_feature_t *schema = ids->schema;
    float number = 0.0f;
    weir_err_t err = WEIR_OK;
    uint64_t seed = 0;
    *id = 0;
    if (field.bytes == NULL || field.size == 0) {
        return WEIR_OK;
    }
    switch (schema->encoding) {
    case WEIR_ENCODING_DICTIONARY:
        err = weir_interner_add(ids->dictionary, field.bytes, field.size, id, NULL, error);
        *id += err == WEIR_OK;
        break;
    case WEIR_ENCODING_HASH:
        seed = weir_checksum(schema->name, strlen(schema->name), 0);
        *id = 1 + (uint32_t)(weir_checksum(field.bytes, field.size, seed) % schema->buckets);
        break;
    case WEIR_ENCODING_BOUNDS:
        if (weir_number_parse_real(field.bytes, field.size, &number)) {
            *id = 1 + count_bounds(schema, (double)number);
        }
        break;
    default: /* of the time */
        break;
    }
    return err;
}

uint32_t weir_feature_ids_of_time(const weir_feature_ids_t *ids, int64_t seconds) {
    int64_t rest = (seconds % DAY + DAY) % DAY, day = (seconds - rest) / DAY;
    if (ids->schema->encoding == WEIR_ENCODING_HOUR) {
        return 1 + (uint32_t)(rest / HOUR);
    }
    return 1 + (uint32_t)(((day + 3) % 7 + 7) % 7); /* 1970 began on a Thursday */
}

weir_err_t weir_feature_ids_reserve(weir_feature_ids_t *ids, size_t count, weir_error_t *error) {
    if (count <= ids->count) {
        return WEIR_OK;
    }
    size_t room = count + count / 2 + 64;
    uint32_t *grown = realloc(ids->ids, room * sizeof *grown);
    if (grown == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu ids of %s", room,
                           ids->schema->name);
    }
    memset(grown + ids->count, 0, (room - ids->count) * sizeof *grown);
    ids->ids = grown;
    ids->count = room;
    return WEIR_OK;
}

weir_err_t weir_feature_ids_set(weir_feature_ids_t *ids, size_t index, uint32_t id,
                                weir_error_t *error) {
    weir_err_t err = weir_feature_ids_reserve(ids, index + 1, error);
    if (err == WEIR_OK && ids->ids[index] == 0) {
        ids->ids[index] = id;
    }
    return err;
}

uint32_t weir_feature_ids_size(const weir_feature_ids_t *ids) {
    const weir_schema_feature_t *schema = ids->schema;
    switch (schema->encoding) {
    case WEIR_ENCODING_DICTIONARY:
        return weir_interner_count(ids->dictionary) + 1;
    case WEIR_ENCODING_HASH:
        return schema->buckets + 1;
    case WEIR_ENCODING_BOUNDS:
        return (uint32_t)schema->bound_count + 2;
    case WEIR_ENCODING_HOUR:
        return 25;
    default:
        return 8;
    }
}
