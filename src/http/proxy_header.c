// The checks follow HAProxy's specification, doc/proxy-protocol.txt. A header with a reserved version, command, address
// family or protocol is malformed, but a LOCAL header may have any family and protocol. The contents of TLVs are not
// checked.
#include "proxy_header.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "imcallbackd/base/parse.h"

static const char v1_start[] = {'P', 'R', 'O', 'X', 'Y'};
static const unsigned char v2_start[] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum v2_command { V2_LOCAL, V2_PROXY };
enum v2_family { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX };
enum v2_transport { V2_ANY, V2_STREAM, V2_DGRAM };

static enum proxy_header_result set_fault(struct proxy_header *header, const char *fault)
{
    header->fault = fault;
    return PROXY_HEADER_MALFORMED;
}

// ---- Version 1: one line of text ----

struct field {
    const char *text;
    size_t length;
};

static bool field_equals(const struct field *field, const char *expected)
{
    return field->length == strlen(expected) && memcmp(field->text, expected, field->length) == 0;
}

// Splits the line at each space. Returns the number of fields, or max + 1 if there are more than `max`. Stores at most
// `max` fields.
static size_t split(const char *line, size_t length, struct field *ret_fields, size_t max)
{
    const char *end = line + length;
    size_t count = 0;

    for (const char *space; count <= max; line = space + 1) {
        space = memchr(line, ' ', (size_t)(end - line));
        if (count < max)
            ret_fields[count] = (struct field){line, (size_t)((space ? space : end) - line)};
        count++;
        if (!space)
            break;
    }
    return count;
}

static bool read_address(const struct field *field, bool is_v6, struct address *ret_address)
{
    return (memchr(field->text, ':', field->length) != NULL) == is_v6 &&
           address_parse_bytes(field->text, field->length, ret_address);
}

static bool is_port(const struct field *field)
{
    uint64_t port;

    return parse_decimal(field->text, field->length, 65535, &port) == 0 &&
           (field->length == 1 || field->text[0] != '0');
}

static enum proxy_header_result read_v1_line(const char *line, size_t length, struct proxy_header *header)
{
    enum { PROXY, PROTOCOL, SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, COUNT };
    struct field fields[COUNT];
    size_t count = split(line, length, fields, COUNT);
    struct address destination;
    bool is_v6;

    if (!field_equals(&fields[PROXY], "PROXY"))
        return set_fault(header, "no space follows the word PROXY");
    if (count > PROTOCOL && field_equals(&fields[PROTOCOL], "UNKNOWN"))
        return PROXY_HEADER_LOCAL; // whatever follows has no meaning
    is_v6 = count > PROTOCOL && field_equals(&fields[PROTOCOL], "TCP6");
    if (count <= PROTOCOL || (!is_v6 && !field_equals(&fields[PROTOCOL], "TCP4")))
        return set_fault(header, "the protocol is not TCP4, TCP6 or UNKNOWN");
    if (count != COUNT)
        return set_fault(header, "the line does not have six fields separated by single spaces");
    if (!read_address(&fields[SOURCE], is_v6, &header->client) ||
        !read_address(&fields[DESTINATION], is_v6, &destination))
        return set_fault(header, "an address does not belong to the protocol");
    if (!is_port(&fields[SOURCE_PORT]) || !is_port(&fields[DESTINATION_PORT]))
        return set_fault(header, "a port is not a number from 0 to 65535");
    return PROXY_HEADER_CLIENT;
}

static enum proxy_header_result parse_v1(const char *data, size_t size, struct proxy_header *header)
{
    for (size_t i = sizeof v1_start; i < size && i < PROXY_HEADER_V1_BYTES - 1; i++) {
        if (data[i] == '\n')
            return set_fault(header, "the line contains a line feed without a carriage return");
        if (data[i] != '\r')
            continue;
        if (i + 1 == size)
            return PROXY_HEADER_INCOMPLETE;
        if (data[i + 1] != '\n')
            return set_fault(header, "the line contains a carriage return without a line feed");
        header->length = i + 2;
        return read_v1_line(data, i, header);
    }
    return size < PROXY_HEADER_V1_BYTES - 1 ? PROXY_HEADER_INCOMPLETE
                                            : set_fault(header, "the line is longer than 107 bytes");
}

// ---- Version 2: binary ----

struct v2_fixed {
    unsigned int version, command, family, transport;
    size_t length; // of what follows
};

static struct v2_fixed read_v2_fixed(const unsigned char *data)
{
    return (struct v2_fixed){
        .version = data[12] >> 4,
        .command = data[12] & 0xf,
        .family = data[13] >> 4,
        .transport = data[13] & 0xf,
        .length = (size_t)data[14] << 8 | data[15],
    };
}

// Returns the fault of the fixed part, or NULL if there is none. With LOCAL, the family, the protocol and the addresses
// have no meaning.
static const char *find_v2_fault(const struct v2_fixed *fixed)
{
    static const size_t address_bytes[] = {[V2_UNSPEC] = 0, [V2_INET] = 12, [V2_INET6] = 36, [V2_UNIX] = 216};

    if (fixed->version != 2)
        return "the version is not 2";
    if (fixed->command > V2_PROXY)
        return "the command is neither LOCAL nor PROXY";
    if (fixed->length > PROXY_HEADER_V2_BYTES)
        return "the header announces more than 2048 bytes";
    if (fixed->command == V2_LOCAL)
        return NULL;
    if (fixed->family > V2_UNIX || fixed->transport > V2_DGRAM)
        return "the address family or the protocol is unknown";
    if (fixed->family != V2_UNSPEC && fixed->transport != V2_STREAM)
        return "the protocol is not a stream protocol";
    if (fixed->length < address_bytes[fixed->family])
        return "the header is too short for its addresses";
    return NULL;
}

static enum proxy_header_result parse_v2(const unsigned char *data, size_t size, struct proxy_header *header)
{
    struct v2_fixed fixed;
    const char *fault;

    if (size < PROXY_HEADER_V2_FIXED_BYTES)
        return PROXY_HEADER_INCOMPLETE;
    fixed = read_v2_fixed(data);
    fault = find_v2_fault(&fixed);
    if (fault)
        return set_fault(header, fault);
    header->length = PROXY_HEADER_V2_FIXED_BYTES + fixed.length;
    if (size < header->length)
        return PROXY_HEADER_INCOMPLETE;
    if (fixed.command == V2_LOCAL || (fixed.family != V2_INET && fixed.family != V2_INET6))
        return PROXY_HEADER_LOCAL;
    header->client = address_from_bytes(data + PROXY_HEADER_V2_FIXED_BYTES, fixed.family == V2_INET ? 4 : 16);
    return PROXY_HEADER_CLIENT;
}

enum proxy_header_result proxy_header_parse(const void *data, size_t size, struct proxy_header *ret_header)
{
    *ret_header = (struct proxy_header){0};
    if (memcmp(data, v1_start, size < sizeof v1_start ? size : sizeof v1_start) == 0)
        return size < sizeof v1_start ? PROXY_HEADER_INCOMPLETE : parse_v1(data, size, ret_header);
    if (memcmp(data, v2_start, size < sizeof v2_start ? size : sizeof v2_start) == 0)
        return size < sizeof v2_start ? PROXY_HEADER_INCOMPLETE : parse_v2(data, size, ret_header);
    return PROXY_HEADER_ABSENT;
}
