// Records the entries in shared memory. Builds an image of the disk by replaying the entries up to the cut. How much of
// each entry takes effect is random unless the entry is safe.
#include "journal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ENTRIES_MAX 32768
#define FILES_MAX   64
#define DATA_MAX    ((size_t)512 * 1024 * 1024) // address space; only used pages take memory
#define SECTOR      ((size_t)512)

enum entry_kind { CREATE, DELETE, WRITE, TRUNCATE, SYNC, SYNC_FAILED, SYNC_DIRECTORY, MARK };

struct entry {
    enum entry_kind kind;
    int file; // for MARK: the number of the mark
    int64_t offset;
    size_t length, data; // data: offset in the data of the journal
};

struct file {
    char name[64];
    bool exists;
};

struct journal {
    size_t length, file_count, data_length;
    struct file files[FILES_MAX];
    struct entry entries[ENTRIES_MAX];
    unsigned char data[];
};

uint64_t random_below(uint64_t *random, uint64_t limit)
{
    uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % limit;
}

struct journal *journal_create(void)
{
    void *memory = mmap(NULL, sizeof(struct journal) + DATA_MAX, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert(memory != MAP_FAILED);
    return memory;
}

void journal_destroy(struct journal *journal)
{
    if (journal)
        (void)munmap(journal, sizeof *journal + DATA_MAX);
}

void journal_clear(struct journal *journal)
{
    journal->length = journal->file_count = journal->data_length = 0;
}

static struct entry *append(struct journal *journal, enum entry_kind kind, int file)
{
    struct entry *entry = &journal->entries[journal->length];

    assert(journal->length < ENTRIES_MAX);
    *entry = (struct entry){.kind = kind, .file = file};
    journal->length++;
    return entry;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int find(const struct journal *journal, const char *path)
{
    for (size_t i = 0; i < journal->file_count; i++) {
        if (journal->files[i].exists && strcmp(journal->files[i].name, name_of(path)) == 0)
            return (int)i;
    }
    return -1;
}

int journal_open(struct journal *journal, const char *path)
{
    int file = journal ? find(journal, path) : -1;

    if (!journal || file >= 0)
        return file;
    assert(journal->file_count < FILES_MAX && strlen(name_of(path)) < sizeof journal->files[0].name);
    file = (int)journal->file_count++;
    journal->files[file].exists = true;
    (void)snprintf(journal->files[file].name, sizeof journal->files[file].name, "%s", name_of(path));
    (void)append(journal, CREATE, file);
    return file;
}

void journal_write(struct journal *journal, int file, int64_t offset, const void *data, size_t length)
{
    struct entry *entry;

    if (!journal || file < 0)
        return;
    assert(length <= DATA_MAX - journal->data_length);
    entry = append(journal, WRITE, file);
    entry->offset = offset;
    entry->length = length;
    entry->data = journal->data_length;
    memcpy(journal->data + entry->data, data, length);
    journal->data_length += length;
}

void journal_truncate(struct journal *journal, int file, int64_t size)
{
    if (journal && file >= 0)
        append(journal, TRUNCATE, file)->offset = size;
}

void journal_sync(struct journal *journal, int file, bool succeeded)
{
    if (journal && file >= 0)
        (void)append(journal, succeeded ? SYNC : SYNC_FAILED, file);
}

void journal_sync_directory(struct journal *journal)
{
    if (journal)
        (void)append(journal, SYNC_DIRECTORY, -1);
}

void journal_delete(struct journal *journal, const char *path)
{
    int file = journal ? find(journal, path) : -1;

    if (file < 0)
        return;
    journal->files[file].exists = false;
    (void)append(journal, DELETE, file);
}

void journal_mark(struct journal *journal, int number)
{
    if (journal)
        (void)append(journal, MARK, number);
}

size_t journal_length(const struct journal *journal)
{
    return journal->length;
}

int journal_mark_at(const struct journal *journal, size_t place)
{
    return journal->entries[place].kind == MARK ? journal->entries[place].file : -1;
}

// The contents of one file in an image. If at_name is set, the directory has an entry for the file.
struct content {
    unsigned char *bytes;
    size_t size, capacity;
    bool at_name;
};

// An image under construction. `random` is the state of the generator for its random decisions.
struct image {
    const struct journal *journal;
    uint64_t *random;
    unsigned keep_percent; // share of the entries that reach the disk whole although they are not safe
    bool safe[ENTRIES_MAX];
    struct content contents[FILES_MAX];
};

static bool chance(struct image *image, unsigned percent)
{
    return random_below(image->random, 100) < percent;
}

// Goes backwards through the entries, so that at each write the next sync of its file is known.
static void find_safe(struct image *image, size_t cut)
{
    bool file_safe[FILES_MAX] = {false}, directory_safe = false;

    for (size_t i = cut; i-- > 0;) {
        const struct entry *entry = &image->journal->entries[i];

        image->safe[i] = false;
        if (entry->kind == SYNC || entry->kind == SYNC_FAILED)
            file_safe[entry->file] = entry->kind == SYNC;
        else if (entry->kind == SYNC_DIRECTORY)
            directory_safe = true;
        else if (entry->kind == WRITE || entry->kind == TRUNCATE)
            image->safe[i] = file_safe[entry->file];
        else if (entry->kind == CREATE || entry->kind == DELETE)
            image->safe[i] = directory_safe;
    }
}

static void resize(struct content *content, size_t size)
{
    if (size > content->capacity) {
        content->capacity = 2 * size;
        content->bytes = realloc(content->bytes, content->capacity);
        assert(content->bytes);
    }
    if (size > content->size)
        memset(content->bytes + content->size, 0, size - content->size);
    content->size = size;
}

static void put(struct content *content, size_t offset, const void *data, size_t length)
{
    if (offset + length > content->size)
        resize(content, offset + length);
    memcpy(content->bytes + offset, data, length);
}

// Writes a sector that was being written when the power failed: only its start, only its end, or, if the file did not
// reach this offset before, garbage.
static void put_torn_sector(struct image *image, struct content *content, size_t offset, const void *data,
                            size_t length)
{
    unsigned char garbage[SECTOR];
    size_t written = random_below(image->random, length + 1);

    if (offset < content->size && chance(image, 50)) {
        put(content, offset, data, written);
    } else if (offset < content->size) {
        put(content, offset + written, (const unsigned char *)data + written, length - written);
    } else {
        for (size_t i = 0; i < length; i++)
            garbage[i] = (unsigned char)random_below(image->random, 256);
        put(content, offset, garbage, length);
    }
}

static void put_torn(struct image *image, const struct entry *entry)
{
    struct content *content = &image->contents[entry->file];
    const unsigned char *data = image->journal->data + entry->data;
    size_t length;

    for (size_t at = 0; at < entry->length; at += length) {
        size_t offset = (size_t)entry->offset + at;

        length = SECTOR - offset % SECTOR;
        if (length > entry->length - at)
            length = entry->length - at;
        if (chance(image, 50))
            put(content, offset, data + at, length);
        else if (chance(image, 10))
            put_torn_sector(image, content, offset, data + at, length);
    }
}

static void apply(struct image *image, const struct entry *entry, bool safe)
{
    bool whole = safe || chance(image, image->keep_percent);
    struct content *content = &image->contents[entry->file];

    if (entry->kind == WRITE && whole)
        put(content, (size_t)entry->offset, image->journal->data + entry->data, entry->length);
    else if (entry->kind == WRITE && chance(image, 50))
        put_torn(image, entry);
    else if (entry->kind == TRUNCATE && whole)
        resize(content, (size_t)entry->offset);
    else if ((entry->kind == CREATE || entry->kind == DELETE) && whole)
        content->at_name = entry->kind == CREATE;
}

static void build(struct image *image, size_t cut)
{
    for (size_t i = 0; i < image->journal->file_count; i++) {
        image->contents[i].size = 0;
        image->contents[i].at_name = false;
    }
    find_safe(image, cut);
    for (size_t i = 0; i < cut; i++) {
        if (image->journal->entries[i].kind <= TRUNCATE)
            apply(image, &image->journal->entries[i], image->safe[i]);
    }
}

static FILE *open_file(const struct image *image, size_t file, const char *directory, const char *mode)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", directory, image->journal->files[file].name);
    return fopen(path, mode);
}

// The struct is static, because it is large and its buffers are reused.
static struct image image;

// If the deletion of a file was lost, a later file of the same name overwrites it, because the files are written in the
// order of their creation.
void journal_build(const struct journal *journal, size_t cut, uint64_t *random, const char *directory)
{
    static const unsigned keep_percent[] = {0, 10, 50, 90, 100};

    image.journal = journal;
    image.random = random;
    image.keep_percent = keep_percent[random_below(random, sizeof keep_percent / sizeof keep_percent[0])];
    build(&image, cut);
    for (size_t i = 0; i < journal->file_count; i++) {
        const struct content *content = &image.contents[i];
        FILE *file = content->at_name ? open_file(&image, i, directory, "w") : NULL;

        assert(file || !content->at_name);
        if (file) {
            size_t written = content->size > 0 ? fwrite(content->bytes, 1, content->size, file) : 0;
            int r = fclose(file);

            assert(written == content->size && r == 0);
        }
    }
}

static bool same_as(const struct content *content, FILE *file)
{
    bool same = true;
    size_t at = 0;
    int byte;

    while (same && (byte = getc(file)) != EOF) {
        same = at < content->size && content->bytes[at] == byte;
        at++;
    }
    return same && at == content->size;
}

bool journal_agrees(const struct journal *journal, const char *directory)
{
    uint64_t random = 0;
    bool agrees = true;

    image.journal = journal;
    image.random = &random;
    image.keep_percent = 100;
    build(&image, journal->length);
    for (size_t i = 0; i < journal->file_count && agrees; i++) {
        FILE *file = image.contents[i].at_name ? open_file(&image, i, directory, "r") : NULL;

        agrees = !image.contents[i].at_name || (file && same_as(&image.contents[i], file));
        if (file)
            (void)fclose(file);
    }
    image.random = NULL;
    return agrees;
}
