// Builds the URL, the body and the values of the headers. The URL may contain a Sign, so no message may contain the
// URL.
#include "delivery.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/callback/print_body.h"
#include "imcallbackd/callback/signature.h"
#include "imcallbackd/outbound/event_uid.h"

static int append_encoded(struct buffer *url, const char *text)
{
    int r = 0;

    for (; *text && r == 0; text++)
        r = isalnum((unsigned char)*text) || strchr("-._~", *text)
                ? buffer_append(url, text, 1)
                : buffer_print(url, "%%%02X", (unsigned int)(unsigned char)*text);
    return r;
}

static int append_parameter(struct buffer *url, const char *name, const char *value)
{
    int r = buffer_print(url, "&%s=", name);

    return r < 0 ? r : append_encoded(url, value);
}

static const char *find_token(const struct deliver_settings *settings, int64_t sdk_appid)
{
    for (size_t i = 0; i < settings->app_count; i++) {
        if (settings->apps[i].sdk_appid == sdk_appid)
            return settings->apps[i].token;
    }
    return NULL;
}

static int append_sign(struct buffer *url, const char *token, const char *timestamp)
{
    char sign[SIGNATURE_HEX_LENGTH + 1];
    int r = signature_compute(token, timestamp, sign);

    return r < 0 ? r : buffer_print(url, "&RequestTime=%s&Sign=%s", timestamp, sign);
}

static int build_url(struct buffer *url, const struct deliver_settings *settings, const struct destroyed_group *group,
                     const char *timestamp)
{
    const char *token = find_token(settings, group->sdk_appid);
    int r = buffer_print(url, "%s%cSdkAppid=%" PRId64 "&CallbackCommand=" CALLBACK_COMMAND "&contenttype=json",
                         settings->url, strchr(settings->url, '?') ? '&' : '?', group->sdk_appid);

    if (r == 0)
        r = append_parameter(url, "ClientIP", group->client_ip);
    if (r == 0)
        r = append_parameter(url, "OptPlatform", group->opt_platform);
    return r == 0 && token ? append_sign(url, token, timestamp) : r;
}

static int build_id(struct buffer *id, const struct deliver_settings *settings, const struct recorded_row *row)
{
    unsigned char uid[UID_BYTES];
    int r = row_uid(STREAM_GROUPS, row, settings->receiver, uid);

    for (size_t i = 0; i < sizeof uid && r == 0; i++)
        r = buffer_print(id, "%02x", uid[i]);
    return r;
}

static int build_body(struct buffer *body, const struct destroyed_group *group)
{
    return group->keep_body ? buffer_append(body, group->body, group->body_length) : callback_print_body(body, group);
}

int delivery_build(struct delivery *delivery, const struct deliver_settings *settings,
                   const struct webhook_secrets *secrets, const struct recorded_row *row, int64_t now_s,
                   struct error *error)
{
    const struct destroyed_group *group = &row->event.group;
    int r;

    delivery->url.length = delivery->body.length = delivery->id.length = 0;
    delivery->timestamp.length = delivery->signature.length = 0;
    r = buffer_print(&delivery->timestamp, "%" PRId64, now_s);
    if (r == 0)
        r = build_url(&delivery->url, settings, group, buffer_text(&delivery->timestamp));
    if (r == 0)
        r = build_body(&delivery->body, group);
    if (r == 0)
        r = build_id(&delivery->id, settings, row);
    if (r == 0)
        r = webhook_sign(secrets, buffer_text(&delivery->id), buffer_text(&delivery->timestamp),
                         buffer_text(&delivery->body), delivery->body.length, &delivery->signature);
    if (r < 0)
        return error_set(error, -r, r == -ENOMEM ? "out of memory" : "libcrypto cannot compute a signature");
    return 0;
}

void delivery_finish(struct delivery *delivery)
{
    buffer_finish(&delivery->url);
    buffer_finish(&delivery->body);
    buffer_finish(&delivery->id);
    buffer_finish(&delivery->timestamp);
    buffer_finish(&delivery->signature);
}
