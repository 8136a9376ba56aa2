// The client controls the names, so they are bounded and printed as they came: a decoded name could hold any byte.
#include "imcallbackd/callback/parameter_names.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

// NAME_BYTES is the largest part of the list: a separator, a name of the largest length, and the dots of a longer name.
#define NAME_MAX_LENGTH 32
#define SEPARATOR       ", "
#define DOTS            "..."
#define NAME_BYTES      (strlen(SEPARATOR) + NAME_MAX_LENGTH + strlen(DOTS))

static bool is_harmless(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_' ||
           c == '.';
}

static char *print_name(char *to, const char *name, size_t length)
{
    for (size_t i = 0; i < length && i < NAME_MAX_LENGTH; i++)
        *to++ = (char)(is_harmless(name[i]) ? name[i] : '?');
    return stpcpy(to, length > NAME_MAX_LENGTH ? DOTS : "");
}

void parameter_names_print(const char *query, char ret_names[PARAMETER_NAMES_BYTES])
{
    const char *separator = "";
    char *to = ret_names, *last = ret_names + PARAMETER_NAMES_BYTES - sizeof SEPARATOR DOTS - NAME_BYTES;

    *to = '\0';
    while (*query) {
        size_t name_length = strcspn(query, "=&");

        if (name_length > 0 && to > last) {
            to = stpcpy(to, SEPARATOR DOTS);
            break;
        }
        if (name_length > 0) {
            to = print_name(stpcpy(to, separator), query, name_length);
            separator = SEPARATOR;
        }
        query += strcspn(query, "&");
        query += *query == '&';
    }
    assert(to < ret_names + PARAMETER_NAMES_BYTES);
}
