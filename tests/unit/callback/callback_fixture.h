// Provides what the tests of the callback module share: the rules of four apps, and functions that read the query and
// the body of a callback.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/callback/callback.h"

#define FFFD          "\xef\xbf\xbd"
#define TEXT(literal) (literal), sizeof(literal) - 1 // for bytes that may contain a NUL

// The time, token and signature of the example in the documentation of the service.
#define NOW_S      INT64_C(1669872112)
#define NOW        "1669872112"
#define TOKEN      "xxxxyyyy"
#define SIGN       "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"
#define COMMAND    "CallbackCommand=" CALLBACK_COMMAND
#define OPEN_QUERY "SdkAppid=1400000003&" COMMAND

// A memory limit that is large enough for the bodies of most tests, and starts of bodies for quote().
#define ARENA_BYTES ((size_t)64 << 20)
#define HEAD        "'CallbackCommand':'Group.CallbackAfterGroupDestroyed'"
#define G           "{" HEAD ",'GroupId':'g'"

static const struct callback_app fixture_apps[] = {
    {.sdk_appid = 1400000001, .tokens = {TOKEN}, .token_count = 1, .request_time_window_s = 60},
    {.sdk_appid = 1400000002, .tokens = {"the-old-one", TOKEN}, .token_count = 2, .request_time_window_s = 5},
    {.sdk_appid = 1400000003},
    {.sdk_appid = INT64_MAX},
};

static const struct callback_rules fixture_rules = {.apps = fixture_apps, .app_count = COUNT(fixture_apps)};

struct fixture {
    struct arena arena;
    struct callback callback;
    char *body;
};

static inline void fixture_init(struct fixture *fixture, size_t arena_bytes)
{
    *fixture = (struct fixture){
        .callback = {.remote_address = "192.0.2.1", .received_at_ms = NOW_S * 1000 + 999},
    };
    arena_init(&fixture->arena, arena_bytes);
    fixture->callback.arena = &fixture->arena;
}

static inline void fixture_finish(struct fixture *fixture)
{
    arena_finish(&fixture->arena);
    free(fixture->body);
}

// Copies text into memory of exactly its length, so that a sanitizer finds each read past its end.
static inline char *exact_copy(const char *text, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static inline enum callback_verdict fixture_read(struct fixture *fixture, const struct callback_rules *rules,
                                                 const struct buffer *body, size_t arena_bytes)
{
    enum callback_verdict verdict;

    fixture_init(fixture, arena_bytes);
    verdict = callback_read_query(&fixture->callback, rules, OPEN_QUERY);
    if (verdict != CALLBACK_READ_BODY)
        return verdict;
    fixture->body = exact_copy(body->data, body->length);
    return callback_read_body(&fixture->callback, rules, fixture->body, body->length);
}

// The callback that most tests read, and the body that they pass to it. read_query() and read_body() free the previous
// callback; finish_fixture() frees the last callback and the body.
static struct fixture fixture;
static struct buffer body;

#define PRINT(...) assert_int_equal(buffer_print(&body, __VA_ARGS__), 0)

// Sets body to the text with " in place of ', which keeps the bodies in the tests readable.
static inline void quote(const char *text)
{
    body.length = 0;
    PRINT("%s", text);
    for (size_t i = 0; i < body.length; i++) {
        if (body.data[i] == '\'')
            body.data[i] = '"';
    }
}

static inline enum callback_verdict read_query(const struct callback_rules *rules, const char *query)
{
    fixture_finish(&fixture);
    fixture_init(&fixture, 1 << 20);
    return callback_read_query(&fixture.callback, rules, query);
}

static inline enum callback_verdict read_body(const struct callback_rules *rules, size_t arena_bytes)
{
    fixture_finish(&fixture);
    return fixture_read(&fixture, rules, &body, arena_bytes);
}

static inline enum callback_verdict read_quoted(const char *text)
{
    quote(text);
    return read_body(&fixture_rules, ARENA_BYTES);
}

static inline int finish_fixture(void **state)
{
    (void)state;
    fixture_finish(&fixture);
    buffer_finish(&body);
    return 0;
}
