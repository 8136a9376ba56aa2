// The order of the fields is that of the reference page.
#include "imcallbackd/callback/print_body.h"

#include <inttypes.h>
#include <string.h>

static int print_text(struct buffer *body, const char *name, const char *text)
{
    int r;

    if (*text == '\0')
        return 0;
    r = buffer_print(body, ",\"%s\":\"", name);
    if (r == 0)
        r = buffer_append_json(body, text, strlen(text));
    return r < 0 ? r : buffer_append(body, "\"", 1);
}

static int print_members(struct buffer *body, const struct destroyed_group *group)
{
    int r = buffer_print(body, ",\"MemberList\":[");

    for (size_t i = 0; i < group->member_count && r == 0; i++) {
        r = buffer_print(body, "%s{\"Member_Account\":\"", i == 0 ? "" : ",");
        if (r == 0)
            r = buffer_append_json(body, group->members[i], strlen(group->members[i]));
        if (r == 0)
            r = buffer_print(body, "\"}");
    }
    return r < 0 ? r : buffer_print(body, "]");
}

int callback_print_body(struct buffer *body, const struct destroyed_group *group)
{
    int r = buffer_print(body, "{\"CallbackCommand\":\"" CALLBACK_COMMAND "\"");

    if (r == 0)
        r = print_text(body, "GroupId", group->group_id);
    if (r == 0)
        r = print_text(body, "Type", group->type);
    if (r == 0)
        r = print_text(body, "Owner_Account", group->owner_account);
    if (r == 0)
        r = print_text(body, "Operator_Account", group->operator_account);
    if (r == 0)
        r = print_text(body, "Name", group->name);
    if (r == 0 && group->has_member_list)
        r = print_members(body, group);
    if (r == 0 && group->has_event_time)
        r = buffer_print(body, ",\"EventTime\":\"%" PRId64 "\"", group->event_time_ms);
    return r < 0 ? r : buffer_print(body, "}");
}
