#include <stdlib.h>
#include <string.h>

#include "../../../src/http/peers.h"
#include "../unit.h"

#define MANY 20000 // several to each bucket

static struct address caller_of(size_t number)
{
    struct address caller = {{0x20, 0x01, 0x0d, 0xb8}};

    memcpy(caller.bytes + 4, &number, 4);
    return caller;
}

static void counts_each_caller_by_itself(void **state)
{
    struct peers *peers = peers_create();
    struct address one = caller_of(1), other = caller_of(2);

    (void)state;
    assert_non_null(peers);
    for (unsigned int i = 1; i <= 3; i++)
        assert_int_equal(peers_add(peers, &one), i);
    assert_int_equal(peers_add(peers, &other), 1);
    peers_remove(peers, &one);
    assert_int_equal(peers_add(peers, &one), 3);
    for (size_t i = 0; i < 3; i++)
        peers_remove(peers, &one);
    assert_int_equal(peers_add(peers, &one), 1); // forgotten, and met anew
    assert_int_equal(peers_add(peers, &other), 2);
    peers_destroy(peers);
}

static void keeps_many_apart(void **state)
{
    struct peers *peers = peers_create();

    (void)state;
    for (unsigned int round = 1; round <= 2; round++) {
        for (size_t i = 0; i < MANY; i++) {
            struct address caller = caller_of(i);

            assert_int_equal(peers_add(peers, &caller), round);
        }
    }
    // Every second one goes, from the front, the middle and the end of its list.
    for (size_t i = 0; i < MANY; i += 2) {
        struct address caller = caller_of(i);

        peers_remove(peers, &caller);
        peers_remove(peers, &caller);
    }
    for (size_t i = 0; i < MANY; i++) {
        struct address caller = caller_of(i);

        assert_int_equal(peers_add(peers, &caller), i % 2 == 0 ? 1 : 3);
    }
    peers_destroy(peers);
}

static void destroys_nothing(void **state)
{
    (void)state;
    peers_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_each_caller_by_itself),
        cmocka_unit_test(keeps_many_apart),
        cmocka_unit_test(destroys_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
