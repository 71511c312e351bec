/* Numbers as a person reads them. The text goes into `text`, which is returned. */
#ifndef WEIR_TOOLS_HUMAN_H
#define WEIR_TOOLS_HUMAN_H

#include <stddef.h>

/* 12,345,678 */
const char *weir_human_count(double value, char text[32]);
/* 512 B, 1.5 MiB */
const char *weir_human_bytes(double bytes, char text[32]);
/* 8s, 3m12s, 2h05m */
const char *weir_human_seconds(double seconds, char text[32]);
/* Seconds since 1970 as "2026-11-22 23:42:31 UTC"; as a plain number where that is no date. */
void weir_human_time(double seconds, char *out, size_t capacity);

#endif
