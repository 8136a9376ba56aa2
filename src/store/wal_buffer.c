// Replaces the file methods of the write-ahead log. All other files are those of the layer below, without a detour.
#include "wal_buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

// The most that SQLite's Unix layer writes at once. It takes the length modulo 128 KiB, and would report a write of
// 128 KiB as a full disk. 31 frames with pages of 4 KiB fit; a longer commit reaches the log in several parts.
#define BUFFER_BYTES 131071

// In memory, the file of the layer below follows this struct.
struct wal_file {
    sqlite3_file base;
    sqlite3_file *below;
    char *buffer;
    int length;           // number of bytes in the buffer
    sqlite3_int64 offset; // the place of these bytes in the log
};

static sqlite3_vfs layer;
static sqlite3_vfs *layer_below;

static struct wal_file *wal_of(sqlite3_file *file)
{
    return (struct wal_file *)(void *)file;
}

// Writes the buffer to the log, and empties it even after a failure: SQLite does not write these frames again, but
// rolls the transaction back and uses their place for the next one.
static int flush(struct wal_file *wal)
{
    int length = wal->length;

    assert(length >= 0 && length <= BUFFER_BYTES);
    wal->length = 0;
    return length > 0 ? wal->below->pMethods->xWrite(wal->below, wal->buffer, length, wal->offset) : SQLITE_OK;
}

static int wal_close(sqlite3_file *file)
{
    struct wal_file *wal = wal_of(file);
    int flush_code = flush(wal), code = wal->below->pMethods->xClose(wal->below);

    free(wal->buffer);
    return flush_code == SQLITE_OK ? code : flush_code;
}

static int wal_read(sqlite3_file *file, void *data, int length, sqlite3_int64 offset)
{
    struct wal_file *wal = wal_of(file);
    int code = flush(wal);

    return code == SQLITE_OK ? wal->below->pMethods->xRead(wal->below, data, length, offset) : code;
}

static int wal_write(sqlite3_file *file, const void *data, int length, sqlite3_int64 offset)
{
    struct wal_file *wal = wal_of(file);
    int code = SQLITE_OK;

    if (offset != wal->offset + wal->length || length > BUFFER_BYTES - wal->length)
        code = flush(wal);
    if (code != SQLITE_OK)
        return code;
    assert(length <= BUFFER_BYTES); // SQLite's largest page has 64 KiB
    if (wal->length == 0)
        wal->offset = offset;
    memcpy(wal->buffer + wal->length, data, (size_t)length);
    wal->length += length;
    return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct wal_file *wal = wal_of(file);
    int code = flush(wal);

    return code == SQLITE_OK ? wal->below->pMethods->xTruncate(wal->below, size) : code;
}

static int wal_sync(sqlite3_file *file, int flags)
{
    struct wal_file *wal = wal_of(file);
    int code = flush(wal);

    return code == SQLITE_OK ? wal->below->pMethods->xSync(wal->below, flags) : code;
}

static int wal_file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    struct wal_file *wal = wal_of(file);
    int code = flush(wal);

    return code == SQLITE_OK ? wal->below->pMethods->xFileSize(wal->below, ret_size) : code;
}

static int wal_lock(sqlite3_file *file, int level)
{
    return wal_of(file)->below->pMethods->xLock(wal_of(file)->below, level);
}

static int wal_unlock(sqlite3_file *file, int level)
{
    return wal_of(file)->below->pMethods->xUnlock(wal_of(file)->below, level);
}

static int wal_check_reserved_lock(sqlite3_file *file, int *ret_reserved)
{
    return wal_of(file)->below->pMethods->xCheckReservedLock(wal_of(file)->below, ret_reserved);
}

static int wal_control(sqlite3_file *file, int operation, void *argument)
{
    return wal_of(file)->below->pMethods->xFileControl(wal_of(file)->below, operation, argument);
}

static int wal_sector_size(sqlite3_file *file)
{
    return wal_of(file)->below->pMethods->xSectorSize(wal_of(file)->below);
}

static int wal_characteristics(sqlite3_file *file)
{
    return wal_of(file)->below->pMethods->xDeviceCharacteristics(wal_of(file)->below);
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1, // the methods of later versions are for the database file: shared memory and mapped pages
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_file_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_reserved_lock,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_characteristics,
};

static int layer_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    struct wal_file *wal = wal_of(file);
    int code;

    (void)vfs;
    if (!(flags & SQLITE_OPEN_WAL))
        return layer_below->xOpen(layer_below, name, file, flags, ret_flags);
    *wal = (struct wal_file){.below = (sqlite3_file *)(void *)(wal + 1), .buffer = malloc(BUFFER_BYTES)};
    if (!wal->buffer)
        return SQLITE_NOMEM;
    wal->below->pMethods = NULL;
    code = layer_below->xOpen(layer_below, name, wal->below, flags, ret_flags);
    if (wal->below->pMethods)
        file->pMethods = &wal_methods; // SQLite closes the file, even if code is an error
    else
        free(wal->buffer);
    return code;
}

void wal_buffer_discard(sqlite3 *connection)
{
    sqlite3_file *file = NULL;

    if (sqlite3_file_control(connection, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK && file &&
        file->pMethods == &wal_methods)
        wal_of(file)->length = 0;
}

int wal_buffer_register(void)
{
    (void)sqlite3_vfs_unregister(&layer); // before it is written again; the default layer may have changed
    layer_below = sqlite3_vfs_find(NULL);
    if (!layer_below)
        return SQLITE_NOMEM; // SQLite could not be initialized
    layer = *layer_below;
    layer.zName = WAL_BUFFER_VFS;
    layer.szOsFile += (int)sizeof(struct wal_file);
    layer.xOpen = layer_open;
    return sqlite3_vfs_register(&layer, 0);
}
