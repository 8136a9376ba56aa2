// The input is what a trusted proxy sends first. The target reads complete headers in another way, which must give the
// same result. The result must not depend on the pieces in which the header arrives.
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/proxy_header.h"

static enum proxy_header_result parse(const uint8_t *data, size_t size, struct proxy_header *header)
{
    char *copy = fuzz_copy_bare(data, size);
    enum proxy_header_result result = proxy_header_parse(copy, size, header);

    free(copy);
    return result;
}

static void check_address(const struct proxy_header *header, int family, const void *bytes)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (family == AF_INET6) {
        assert(memcmp(header->client.bytes, bytes, 16) == 0);
        return;
    }
    assert(memcmp(header->client.bytes, mapped, sizeof mapped) == 0);
    assert(memcmp(header->client.bytes + sizeof mapped, bytes, 4) == 0);
}

// Prints the line again from the values that sscanf finds. The parser accepts only the canonical form, so both lines
// must be equal.
static void check_v1(const char *line, size_t length, enum proxy_header_result result,
                     const struct proxy_header *header)
{
    char source[64], destination[64], again[256];
    unsigned int version, source_port, destination_port;
    unsigned char bytes[16];
    int family;

    assert(length <= 107 && line[length - 2] == '\r' && line[length - 1] == '\n');
    assert(!memchr(line, '\r', length - 2) && !memchr(line, '\n', length - 2));
    if (result == PROXY_HEADER_LOCAL) {
        assert(strncmp(line, "PROXY UNKNOWN", 13) == 0 && (line[13] == ' ' || line[13] == '\r'));
        return;
    }
    assert(sscanf(line, "PROXY TCP%1u %63s %63s %5u %5u", &version, source, destination, &source_port,
                  &destination_port) == 5);
    (void)snprintf(again, sizeof again, "PROXY TCP%u %s %s %u %u\r\n", version, source, destination, source_port,
                   destination_port);
    assert(strlen(again) == length && memcmp(again, line, length) == 0);
    assert(source_port <= 65535 && destination_port <= 65535 && (version == 4 || version == 6));
    family = version == 4 ? AF_INET : AF_INET6;
    assert(inet_pton(family, destination, bytes) == 1 && inet_pton(family, source, bytes) == 1);
    check_address(header, family, bytes);
}

static void check_v2(const uint8_t *data, enum proxy_header_result result, const struct proxy_header *header)
{
    size_t rest = (size_t)data[14] * 256 + data[15];

    assert(header->length == 16 + rest && rest <= 2048);
    if (result == PROXY_HEADER_LOCAL) {
        assert(data[12] == 0x20 || (data[12] == 0x21 && data[13] < 0x03) ||
               (data[12] == 0x21 && data[13] == 0x31 && rest >= 216));
        return;
    }
    assert(data[12] == 0x21 && (data[13] == 0x11 || data[13] == 0x21));
    assert(rest >= (data[13] == 0x11 ? 12 : 36));
    check_address(header, data[13] == 0x11 ? AF_INET : AF_INET6, data + 16);
}

static void check_result(const uint8_t *data, size_t size, enum proxy_header_result result,
                         const struct proxy_header *header)
{
    char *text = fuzz_copy(data, size);

    switch (result) {
    case PROXY_HEADER_CLIENT:
    case PROXY_HEADER_LOCAL:
        assert(header->length > 0 && header->length <= size && header->length <= PROXY_HEADER_BYTES);
        if (data[0] == 'P')
            check_v1(text, header->length, result, header);
        else
            check_v2(data, result, header);
        break;
    case PROXY_HEADER_ABSENT:
        assert(strncmp(text, "PROXY", 5) != 0);
        break;
    case PROXY_HEADER_MALFORMED:
        assert(header->fault && *header->fault && (data[0] == 'P' || data[0] == '\r'));
        break;
    case PROXY_HEADER_INCOMPLETE:
        assert(size < PROXY_HEADER_BYTES);
        break;
    }
    free(text);
}

// The first result that is not INCOMPLETE is the result for all longer inputs.
static void check_pieces(const uint8_t *data, size_t size, enum proxy_header_result result,
                         const struct proxy_header *header)
{
    struct proxy_header early;
    size_t needed = 0;

    while (needed < size && proxy_header_parse(data, needed, &early) == PROXY_HEADER_INCOMPLETE)
        needed++;
    assert(result != PROXY_HEADER_CLIENT || needed == header->length);
    assert(result != PROXY_HEADER_LOCAL || needed == header->length);
    for (size_t length = needed; length <= size; length += 1 + length / 8) {
        assert(parse(data, length, &early) == result);
        assert(early.length == header->length && early.fault == header->fault);
        assert(memcmp(&early.client, &header->client, sizeof early.client) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header;
    enum proxy_header_result result = parse(data, size, &header);

    check_result(data, size, result, &header);
    check_pieces(data, size, result, &header);
    return 0;
}
