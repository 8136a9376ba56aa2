// Defines the results of the callback module: a destroyed group, or a rejected body. All text is valid UTF-8 and ends
// with a NUL; only the raw body may hold any bytes. The structs own no memory. The contract of the function that fills
// in a struct says how long its pointers are valid.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALLBACK_COMMAND "Group.CallbackAfterGroupDestroyed"

// One callback with this command. An absent text is "". The field names follow the protocol.
struct destroyed_group {
    int64_t sdk_appid;
    const char *group_id;
    bool has_event_time; // true: event_time_ms is part of the identity; false: the raw body is part of it instead
    int64_t event_time_ms;
    const char *type; // not limited to Public, Private, Work, ChatRoom, Meeting, AVChatRoom and Community
    const char *owner_account;
    const char *operator_account;
    const char *name;
    bool has_member_list; // false: the list is absent or null, as for communities
    size_t member_count;
    const char *const *members; // Member_Account of each member, in the order of the list

    const char *opt_platform; // from the query
    const char *client_ip;    // from the query; not verified, unlike remote_address
    const char *remote_address;
    int64_t received_at_ms;

    const char *body; // raw bytes
    size_t body_length;
    bool keep_body; // record the body too: [store] keep_body is set, has_event_time is false, or U+FFFD replaced text
};

// A callback whose query was accepted, but whose body is invalid or contradicts a recorded event.
struct rejected_callback {
    int64_t received_at_ms;
    const char *remote_address;
    int64_t sdk_appid;
    const char *callback_command;
    const char *reason;
    const char *body; // raw bytes
    size_t body_length;
};
