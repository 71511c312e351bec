/* A program of somebody else: the sum of each table's values, by libweir alone. It also shows that
 * the header stands by itself. */
#include <weir/reader.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int sum_table(weir_reader_t *reader, const weir_reader_table_t *table,
                     weir_reader_error_t *error) {
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    double sum = 0;
    uint64_t count = 0;
    float *values = calloc(table->dim, sizeof *values);
    int code = weir_reader_rows_open(reader, table, 0, WEIR_READER_SLOTS, &rows, error);
    while (values != NULL && code == 0 && (code = weir_reader_rows_next(rows, &row, error)) == 1) {
        weir_reader_values(table, &row, values);
        for (uint32_t i = 0; i < table->dim; i++) {
            sum += (double)values[i];
        }
        count++;
        code = 0;
    }
    weir_reader_rows_close(rows);
    free(values);
    if (code == 0) {
        (void)printf("%s %" PRIu64 " %.9g\n", table->name, count, sum);
    }
    return code;
}

int main(int argc, char **argv) {
    weir_reader_t *reader = NULL;
    weir_reader_error_t error = {0};
    int code = argc == 2 ? weir_reader_open(argv[1], &reader, &error) : WEIR_READER_INVALID;
    for (size_t i = 0; code == 0 && i < weir_reader_table_count(reader); i++) {
        code = sum_table(reader, weir_reader_table(reader, i), &error);
    }
    if (code != 0) {
        (void)fprintf(stderr, "%s\n", error.message);
    }
    weir_reader_close(reader);
    return code == 0 ? 0 : 1;
}
