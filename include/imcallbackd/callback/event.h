// What the room hands on: one destroyed group, or one body that was not understood. Plain values without behaviour; all
// text is UTF-8 without NUL, NUL-terminated, and lives as long as the request (its arena, its body).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALLBACK_COMMAND "Group.CallbackAfterGroupDestroyed"

// A call of that command. Text that did not come is "". Field names are the protocol's.
struct destroyed_group {
    int64_t sdk_appid;
    const char *group_id;
    bool has_event_time; // the identity is (sdk_appid, group_id, event_time_ms); without a time it is the raw body
    int64_t event_time_ms;
    const char *type; // an open set: Public, Private, Work, ChatRoom, Meeting, AVChatRoom, Community …
    const char *owner_account;
    const char *operator_account;
    const char *name;
    bool has_member_list; // false: absent or null, as for communities
    size_t member_count;
    const char *const *members; // Member_Account of each, in the order in which they came

    const char *opt_platform; // from the query
    const char *client_ip;    // from the query: the caller's word, not an address that was seen
    const char *remote_address;
    int64_t received_at_ms;

    const char *body; // the bytes as they came
    size_t body_length;
    bool keep_body; // the body is recorded too: asked for, part of the identity, or needed because text was mended
};

// A genuine callback for our app whose body could not be understood, or that contradicts one recorded before.
struct rejected_callback {
    int64_t received_at_ms;
    const char *remote_address;
    int64_t sdk_appid;
    const char *callback_command;
    const char *reason;
    const char *body; // the bytes as they came
    size_t body_length;
};
