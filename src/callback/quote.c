#include "quote.h"

#include <stdio.h>

#define ESCAPE_BYTES 4               // \xXX
#define TAIL_BYTES   (sizeof "...'") // the longest end, with its NUL

void quote_text(const char *text, char ret_quoted[QUOTE_BYTES])
{
    char *to = ret_quoted, *last = ret_quoted + QUOTE_BYTES - TAIL_BYTES - ESCAPE_BYTES;

    *to++ = '\'';
    for (; *text && to <= last; text++) {
        if (*text >= ' ' && *text <= '~' && *text != '\\' && *text != '\'')
            *to++ = *text;
        else
            to += sprintf(to, "\\x%02x", (unsigned char)*text);
    }
    (void)sprintf(to, *text ? "...'" : "'");
}
