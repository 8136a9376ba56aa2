// IP addresses in one form: an IPv4 address is the IPv6 address that maps it (::ffff:a.b.c.d), so that a caller is the
// same whichever family the listening socket has.
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
    unsigned int prefix; // bits that must be equal, 0 to 128
};

// False for a socket address that is neither IPv4 nor IPv6.
bool address_from_socket(const struct sockaddr_storage *socket_address, struct address *ret_address);

// Numeric, an IPv4 address as such.
void address_print(const struct address *address, char text[ADDRESS_TEXT_BYTES]);

// "192.0.2.1", "192.0.2.0/24", "2001:db8::/32". Bits set behind the prefix are refused: they are a slip of the pen.
int address_block_parse(const char *text, struct address_block *ret_block, struct error *error) MUST_CHECK;

// A list of such, separated by commas or spaces. The caller frees *ret_blocks.
int address_blocks_parse(const char *text, struct address_block **ret_blocks, size_t *ret_count,
                         struct error *error) MUST_CHECK;

bool address_block_contains(const struct address_block *block, const struct address *address);

// The address that stands for everything that one caller commands: an IPv4 address, or the /64 of an IPv6 one.
struct address address_client_network(const struct address *address);
