// Defines http_credentials as a mere reference count, for tests that need no certificate. The functions replace
// those of credentials.c, so only one source file of a program can include this header.
#pragma once

#include <stddef.h>

#include "imcallbackd/http/credentials.h"

struct http_credentials {
    int references;
};

struct http_credentials *http_credentials_ref(struct http_credentials *credentials)
{
    if (credentials)
        credentials->references++;
    return credentials;
}

void http_credentials_unref(struct http_credentials *credentials)
{
    if (credentials)
        credentials->references--;
}
