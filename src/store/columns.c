// Describes each column's field by its offset in the event, and reads and writes the fields through these offsets.
#include "imcallbackd/store/columns.h"

#include <assert.h>
#include <string.h>

#include "imcallbackd/callback/event.h"

// member_count is a size_t, but is accessed like the other integers, as an int64_t.
_Static_assert(sizeof(size_t) == sizeof(int64_t), "an integer column has 8 bytes");

#define LENGTH_OF_INTEGER(event, name) 0
#define LENGTH_OF_TEXT(event, name)    0
#define LENGTH_OF_BYTES(event, name)   offsetof(struct event, name##_length)

#define DESCRIBE(event, column, column_type, column_part, optional, flag)                                              \
    {                                                                                                                  \
        .name = #column,                                                                                               \
        .type = COLUMN_##column_type,                                                                                  \
        .part = COLUMN_##column_part,                                                                                  \
        .is_optional = (optional),                                                                                     \
        .value_offset = offsetof(struct event, column),                                                                \
        .length_offset = LENGTH_OF_##column_type(event, column),                                                       \
        .flag_offset = (flag),                                                                                         \
    },

#define REQUIRED_OF_GROUP(name, type, part) DESCRIBE(destroyed_group, name, type, part, false, 0)
#define OPTIONAL_OF_GROUP(name, type, part, flag)                                                                      \
    DESCRIBE(destroyed_group, name, type, part, true, offsetof(struct destroyed_group, flag))
#define REQUIRED_OF_REJECTION(name, type, part) DESCRIBE(rejected_callback, name, type, part, false, 0)

static const struct column group_columns[] = {DESTROYED_GROUP_COLUMNS(REQUIRED_OF_GROUP, OPTIONAL_OF_GROUP)};
static const struct column rejection_columns[] = {REJECTED_CALLBACK_COLUMNS(REQUIRED_OF_REJECTION)};

const struct stream_table stream_tables[STREAM_COUNT] = {
    [STREAM_GROUPS] = {"destroyed_group", group_columns, sizeof group_columns / sizeof group_columns[0]},
    [STREAM_REJECTIONS] = {"rejected_callback", rejection_columns,
                           sizeof rejection_columns / sizeof rejection_columns[0]},
};

struct column_value column_get(const struct column *column, const void *event)
{
    const char *fields = event, *value = fields + column->value_offset;
    struct column_value result = {0};

    if (column->is_optional) {
        bool present;

        memcpy(&present, fields + column->flag_offset, sizeof present);
        result.is_null = !present;
        if (!present)
            return result;
    }
    if (column->type == COLUMN_INTEGER) {
        memcpy(&result.integer, value, sizeof result.integer);
        return result;
    }
    memcpy(&result.data, value, sizeof result.data);
    if (column->type == COLUMN_BYTES)
        memcpy(&result.length, fields + column->length_offset, sizeof result.length);
    else
        result.length = result.data ? strlen(result.data) : 0; // if NULL, the database rejects the row
    assert(result.data || result.length == 0);
    return result;
}

void column_set(const struct column *column, void *event, const struct column_value *value)
{
    char *fields = event, *field = fields + column->value_offset;
    bool present = !value->is_null;

    assert(present || column->is_optional);
    assert(!present || column->type == COLUMN_INTEGER || value->data);
    if (column->is_optional)
        memcpy(fields + column->flag_offset, &present, sizeof present);
    if (column->type == COLUMN_INTEGER)
        memcpy(field, &value->integer, sizeof value->integer);
    else
        memcpy(field, &value->data, sizeof value->data);
    if (column->type == COLUMN_BYTES)
        memcpy(fields + column->length_offset, &value->length, sizeof value->length);
}
