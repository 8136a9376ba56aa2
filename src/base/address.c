// All comparisons use the 16 bytes of struct address, so that IPv4 and IPv6 take the same path.
#include "imcallbackd/base/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/parse.h"

static const unsigned char mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_mapped(const struct address *address)
{
    return memcmp(address->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

static void map_v4(const void *v4, struct address *ret_address)
{
    memcpy(ret_address->bytes, mapped_prefix, sizeof mapped_prefix);
    memcpy(ret_address->bytes + sizeof mapped_prefix, v4, 4);
}

bool address_from_socket(const struct sockaddr_storage *socket_address, struct address *ret_address)
{
    if (socket_address->ss_family == AF_INET) {
        map_v4(&((const struct sockaddr_in *)socket_address)->sin_addr, ret_address);
        return true;
    }
    if (socket_address->ss_family == AF_INET6) {
        memcpy(ret_address->bytes, &((const struct sockaddr_in6 *)socket_address)->sin6_addr,
               sizeof ret_address->bytes);
        return true;
    }
    return false;
}

bool address_parse(const char *text, struct address *ret_address)
{
    unsigned char v4[4];

    if (inet_pton(AF_INET, text, v4) != 1)
        return inet_pton(AF_INET6, text, ret_address->bytes) == 1;
    map_v4(v4, ret_address);
    return true;
}

bool address_parse_bytes(const char *text, size_t length, struct address *ret_address)
{
    char copy[ADDRESS_TEXT_BYTES];

    // A NUL within the text would end the copy early.
    if (length >= sizeof copy || memchr(text, '\0', length))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return address_parse(copy, ret_address);
}

struct address address_from_bytes(const void *bytes, size_t length)
{
    struct address address;

    assert(length == 4 || length == sizeof address.bytes);
    if (length == 4)
        map_v4(bytes, &address);
    else
        memcpy(address.bytes, bytes, length);
    return address;
}

void address_print(const struct address *address, char text[ADDRESS_TEXT_BYTES])
{
    bool is_v4 = is_mapped(address);

    inet_ntop(is_v4 ? AF_INET : AF_INET6, address->bytes + (is_v4 ? sizeof mapped_prefix : 0), text,
              ADDRESS_TEXT_BYTES);
}

static struct address network_of(const struct address *address, unsigned int prefix)
{
    struct address result = {{0}};
    size_t whole = prefix / 8;

    assert(prefix <= 128);
    memcpy(result.bytes, address->bytes, whole);
    if (prefix % 8 != 0)
        result.bytes[whole] = (unsigned char)(address->bytes[whole] & (0xff00 >> (prefix % 8)));
    return result;
}

bool address_block_contains(const struct address_block *block, const struct address *address)
{
    struct address network = network_of(address, block->prefix);

    return memcmp(&network, &block->address, sizeof network) == 0; // a block has no bits set after its prefix
}

bool address_block_is_wide(const struct address_block *block)
{
    const struct address first_v4 = address_from_bytes((const unsigned char[4]){0}, 4);

    if (is_mapped(&block->address))
        return block->prefix < 8 * sizeof mapped_prefix + 8;
    return block->prefix < 16 || address_block_contains(block, &first_v4);
}

bool address_blocks_contain(const struct address_block *blocks, size_t count, const struct address *address)
{
    bool found = false;

    for (size_t i = 0; i < count && !found; i++)
        found = address_block_contains(&blocks[i], address);
    return found;
}

int address_block_parse(const char *text, struct address_block *ret_block, struct error *error)
{
    size_t length = strcspn(text, "/");
    char host[ADDRESS_TEXT_BYTES];
    uint64_t prefix = 0, longest;
    struct address network;

    if (length >= sizeof host)
        return error_set(error, EINVAL, "'%s' is not an address", text);
    memcpy(host, text, length);
    host[length] = '\0';
    if (!address_parse(host, &ret_block->address))
        return error_set(error, EINVAL, "'%s' is not an address and not a CIDR block such as 192.0.2.0/24", text);
    longest = strchr(host, ':') ? 128 : 32;
    if (text[length] == '\0')
        prefix = longest;
    else if (parse_decimal(text + length + 1, strlen(text + length + 1), longest, &prefix) < 0)
        return error_set(error, EINVAL, "'%s': the prefix after '/' is not a number from 0 to %d", text, (int)longest);
    ret_block->prefix = (unsigned int)(128 - longest + prefix);
    network = network_of(&ret_block->address, ret_block->prefix);
    if (memcmp(&network, &ret_block->address, sizeof network) != 0) {
        address_print(&network, host);
        return error_set(error, EINVAL, "'%s' has bits set after its prefix; the block starts at %s", text, host);
    }
    return 0;
}

int address_blocks_parse(const char *text, struct address_block **ret_blocks, size_t *ret_count, struct error *error)
{
    static const char separators[] = ", \t";
    struct address_block *blocks = calloc(strlen(text) / 2 + 1, sizeof *blocks);
    char *copy = strdup(text), *rest = copy;
    size_t count = 0;
    int r = 0;

    if (!blocks || !copy) {
        free(copy);
        free(blocks);
        return error_set(error, ENOMEM, "out of memory");
    }
    while (r == 0 && rest) {
        const char *item = strsep(&rest, separators);

        if (*item)
            r = address_block_parse(item, &blocks[count++], error);
    }
    free(copy);
    if (r < 0) {
        free(blocks);
        return r;
    }
    *ret_blocks = blocks;
    *ret_count = count;
    return 0;
}

struct address address_client_network(const struct address *address)
{
    return is_mapped(address) ? *address : network_of(address, 64);
}
