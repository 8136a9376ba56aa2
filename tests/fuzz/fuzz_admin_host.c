// The input is the value of a Host header. A regular expression decides independently whether it is allowed.
#include <arpa/inet.h>
#include <assert.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/admin_host.h"

#define PATTERN                                                                                                        \
    "^(([0-9.]+)|\\[([0-9a-f:.]+)]|(localhost|web1\\.example\\.org|web1|status\\.example|other)\\.?)(:([0-9]+))?$"
enum { V4_GROUP = 2, V6_GROUP, NAME_GROUP, PORT_GROUP = 6, GROUPS };

static bool is_address(const char *host, regmatch_t group, int family)
{
    size_t length = (size_t)(group.rm_eo - group.rm_so);
    unsigned char bytes[16];
    char text[64] = "";

    if (length >= sizeof text)
        return false;
    memcpy(text, host + group.rm_so, length);
    return inet_pton(family, text, bytes) == 1;
}

static bool is_expected(const char *host)
{
    regmatch_t groups[GROUPS];
    regex_t compiled;
    bool matches;

    assert(regcomp(&compiled, PATTERN, REG_EXTENDED | REG_ICASE) == 0);
    matches = regexec(&compiled, host, GROUPS, groups, 0) == 0;
    regfree(&compiled);
    if (!matches || (groups[PORT_GROUP].rm_so >= 0 && strtoull(host + groups[PORT_GROUP].rm_so, NULL, 10) > 65535))
        return false;
    if (groups[V4_GROUP].rm_so >= 0)
        return is_address(host, groups[V4_GROUP], AF_INET);
    return groups[NAME_GROUP].rm_so >= 0 || is_address(host, groups[V6_GROUP], AF_INET6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bare = fuzz_copy_bare(data, size), *host = fuzz_copy(data, size);
    bool allowed = admin_host_is_allowed(bare, size, "Web1.example.org", "status.example, OTHER.");

    assert(allowed == (strlen(host) == size && is_expected(host)));
    free(host);
    free(bare);
    return 0;
}
