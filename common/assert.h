/* WEIR_ASSERT states an invariant of our own code; never used on anything that comes from outside.
 * On in debug and in every sanitizer build (WEIR_CHECKED), free of cost elsewhere. */
#ifndef WEIR_COMMON_ASSERT_H
#define WEIR_COMMON_ASSERT_H

#ifdef WEIR_CHECKED
#include <stdio.h>
#include <stdlib.h>
#define WEIR_ASSERT(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__,             \
                          #condition);                                                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#else
#define WEIR_ASSERT(condition) ((void)sizeof((condition) ? 1 : 0))
#endif

#endif
