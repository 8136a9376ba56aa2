#include "imcallbackd/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return -code;
}

void error_wrap(struct error *error, const char *format, ...)
{
    struct error inner = *error;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof error->text)
        return;
    strncat(error->text, ": ", sizeof error->text - strlen(error->text) - 1);
    strncat(error->text, inner.text, sizeof error->text - strlen(error->text) - 1);
}
