/* Small prepared data, written by the test itself: user u has u % 9 + 1 events; its k-th event is
 * an item of the catalogue at time 100 u + 10 k. */
#ifndef WEIR_TESTS_DATA_CASES_H
#define WEIR_TESTS_DATA_CASES_H

#include <stddef.h>
#include <stdint.h>

enum { DATA_USERS = 50, DATA_MAX_EVENTS = 9 };

/* The item of an event: 1 .. items, from all of the catalogue. */
typedef int64_t (*data_item_t)(size_t user, size_t k);

size_t data_events_of_user(size_t user);
int64_t data_time_of_event(size_t user, size_t k);

/* Write both files into `folder`, which is there. */
void data_write(const char *folder, size_t items, data_item_t item_of_event);

#endif
