// Cuts a long text instead of allocating memory for it, because an error may report that the system is out of memory.
#include "imcallbackd/base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, int code, const char *format, ...)
{
    va_list arguments;

    assert(code >= 0);
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return -code;
}

void error_wrap(struct error *error, const char *format, ...)
{
    struct error inner = *error;
    va_list arguments;
    size_t inner_length;
    int length;

    va_start(arguments, format);
    length = vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof error->text - 2)
        return;
    memcpy(error->text + length, ": ", 2);
    length += 2;
    inner_length = strnlen(inner.text, sizeof error->text - 1 - (size_t)length);
    memcpy(error->text + length, inner.text, inner_length);
    error->text[(size_t)length + inner_length] = '\0';
}
