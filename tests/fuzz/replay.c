// Replaces libFuzzer: runs the target over each file of the given directories and prints the name of each file.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "imcallbackd/base/file.h"

#define INPUT_BYTES ((size_t)16 << 20)

static int replay(const char *directory, const char *name)
{
    struct buffer input = {0};
    struct error error;
    char path[4096];
    int r;

    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    (void)fprintf(stderr, "%s\n", path);
    r = file_read(path, INPUT_BYTES, &input, &error);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", error.text);
    } else {
        char *exact = fuzz_copy(buffer_text(&input), input.length); // a sanitizer finds each read after the end

        LLVMFuzzerTestOneInput((const uint8_t *)exact, input.length);
        free(exact);
    }
    buffer_finish(&input);
    return r;
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    int inputs = 0, failures = 0;

    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int count = scandir(argv[i], &entries, is_input, alphasort);

        if (count <= 0) {
            (void)fprintf(stderr, "%s: the directory holds no input\n", argv[i]);
            return 1;
        }
        for (int j = 0; j < count; j++) {
            failures += replay(argv[i], entries[j]->d_name) < 0;
            free(entries[j]);
        }
        free(entries);
        inputs += count;
    }
    (void)fprintf(stderr, "%d inputs\n", inputs);
    return failures > 0 || inputs == 0;
}
