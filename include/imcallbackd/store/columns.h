// Describes the columns of the two recorded streams once. SQL text, binding, reading, JSON, PostgreSQL arrays and
// checksums all follow from this description. A new column needs a line here, a field in callback/event.h, and a step
// in the schemas of the store and of the destination.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The id is not among the columns: the database assigns it, and the structs in callback/event.h do not have it.
enum stream { STREAM_GROUPS, STREAM_REJECTIONS, STREAM_COUNT };

// Each list calls REQUIRED(name, type, part) or OPTIONAL(name, type, part, flag) once for each column, in the order of
// the columns in the table. A field of the struct has the name of the column. An OPTIONAL column is NULL if the bool
// field `flag` is false. A BYTES column has a second field for its length, such as body_length for body.
//
// type: INTEGER, TEXT or BYTES.
// part: IDENTITY says which event the row is about, CONTENT says what the peer reported about it, and RECEPTION says
//       how the callback reached this receiver. Another receiver of the same event records another reception.
#define DESTROYED_GROUP_COLUMNS(REQUIRED, OPTIONAL)                                                                    \
    REQUIRED(sdk_appid, INTEGER, IDENTITY)                                                                             \
    REQUIRED(group_id, TEXT, IDENTITY)                                                                                 \
    OPTIONAL(event_time_ms, INTEGER, IDENTITY, has_event_time)                                                         \
    REQUIRED(type, TEXT, CONTENT)                                                                                      \
    REQUIRED(owner_account, TEXT, CONTENT)                                                                             \
    REQUIRED(operator_account, TEXT, CONTENT)                                                                          \
    REQUIRED(name, TEXT, CONTENT)                                                                                      \
    OPTIONAL(member_count, INTEGER, CONTENT, has_member_list)                                                          \
    REQUIRED(opt_platform, TEXT, RECEPTION)                                                                            \
    REQUIRED(client_ip, TEXT, RECEPTION)                                                                               \
    REQUIRED(remote_address, TEXT, RECEPTION)                                                                          \
    REQUIRED(received_at_ms, INTEGER, RECEPTION)                                                                       \
    OPTIONAL(body, BYTES, RECEPTION, keep_body)

#define REJECTED_CALLBACK_COLUMNS(REQUIRED)                                                                            \
    REQUIRED(received_at_ms, INTEGER, RECEPTION)                                                                       \
    REQUIRED(remote_address, TEXT, RECEPTION)                                                                          \
    REQUIRED(sdk_appid, INTEGER, IDENTITY)                                                                             \
    REQUIRED(callback_command, TEXT, CONTENT)                                                                          \
    REQUIRED(reason, TEXT, CONTENT)                                                                                    \
    REQUIRED(body, BYTES, RECEPTION)

// The macros that end with _NAMES and _PLACEHOLDERS are SQL text for all columns, each with a comma in front: "INSERT
// INTO t (id" NAMES ") VALUES (NULL" PLACEHOLDERS ")".
#define COLUMN_NAME(name, ...)         ", " #name
#define COLUMN_PLACEHOLDER(name, ...)  ", ?"
#define DESTROYED_GROUP_NAMES          DESTROYED_GROUP_COLUMNS(COLUMN_NAME, COLUMN_NAME)
#define DESTROYED_GROUP_PLACEHOLDERS   DESTROYED_GROUP_COLUMNS(COLUMN_PLACEHOLDER, COLUMN_PLACEHOLDER)
#define REJECTED_CALLBACK_NAMES        REJECTED_CALLBACK_COLUMNS(COLUMN_NAME)
#define REJECTED_CALLBACK_PLACEHOLDERS REJECTED_CALLBACK_COLUMNS(COLUMN_PLACEHOLDER)

enum column_type { COLUMN_INTEGER, COLUMN_TEXT, COLUMN_BYTES };
enum column_part { COLUMN_IDENTITY, COLUMN_CONTENT, COLUMN_RECEPTION };

struct column {
    const char *name;
    enum column_type type;
    enum column_part part;
    bool is_optional;     // whether the column can be NULL
    size_t value_offset;  // offset of the field in struct destroyed_group or struct rejected_callback
    size_t length_offset; // offset of the field with the length; only for BYTES
    size_t flag_offset;   // offset of the bool that is false for NULL; only if is_optional
};

struct stream_table {
    const char *name; // in the store and in the destination
    const struct column *columns;
    size_t column_count;
};

extern const struct stream_table stream_tables[STREAM_COUNT];

struct column_value {
    bool is_null; // the other fields are 0 and NULL
    int64_t integer;
    const char *data; // TEXT: NUL-terminated; BYTES: column_get may return NULL if length is 0
    size_t length;    // bytes of TEXT and BYTES
};

// Returns the value of the column in an event. The event is a struct destroyed_group or a struct rejected_callback,
// depending on the column's table. The returned value points into the event.
struct column_value column_get(const struct column *column, const void *event);

// Sets the value of the column in an event. Afterwards the event points to value->data, which must not be NULL for TEXT
// or BYTES unless is_null is set. Only an optional column may be set to NULL.
void column_set(const struct column *column, void *event, const struct column_value *value);
