#include "side_file.h"

#include "imcallbackd/base/buffer.h"

bool side_file_status(const char *database, const char *suffix, struct stat *ret_status)
{
    struct buffer name = {0};
    bool there = buffer_print(&name, "%s%s", database, suffix) == 0 && stat(name.data, ret_status) == 0;

    buffer_finish(&name);
    return there;
}
