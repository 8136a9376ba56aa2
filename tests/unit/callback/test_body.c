// Tests which event a valid body becomes, and for which reason an invalid body is rejected.
#include <inttypes.h>
#include <stdio.h>

#include "callback_fixture.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/base/file.h"

// Compares the group with "GroupId|Type|Owner|Operator|Name|time|members|body". A - stands for an absent time, an
// absent member list or a body that is not kept. Other absent fields are empty.
static void assert_group(const char *expected)
{
    const struct destroyed_group *group = &fixture.callback.group;
    struct buffer text = {0};
    int r = buffer_print(&text, "%s|%s|%s|%s|%s|", group->group_id, group->type, group->owner_account,
                         group->operator_account, group->name);

    r |= group->has_event_time ? buffer_print(&text, "%" PRId64 "|", group->event_time_ms) : buffer_print(&text, "-|");
    r |= buffer_print(&text, group->has_member_list ? "[" : "-");
    for (size_t i = 0; i < group->member_count; i++)
        r |= buffer_print(&text, i > 0 ? ",%s" : "%s", group->members[i]);
    r |= buffer_print(&text, "%s|%s", group->has_member_list ? "]" : "", group->keep_body ? "body" : "-");
    assert_int_equal(r, 0);
    if (strcmp(text.data, expected) != 0)
        fail_msg("%s: %s", body.data, text.data);
    buffer_finish(&text);
}

static const struct {
    const char *body, *group;
} valid[] = {
    {G "}", "g|||||-|-|body"},
    {G ",'EventTime':7}", "g|||||7|-|-"},
    {"\xef\xbb\xbf \r\n\t" G ",'EventTime':7} \r\n\t", "g|||||7|-|-"},
    {G ",'EventTime':7,'Type':'T','Owner_Account':'o','Operator_Account':'p','Name':'n','MemberList':[]}",
     "g|T|o|p|n|7|[]|-"},
    {G ",'EventTime':7,'Type':'','Owner_Account':null,'Operator_Account':null,'Name':null,'MemberList':null}",
     "g|||||7|-|-"},
    {"{'Name':'n','EventTime':7,'GroupId':'g'," HEAD "}", "g||||n|7|-|-"},

    // Only known names count, in their exact case and at their own level; other fields may repeat.
    {G ",'EventTime':7,'groupid':'x','GROUPID':1,'name':2,'x':{'GroupId':'y'},'x':[{}],'':0,'':0}", "g|||||7|-|-"},
    {G ",'EventTime':7,'MemberList':[{'x':1,'Member_Account':'a','member_account':2,'x':3},{'Member_Account':'b'}]}",
     "g|||||7|[a,b]|-"},
    {G ",'EventTime':7,'MemberList':[{'Member_Account':'a'},{'Member_Account':'a'}]}", "g|||||7|[a,a]|-"},

    // EventTime may be a number, a string of digits or null.
    {G ",'EventTime':null}", "g|||||-|-|body"},
    {G ",'EventTime':0}", "g|||||0|-|-"},
    {G ",'EventTime':'0'}", "g|||||0|-|-"},
    {G ",'EventTime':1670574414123}", "g|||||1670574414123|-|-"},
    {G ",'EventTime':'1670574414123'}", "g|||||1670574414123|-|-"},
    {G ",'EventTime':1.670574414123e12}", "g|||||1670574414123|-|-"},
    {G ",'EventTime':9007199254740990}", "g|||||9007199254740990|-|-"},
    {G ",'EventTime':9007199254740991}", "g|||||9007199254740991|-|-"},
    {G ",'EventTime':'9007199254740990'}", "g|||||9007199254740990|-|-"},
    {G ",'EventTime':'9007199254740991'}", "g|||||9007199254740991|-|-"},

    // Comments are ignored, and the body is not kept because of them.
    {"/*1*/" G "/*2*/,//'EventTime':8\n'EventTime':7}//3", "g|||||7|-|-"},
    {G ",'EventTime':7,'Name':'http://x/*y*/'}", "g||||http://x/*y*/|7|-|-"},

    // U+FFFD replaces invalid text, and the body is kept.
    {G ",'EventTime':7,'Name':'a\xe7\xa4'}", "g||||a" FFFD "|7|-|body"},
    {G ",'EventTime':7,'Name':'a\xf0\x9f\x98'}", "g||||a" FFFD "|7|-|body"},
    {G ",'EventTime':7,'Name':'a\\ud83d'}", "g||||a" FFFD "|7|-|body"},
    {G ",'EventTime':7,'Name':'\\ude00\\ud83d\\ude00'}", "g||||" FFFD "\xf0\x9f\x98\x80|7|-|body"},
    {G ",/**/'EventTime':7,'MemberList':[{'Member_Account':'a\xff'}]}", "g|||||7|[a" FFFD "]|body"},

    // U+FFFD replaces \u0000 in a text that is not an id. The body is kept, even if \u0000 is only in an unknown field,
    // but not if \u0000 is only in a comment.
    {G ",'EventTime':7,'Name':'\\u0000'}", "g||||" FFFD "|7|-|body"},
    {G ",'EventTime':7,'Name':'a\\u0000b\\u0000\\u0000c'}", "g||||a" FFFD "b" FFFD FFFD "c|7|-|body"},
    {G ",'EventTime':7,'Name':'\xff\\u0000\\ud83d'}", "g||||" FFFD FFFD FFFD "|7|-|body"},
    {G ",'EventTime':7,'Type':'a\\u0000'}", "g|a" FFFD "||||7|-|body"},
    {G ",'EventTime':7,'x':'\\u0000'}", "g|||||7|-|body"},
    {G ",'EventTime':7,'x':[{'y':'a\\u0000b'}]}", "g|||||7|-|body"},
    {G ",'EventTime':7,'\\u0000':1}", "g|||||7|-|body"},
    {G ",'EventTime':7,'GroupId\\u0000':'h','Group\\u0000Id':1,'\\u0000GroupId':2}", "g|||||7|-|body"},
    {G ",'EventTime':7,'MemberList':[{'Member_Account':'a','Member_Account\\u0000':'b','x':'\\u0000'}]}",
     "g|||||7|[a]|body"},
    {G ",'EventTime':7} // \\u0000", "g|||||7|-|-"},

    // Escapes.
    {G ",'EventTime':7,'Name':'\\u0041\\u00e4\\u793e\\ud83d\\ude00\\\\\\/\\b\\f\\n\\r\\t'}",
     "g||||A\xc3\xa4\xe7\xa4\xbe\xf0\x9f\x98\x80\\/\b\f\n\r\t|7|-|-"},
    {"{" HEAD ",'\\u0047roupId':'g','EventTime':7}", "g|||||7|-|-"},
    {G ",'EventTime':7,'Name':'%00 \\\\u0000'}", "g||||%00 \\u0000|7|-|-"},
};

TEST(reads_valid_bodies)
{
    for (size_t i = 0; i < COUNT(valid); i++) {
        const struct destroyed_group *group = &fixture.callback.group;

        if (read_quoted(valid[i].body) != CALLBACK_RECORD)
            fail_msg("%s: %s: %s", body.data, answer_name(fixture.callback.answer), fixture.callback.detail);
        assert_group(valid[i].group);
        assert_int_equal(fixture.callback.answer, ANSWER_OK);
        assert_int_equal(group->sdk_appid, 1400000003);
        assert_int_equal(group->received_at_ms, fixture.callback.received_at_ms);
        assert_string_equal(group->remote_address, "192.0.2.1");
        assert_ptr_equal(group->body, fixture.body);
        assert_int_equal(group->body_length, body.length);
    }
}

#define TYPE     ANSWER_BODY_FIELD_TYPE
#define MISSING  ANSWER_BODY_FIELD_MISSING
#define REPEATED ANSWER_BODY_FIELD_REPEATED
#define NOT_JSON ANSWER_BODY_NOT_JSON

static const struct {
    const char *body;
    enum answer_code code;
    const char *detail; // part of the detail
} rejected[] = {
    {"", NOT_JSON, "empty"},
    {" \n", NOT_JSON, "byte"},
    {"//", NOT_JSON, "byte"},
    {"\xef\xbb\xbf", NOT_JSON, "byte"},
    {"CallbackCommand=x", NOT_JSON, "byte 0"},
    {"[]", NOT_JSON, "object"},
    {"'x'", NOT_JSON, "object"},
    {"1", NOT_JSON, "object"},
    {"null", NOT_JSON, "object"},
    {"[" G "}]", NOT_JSON, "object"},
    {"{'a':1}x", NOT_JSON, "byte 7"},
    {"{'a':1} \n {}", NOT_JSON, "byte 10"},
    {"{'a':1},", NOT_JSON, "byte 7"},
    {"{'a':1}\xef\xbb\xbf", NOT_JSON, "byte 7"},
    {"/* */{'a' 1}", NOT_JSON, "byte 10"}, // the position counts the bytes of comments, too
    {"{'a':1", NOT_JSON, "byte"},
    {"{'a':1,}", NOT_JSON, "byte 7"},
    {"{a:1}", NOT_JSON, "near byte 2"},
    {"{'a':nul}", NOT_JSON, "byte 5"},
    {"{'a':'b}", NOT_JSON, "byte 5"},
    {"{'a':'\x01'}", NOT_JSON, "byte 6"},
    {"{'a':1}\x0c", NOT_JSON, "byte 7"},
    {"{'a':'\\u12x4'}", NOT_JSON, "byte 6"},
    {"{'a':'\\x'}", NOT_JSON, "byte"},
    {"{'a':1}/*", NOT_JSON, "byte 7"},
    {"{'a':01}", NOT_JSON, "number at byte 5"},
    {G ",'EventTime':07}", NOT_JSON, "number at byte 81"},
    {"{'CallbackCommand':'Group.CallbackAfterGroupDestroyed\\u0000','GroupId':'g'}", ANSWER_BODY_NUL,
     "CallbackCommand"},
    {"{" HEAD ",'GroupId':'\\u0000'}", ANSWER_BODY_NUL, "GroupId"},
    {"{" HEAD ",'GroupId':'g\\u0000'}", ANSWER_BODY_NUL, "GroupId"},
    {"{" HEAD ",'GroupId':'\xff\\u0000'}", ANSWER_BODY_NUL, "GroupId"},
    {G ",'Owner_Account':'a\\u0000b'}", ANSWER_BODY_NUL, "Owner_Account"},
    {G ",'Operator_Account':'\\u0000'}", ANSWER_BODY_NUL, "Operator_Account"},
    {G ",'MemberList':[{'Member_Account':'a'},{'Member_Account':'b\\u0000'}]}", ANSWER_BODY_NUL,
     "MemberList[1].Member_Account"},
    {G ",'EventTime':'1\\u00007'}", TYPE, "EventTime"},
    {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", ANSWER_BODY_TOO_COMPLEX, "byte 32"},

    {"{}", MISSING, "CallbackCommand"},
    {"{'GroupId':'g'}", MISSING, "CallbackCommand"},
    {"{'CallbackCommand':null,'GroupId':'g'}", MISSING, "CallbackCommand"},
    {"{'callbackcommand':'Group.CallbackAfterGroupDestroyed','GroupId':'g'}", MISSING, "CallbackCommand"},
    {"{'CallbackCommand':1,'GroupId':'g'}", TYPE, "CallbackCommand"},
    {"{" HEAD "," HEAD ",'GroupId':'g'}", REPEATED, "CallbackCommand"},
    {"{" HEAD "}", MISSING, "GroupId"},
    {"{" HEAD ",'GroupId':null}", MISSING, "GroupId"},
    {"{" HEAD ",'GroupId':''}", MISSING, "GroupId"},
    {"{" HEAD ",'groupId':'g'}", MISSING, "GroupId"},
    {"{" HEAD ",'GroupId':7}", TYPE, "GroupId"},
    {"{" HEAD ",'GroupId':['g']}", TYPE, "GroupId"},
    {G ",'GroupId':'g'}", REPEATED, "GroupId"},
    {G ",'\\u0047roupId':null}", REPEATED, "GroupId"},
    {G ",'Type':1}", TYPE, "Type"},
    {G ",'Type':'a','Type':'a'}", REPEATED, "Type"},
    {G ",'Type':null,'Type':'a'}", REPEATED, "Type"},
    {G ",'Owner_Account':false}", TYPE, "Owner_Account"},
    {G ",'Owner_Account':'','Owner_Account':''}", REPEATED, "Owner_Account"},
    {G ",'Operator_Account':[]}", TYPE, "Operator_Account"},
    {G ",'Operator_Account':'','Operator_Account':''}", REPEATED, "Operator_Account"},
    {G ",'Name':{}}", TYPE, "Name"},
    {G ",'Name':'','Name':''}", REPEATED, "Name"},

    {G ",'EventTime':''}", TYPE, "EventTime"},
    {G ",'EventTime':' 7'}", TYPE, "EventTime"},
    {G ",'EventTime':'-7'}", TYPE, "EventTime"},
    {G ",'EventTime':'7.0'}", TYPE, "EventTime"},
    {G ",'EventTime':'1e3'}", TYPE, "EventTime"},
    {G ",'EventTime':'9007199254740992'}", TYPE, "EventTime"},
    {G ",'EventTime':'18446744073709551617'}", TYPE, "EventTime"},
    {G ",'EventTime':9007199254740992}", TYPE, "EventTime"},
    {G ",'EventTime':-1}", TYPE, "EventTime"},
    {G ",'EventTime':7.5}", TYPE, "EventTime"},
    {G ",'EventTime':1e999}", TYPE, "EventTime"},
    {G ",'EventTime':-1e999}", TYPE, "EventTime"},
    {G ",'EventTime':true}", TYPE, "EventTime"},
    {G ",'EventTime':[7]}", TYPE, "EventTime"},
    {G ",'EventTime':7,'EventTime':7}", REPEATED, "EventTime"},

    {G ",'MemberList':{}}", TYPE, "MemberList"},
    {G ",'MemberList':'a'}", TYPE, "MemberList"},
    {G ",'MemberList':0}", TYPE, "MemberList"},
    {G ",'MemberList':[],'MemberList':[]}", REPEATED, "MemberList"},
    {G ",'MemberList':['a']}", TYPE, "MemberList[0]"},
    {G ",'MemberList':[{'Member_Account':'a'},null]}", TYPE, "MemberList[1]"},
    {G ",'MemberList':[{'Member_Account':'a'},[]]}", TYPE, "MemberList[1]"},
    {G ",'MemberList':[{}]}", MISSING, "MemberList[0].Member_Account"},
    {G ",'MemberList':[{'member_account':'a'}]}", MISSING, "MemberList[0].Member_Account"},
    {G ",'MemberList':[{'Member_Account':1}]}", TYPE, "MemberList[0].Member_Account"},
    {G ",'MemberList':[{'Member_Account':null}]}", MISSING, "MemberList[0].Member_Account"},
    {G ",'MemberList':[{'Member_Account':''}]}", MISSING, "MemberList[0].Member_Account"},
    {G ",'MemberList':[{'Member_Account':'a'},{'Member_Account':'b','Member_Account':'b'}]}", REPEATED,
     "MemberList[1].Member_Account"},
};

TEST(rejects_invalid_bodies_and_keeps_them)
{
    const struct callback *callback = &fixture.callback;
    const struct rejected_callback *kept = &fixture.callback.rejected;

    for (size_t i = 0; i < COUNT(rejected); i++) {
        enum callback_verdict verdict = read_quoted(rejected[i].body);

        if (verdict != CALLBACK_RECORD_REJECTION || callback->answer != rejected[i].code)
            fail_msg("%s: verdict %d, %s", body.data, (int)verdict, answer_name(callback->answer));
        if (!strstr(callback->detail, rejected[i].detail))
            fail_msg("%s: %s", body.data, callback->detail);
        assert_memory_equal(kept->reason, answer_name(callback->answer), strlen(answer_name(callback->answer)));
        assert_non_null(strstr(kept->reason, callback->detail));
        assert_int_equal(kept->received_at_ms, callback->received_at_ms);
        assert_string_equal(kept->remote_address, "192.0.2.1");
        assert_int_equal(kept->sdk_appid, 1400000003);
        assert_string_equal(kept->callback_command, CALLBACK_COMMAND);
        assert_ptr_equal(kept->body, fixture.body);
        assert_int_equal(kept->body_length, body.length);
    }
}

TEST(refuses_other_commands_and_keeps_nothing)
{
    static const struct {
        const char *body, *detail;
    } others[] = {
        {"{'CallbackCommand':'Other','GroupId':'g'}", "'Other'"},
        {"{'CallbackCommand':'group.callbackaftergroupdestroyed'}", "'group.callbackaftergroupdestroyed'"},
        {"{'CallbackCommand':'a\\n\\u001b[31m\xe7\xa4\xbe','GroupId':1}", "'a\\x0a\\x1b[31m\\xe7\\xa4\\xbe'"},
    };

    for (size_t i = 0; i < COUNT(others); i++) {
        assert_int_equal(read_quoted(others[i].body), CALLBACK_REFUSE);
        assert_int_equal(fixture.callback.answer, ANSWER_COMMAND_DIFFERS);
        if (!strstr(fixture.callback.detail, others[i].detail))
            fail_msg("%s", fixture.callback.detail);
        assert_null(fixture.callback.rejected.body);
    }
}

TEST(reads_every_sample)
{
    static const struct {
        const char *file;
        enum callback_verdict verdict;
        const char *group;
    } samples[] = {
        {"as-documented.txt", CALLBACK_RECORD,
         "@TGS#2J4SZEAEL|Public|leckie||MyFirstGroup|1670574414123|[leckie,peter,bob]|-"},
        {"documented.json", CALLBACK_RECORD,
         "@TGS#2J4SZEAEL|Public|leckie||MyFirstGroup|1670574414123|[leckie,peter,bob]|-"},
        {"community-no-member-list.json", CALLBACK_RECORD,
         "@TGS#_@TGS#cQVLVHIM62CJ|Community|leckie|administrator|\xe7\xa4\xbe\xe5\x8c\xba|1707300330000|-|-"},
        {"old-edition-no-event-time.json", CALLBACK_RECORD, "22097|ChatRoom|||r|-|[]|body"},
        {"sorted-integer-time.json", CALLBACK_RECORD,
         "@TGS#2Z4CLQE5CM|Public|PLNJEE0k|PLNJEE0k|test8888|1682914763569|[PLNJEE0k]|-"},
        {"topic-destroyed.json", CALLBACK_REFUSE, NULL},
    };

    for (size_t i = 0; i < COUNT(samples); i++) {
        struct error error;
        char path[512];

        (void)snprintf(path, sizeof path, SAMPLES "/%s", samples[i].file);
        body.length = 0;
        if (file_read(path, 65536, &body, &error) < 0)
            fail_msg("%s", error.text);
        assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), samples[i].verdict);
        if (samples[i].group)
            assert_group(samples[i].group);
        else
            assert_int_equal(fixture.callback.answer, ANSWER_COMMAND_DIFFERS);
    }
}

// Each id is the value of all text fields except CallbackCommand, once with only the necessary escapes and once with
// every ASCII character escaped.
TEST(keeps_ids_unchanged)
{
    static const char *const ids[] = {
        "it's",
        "say \"hi\"",
        "../../etc/passwd",
        "%00",
        "a%00b",
        "\\u0000",
        "a;DROP TABLE x--",
        "a\\b",
        " ",
        "//",
        "/*",
        "*/",
        "@TGS#_@TGS#x",
        "\x7f",
        "\xf0\x9f\x98\x80",
        "\xf4\x8f\xbf\xbf",
        "e\xcc\x81",
    };
    const struct destroyed_group *group = &fixture.callback.group;
    struct buffer escaped = {0};

    for (size_t i = 0; i < 2 * COUNT(ids); i++) {
        const char *id = ids[i / 2];

        escaped.length = 0;
        for (const char *at = id; *at; at++) {
            bool is_escaped = (unsigned char)*at < 0x80 && (i % 2 == 1 || *at == '"' || *at == '\\');

            assert_int_equal(buffer_print(&escaped, is_escaped ? "\\u%04x" : "%c", (unsigned int)*at), 0);
        }
        quote("{" HEAD ",'EventTime':7,");
        PRINT("\"GroupId\":\"%1$s\",\"Type\":\"%1$s\",\"Owner_Account\":\"%1$s\",\"Operator_Account\":\"%1$s\","
              "\"Name\":\"%1$s\",\"MemberList\":[{\"Member_Account\":\"%1$s\"}]}",
              escaped.data);
        assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), CALLBACK_RECORD);
        assert_string_equal(group->group_id, id);
        assert_string_equal(group->type, id);
        assert_string_equal(group->owner_account, id);
        assert_string_equal(group->operator_account, id);
        assert_string_equal(group->name, id);
        assert_string_equal(group->members[0], id);
        assert_false(group->keep_body);
    }
    buffer_finish(&escaped);
}

TEST(keeps_the_body_if_configured)
{
    struct callback_rules rules = fixture_rules;

    quote(G ",'EventTime':7}");
    for (int keep = 0; keep <= 1; keep++) {
        rules.keep_body = keep;
        assert_int_equal(read_body(&rules, ARENA_BYTES), CALLBACK_RECORD);
        assert_int_equal(fixture.callback.group.keep_body, keep);
    }
}

TEST_MAIN(NULL, finish_fixture)
