// The input is 8 bytes of a number and then the texts of a status, one per line. Whatever they contain, the page has
// the markup that it has with harmless texts, and the JSON has the texts themselves.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/status/status_fixture.h"
#include "fuzz.h"

#include <cjson/cJSON.h>

enum text { WHY, HOST, PATH, NAMES, DETAIL, ADDRESS, VERSION, LIBRARY, TEXTS };

static void set_texts(struct status *status, char *const texts[TEXTS])
{
    struct refusal *refusal = &status->refusals.entries[0];

    status->ready = texts[WHY][0] == '\0';
    status->why_not_ready = texts[WHY];
    status->endpoint.host = texts[HOST][0] ? texts[HOST] : NULL;
    status->endpoint.path = texts[PATH];
    status->certificate.names = texts[NAMES];
    status->version = texts[VERSION];
    status->libraries[0] = (struct status_library){"library", texts[LIBRARY]};
    (void)snprintf(refusal->detail, sizeof refusal->detail, "%s", texts[DETAIL]);
    (void)snprintf(refusal->address, sizeof refusal->address, "%s", texts[ADDRESS]);
}

// Returns the markup: every tag with its attributes, and each quote and apostrophe outside of tags. The caller frees
// it.
static char *markup_of(const char *page)
{
    char *markup = malloc(strlen(page) + 1), *to = markup;
    bool in_tag = false;

    assert(markup);
    for (; *page; page++) {
        assert(*page != '<' || !in_tag);
        in_tag = in_tag || *page == '<';
        if (in_tag || strchr("\"'>", *page))
            *to++ = *page;
        in_tag = in_tag && *page != '>';
    }
    *to = '\0';
    return markup;
}

// The style sheet and the script are constant and contain characters that are markup in a text.
static char *print_body(const struct status *status)
{
    struct buffer page = {0};
    char *body, *end;

    assert(page_print(status, &page) == 0 && is_utf8(page.data, page.length) && strlen(page.data) == page.length);
    body = strstr(page.data, "<body>");
    end = strstr(page.data, "<script>");
    assert(body && end > body);
    *end = '\0';
    body = strdup(body);
    assert(body);
    buffer_finish(&page);
    return body;
}

static void check_characters(const char *body)
{
    static const char *const entities[] = {"amp;", "lt;", "gt;", "quot;", "#39;"};

    for (; *body; body++) {
        bool known = *body != '&';

        assert(*body == '\n' || (unsigned char)*body >= 0x20);
        for (size_t i = 0; i < sizeof entities / sizeof entities[0] && !known; i++)
            known = strncmp(body + 1, entities[i], strlen(entities[i])) == 0;
        assert(known);
    }
}

static void check_page(const struct status *status, const struct status *harmless)
{
    char *body = print_body(status), *other = print_body(harmless);
    char *markup = markup_of(body), *expected = markup_of(other);

    check_characters(body);
    assert(strcmp(markup, expected) == 0);
    free(expected);
    free(markup);
    free(other);
    free(body);
}

static void check_string(const cJSON *object, const char *name, const char *expected)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    assert(item && cJSON_IsString(item));
    assert(!is_utf8(expected, strlen(expected)) || strcmp(item->valuestring, expected) == 0);
}

static void check_json(const struct status *status)
{
    struct buffer text = {0};
    const char *end;
    cJSON *tree;

    assert(status_json_print(status, &text) == 0 && is_utf8(text.data, text.length));
    for (size_t i = 0; i + 1 < text.length; i++)
        assert((unsigned char)text.data[i] >= 0x20);
    tree = cJSON_ParseWithLengthOpts(text.data, text.length, &end, false);
    assert(tree && end == text.data + text.length - 1 && *end == '\n');
    check_string(tree, "version", status->version);
    check_string(cJSON_GetObjectItem(tree, "endpoint"), "path", status->endpoint.path);
    check_string(cJSON_GetObjectItem(tree, "certificate"), "dns_names", status->certificate.names);
    check_string(cJSON_GetObjectItem(tree, "libraries"), "library", status->libraries[0].version);
    cJSON_Delete(tree);
    buffer_finish(&text);
}

// Puts a harmless text in the place of each text. What the page says depends on whether a text is empty, and on an
// asterisk at the start of the host.
static void make_harmless(char *const texts[TEXTS], char *ret_harmless[TEXTS])
{
    static char none[] = "", some[] = "x", wildcard[] = "*";

    for (size_t i = 0; i < TEXTS; i++)
        ret_harmless[i] = texts[i][0] ? some : none;
    if (texts[HOST][0] == '*')
        ret_harmless[HOST] = wildcard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct status status, other; // too large for the stack of a sanitizer
    char *input, *next, *texts[TEXTS], *harmless[TEXTS], empty[] = "";
    int64_t number;

    if (size < sizeof number)
        return 0;
    memcpy(&number, data, sizeof number);
    input = next = fuzz_copy(data + sizeof number, size - sizeof number);
    for (size_t i = 0; i < TEXTS; i++)
        texts[i] = next ? strsep(&next, "\n") : empty;
    make_harmless(texts, harmless);
    status = fixture_status();
    fixture_refuse(&status, ANSWER_COMMAND_NOT_HANDLED, 1);
    status.clock_skew_known = true;
    status.clock_skew_s = number % INT64_C(100000000000);
    status.clock_window_s = 60;
    other = status;
    set_texts(&status, texts);
    set_texts(&other, harmless);
    check_page(&status, &other);
    check_json(&status);
    free(input);
    return 0;
}
