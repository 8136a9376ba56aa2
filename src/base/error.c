// Texts are cut rather than allocated, because an error may report that the system is out of memory.
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
    size_t length;

    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    length = strlen(error->text);
    (void)snprintf(error->text + length, sizeof error->text - length, ": %s", inner.text);
}
