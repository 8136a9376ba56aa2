// Parses, prints and compares IP addresses and CIDR blocks. An IPv4 address is stored as an IPv4-mapped IPv6 address
// (::ffff:a.b.c.d), so that a client has the same address whether it connects to an IPv4 socket or to an IPv6 socket.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "imcallbackd/base/error.h"

#define ADDRESS_TEXT_BYTES INET6_ADDRSTRLEN

struct address {
    unsigned char bytes[16];
};

struct address_block {
    struct address address;
    unsigned int prefix; // number of leading bits that are compared, 0 to 128; for IPv4, 96 plus the IPv4 prefix
};

// Returns false if the socket address is neither IPv4 nor IPv6.
bool address_from_socket(const struct sockaddr_storage *socket_address, struct address *ret_address);

// Reads a numeric IPv4 or IPv6 address. Returns false for any other text.
bool address_parse(const char *text, struct address *ret_address);

// Does the same as address_parse for a text of `length` bytes without a terminating NUL.
bool address_parse_bytes(const char *text, size_t length, struct address *ret_address);

// Converts an address in network byte order: 4 bytes for IPv4, 16 bytes for IPv6.
struct address address_from_bytes(const void *bytes, size_t length);

// Prints the address in numeric form. An IPv4-mapped address is printed as a.b.c.d.
void address_print(const struct address *address, char text[ADDRESS_TEXT_BYTES]);

// Reads an address or a CIDR block, such as "192.0.2.1", "192.0.2.0/24" or "2001:db8::/32". Returns 0, or -EINVAL for
// any other text and for a block with bits set after the prefix, because such a block is probably a typo. *ret_block is
// valid only on success.
int address_block_parse(const char *text, struct address_block *ret_block, struct error *error) MUST_CHECK;

// Reads a list of blocks, separated by commas, spaces or tabs; the list may be empty. Returns 0, -EINVAL or -ENOMEM.
// The caller frees *ret_blocks, which is set only on success.
int address_blocks_parse(const char *text, struct address_block **ret_blocks, size_t *ret_count,
                         struct error *error) MUST_CHECK;

bool address_block_contains(const struct address_block *block, const struct address *address);

// Returns true if the block is too wide for a list of machines: an IPv4 block wider than /8, an IPv6 block wider than
// /16, or an IPv6 block that contains all IPv4-mapped addresses.
bool address_block_is_wide(const struct address_block *block);

bool address_blocks_contain(const struct address_block *blocks, size_t count, const struct address *address);

// Returns the address that identifies a client for the per-client limits: an IPv4 address itself, or the first address
// of the /64 network of an IPv6 address, because one client usually controls a whole /64.
struct address address_client_network(const struct address *address);
