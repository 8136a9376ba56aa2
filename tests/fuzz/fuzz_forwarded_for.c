// The input is the head of a request; see request_head.h. http/forwarded_for.h must find the same client as regular
// expressions find in the last entry of the last X-Forwarded-For.
#include <arpa/inet.h>
#include <assert.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fuzz.h"
#include "http/forwarded_for.h"
#include "request_head.h"

static bool is_forwarded_for(const struct head_header *header)
{
    return header->name_length == 15 && strncasecmp(header->name, "x-forwarded-for", 15) == 0;
}

static void add(struct forwarded_for *forwarded_for, const struct head_header *header)
{
    char *name = fuzz_copy_bare(header->name, header->name_length);
    char *value = fuzz_copy_bare(header->value, header->value_length);

    forwarded_for_add(forwarded_for, name, header->name_length, value, header->value_length);
    free(name);
    free(value);
}

#define ADDRESS_GROUP 1
#define PORT_GROUP    3

// Returns true if the pattern matches, the address is valid, and the port is valid or absent. Sets ret_bytes to the
// address.
static bool matches(const char *text, const char *pattern, int family, unsigned char *ret_bytes)
{
    regmatch_t groups[PORT_GROUP + 1];
    char address[64] = "";
    size_t length;
    regex_t compiled;
    bool found;

    assert(regcomp(&compiled, pattern, REG_EXTENDED) == 0);
    found = regexec(&compiled, text, PORT_GROUP + 1, groups, 0) == 0;
    regfree(&compiled);
    length = found ? (size_t)(groups[ADDRESS_GROUP].rm_eo - groups[ADDRESS_GROUP].rm_so) : 0;
    if (!found || length >= sizeof address ||
        (groups[PORT_GROUP].rm_so >= 0 && strtoull(text + groups[PORT_GROUP].rm_so, NULL, 10) > 65535))
        return false;
    memcpy(address, text + groups[ADDRESS_GROUP].rm_so, length);
    return inet_pton(family, address, ret_bytes) == 1;
}

// Returns true if the entry is an address, with or without a port, and sets ret_client to the address. An IPv4 address
// becomes an IPv4-mapped IPv6 address.
static bool find_client(const char *entry, size_t length, unsigned char ret_client[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    unsigned char v4[4];

    if (strlen(entry) != length) // the entry contains a NUL
        return false;
    if (matches(entry, "^[ \t]*([0-9.]+)(:([0-9]+))?[ \t]*$", AF_INET, v4)) {
        memcpy(ret_client, mapped, sizeof mapped);
        memcpy(ret_client + sizeof mapped, v4, sizeof v4);
        return true;
    }
    return matches(entry, "^[ \t]*([0-9a-fA-F:.]+)()()[ \t]*$", AF_INET6, ret_client) ||
           matches(entry, "^[ \t]*\\[([0-9a-fA-F:.]+)\\](:([0-9]+))?[ \t]*$", AF_INET6, ret_client);
}

static void check_client(const struct head_header *last, const struct forwarded_for *forwarded_for)
{
    unsigned char client[16];
    size_t start = last->value_length;
    char *entry;

    while (start > 0 && last->value[start - 1] != ',')
        start--;
    entry = fuzz_copy(last->value + start, last->value_length - start);
    assert(forwarded_for->is_address == find_client(entry, last->value_length - start, client));
    assert(!forwarded_for->is_address || memcmp(forwarded_for->address.bytes, client, sizeof client) == 0);
    free(entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forwarded_for forwarded_for = {0};
    const struct head_header *last = NULL;
    struct head head;

    head_init(&head, data, size);
    for (size_t i = 0; i < head.header_count; i++) {
        add(&forwarded_for, &head.headers[i]);
        if (is_forwarded_for(&head.headers[i]))
            last = &head.headers[i];
    }
    assert(forwarded_for.is_present == (last != NULL));
    assert(last || !forwarded_for.is_address);
    if (last)
        check_client(last, &forwarded_for);
    head_finish(&head);
    return 0;
}
