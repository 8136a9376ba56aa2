// Joins the identifying fields with newlines and hashes the text.
#include "imcallbackd/outbound/event_uid.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "imcallbackd/base/buffer.h"

#include <openssl/evp.h>

// The group id comes last, because it may contain any character, even a newline. In any other place, two different rows
// could have the same text.
int row_uid(enum stream stream, const struct recorded_row *row, const char *receiver, unsigned char uid[UID_BYTES])
{
    const struct destroyed_group *group = &row->event.group;
    struct buffer text = {0};
    int r;

    assert(stream < STREAM_COUNT);
    if (stream == STREAM_REJECTIONS)
        r = buffer_print(&text, "rejected_callback\n%s\n%" PRId64 "\n%" PRId64, receiver, row->id, row->received_at_ms);
    else if (group->has_event_time)
        r = buffer_print(&text, CALLBACK_COMMAND "\n%" PRId64 "\n%" PRId64 "\n%s", group->sdk_appid,
                         group->event_time_ms, group->group_id);
    else
        r = buffer_print(&text, CALLBACK_COMMAND "\n%" PRId64 "\n\n%s\n%" PRId64 "\n%" PRId64 "\n%s", group->sdk_appid,
                         receiver, row->id, row->received_at_ms, group->group_id);
    if (r == 0 && EVP_Digest(text.data, text.length, uid, NULL, EVP_sha256(), NULL) != 1)
        r = -EIO;
    buffer_finish(&text);
    return r;
}
