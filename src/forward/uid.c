#include "uid.h"

#include <errno.h>
#include <inttypes.h>

#include "imcallbackd/base/buffer.h"

#include <openssl/evp.h>

static int hash(int r, struct buffer *text, unsigned char uid[UID_BYTES])
{
    if (r == 0 && EVP_Digest(text->data, text->length, uid, NULL, EVP_sha256(), NULL) != 1)
        r = -EIO;
    buffer_finish(text);
    return r;
}

// The group's name comes last, because it may hold any character.
int uid_of_group(const struct recorded_row *group, const char *receiver, unsigned char uid[UID_BYTES])
{
    const struct destroyed_group *event = &group->event.group;
    struct buffer text = {0};
    int r;

    if (event->has_event_time)
        r = buffer_print(&text, CALLBACK_COMMAND "\n%" PRId64 "\n%" PRId64 "\n%s", event->sdk_appid,
                         event->event_time_ms, event->group_id);
    else
        r = buffer_print(&text, CALLBACK_COMMAND "\n%" PRId64 "\n\n%s\n%" PRId64 "\n%" PRId64 "\n%s", event->sdk_appid,
                         receiver, group->id, event->received_at_ms, event->group_id);
    return hash(r, &text, uid);
}

int uid_of_rejection(const struct recorded_row *rejection, const char *receiver, unsigned char uid[UID_BYTES])
{
    struct buffer text = {0};
    int r = buffer_print(&text, "rejected_callback\n%s\n%" PRId64 "\n%" PRId64, receiver, rejection->id,
                         rejection->event.rejection.received_at_ms);

    return hash(r, &text, uid);
}
