/* Metrics of single users, of which means, intervals and tests are made. */
#ifndef WEIR_TOOLS_USER_VALUES_H
#define WEIR_TOOLS_USER_VALUES_H

#include "common/error.h"
#include "worker/user_results.h"

enum { WEIR_USER_VALUES = 5 };

/* "hr@1", "hr@10", "hr@50", "ndcg@10", "mrr". */
const char *weir_user_value_name(size_t number);

/* Value `number` of a user whose target has `rank`. Call: local. */
double weir_user_value(uint64_t rank, size_t number);

#endif
