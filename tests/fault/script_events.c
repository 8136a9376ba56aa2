// Derives all fields of an event from its letter. Some events are so large that a single one makes a checkpoint due.
#include "script_events.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/error.h"

#define RECEIVED_MS INT64_C(1700000000000)
#define DAY_MS      INT64_C(86400000)

const int64_t event_old_before_ms = RECEIVED_MS - 200 * DAY_MS;

bool event_is_old(char letter)
{
    return letter >= 'p' && letter <= 't';
}

static struct destroyed_group groups[2][26]; // lower-case letters, upper-case letters
static struct rejected_callback rejects[10];

static char *print(const char *format, ...) PRINTF_LIKE(1, 2);

static char *print(const char *format, ...)
{
    va_list arguments;
    char *text;
    int length;

    va_start(arguments, format);
    length = vasprintf(&text, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    return text;
}

static size_t body_length(char letter, bool capital)
{
    if (capital)
        return 100;
    switch (letter) {
    case 'x':
    case 'z': // enough frames to make a checkpoint due
        return (size_t)430 * 1024;
    case 'y': // many frames, but no checkpoint
        return (size_t)150 * 1024;
    default:
        return 100;
    }
}

static char *create_body(char letter, bool capital)
{
    size_t length = body_length(letter, capital);
    char *body = malloc(length + 1);

    assert(body);
    for (size_t i = 0; i < length; i++)
        body[i] = (char)('0' + (i * 31 + (i >> 9) + (size_t)letter + (capital ? 32 : 0)) % 64);
    body[length] = '\0';
    return body;
}

static const char *const *create_members(char letter, size_t count)
{
    const char **members = calloc(count + 1, sizeof *members);

    assert(members);
    for (size_t i = 0; i < count; i++)
        members[i] = print("%c-member-\xe5\xbc\xa0-%zu", letter, i);
    return members;
}

static void create_group(char letter, bool capital, struct destroyed_group *group)
{
    static const size_t member_counts[] = {3, 1, 12, 40, 0, 25, 10, 150, 2, 11};
    size_t index = (size_t)(letter - 'a');
    bool has_member_list = letter != 'i', has_time = letter != 'e' && letter != 'k';
    size_t member_count = has_member_list ? member_counts[index % 10] : 0;

    *group = (struct destroyed_group){
        .sdk_appid = 1400000000,
        .group_id = print("@TGS#%c", letter),
        .has_event_time = has_time,
        .event_time_ms = has_time ? RECEIVED_MS - 1000 + (int64_t)index : 0,
        .type = "Public",
        .owner_account = capital ? "another owner" : "owner",
        .operator_account = "admin",
        .name = print("group \xf0\x9f\x98\x80 %c", letter),
        .has_member_list = has_member_list,
        .member_count = member_count,
        .members = create_members(letter, member_count),
        .opt_platform = "RESTAPI",
        .client_ip = "198.51.100.7",
        .remote_address = "192.0.2.1",
        .received_at_ms = RECEIVED_MS - (event_is_old(letter) ? 400 * DAY_MS : 0) + (int64_t)index,
        .body = create_body(letter, capital),
        .body_length = body_length(letter, capital),
        .keep_body = !has_time || letter >= 'x',
    };
}

void event_create_all(void)
{
    for (int i = 0; i < 26; i++) {
        create_group((char)('a' + i), false, &groups[0][i]);
        create_group((char)('a' + i), true, &groups[1][i]);
    }
    for (int digit = 0; digit < 10; digit++) {
        char *body = print("%d cannot be parsed", digit);

        rejects[digit] = (struct rejected_callback){
            .received_at_ms = RECEIVED_MS + digit,
            .remote_address = "192.0.2.2",
            .sdk_appid = 1400000000,
            .callback_command = CALLBACK_COMMAND,
            .reason = "not JSON",
            .body = body,
            .body_length = strlen(body),
        };
    }
}

const struct destroyed_group *event_group(char letter)
{
    assert(isalpha((unsigned char)letter));
    return &groups[isupper((unsigned char)letter) != 0][tolower((unsigned char)letter) - 'a'];
}

const struct rejected_callback *event_rejected(char digit)
{
    assert(isdigit((unsigned char)digit));
    return &rejects[digit - '0'];
}
