// Parses JSON into a tree of cJSON whose memory comes from an arena. Only json_tree.c decides how cJSON allocates.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/arena.h"

#include <cjson/cJSON.h>

// Parses the value at the start of a text in which json_text_scan() found no fault. The tree is valid until the arena
// is finished. Sets *ret_end to the end of the value, or to the place of the syntax error. Returns NULL if the text
// does not start with a JSON value, or if the arena has no memory left, in which case *ret_is_full is true.
cJSON *json_tree_parse(struct arena *arena, const char *text, size_t length, const char **ret_end, bool *ret_is_full);
