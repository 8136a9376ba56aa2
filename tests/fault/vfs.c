// The replacement methods check whether a call must fail, call the underlying VFS, and record changes and syncs in the
// journal. An open file is one of the underlying VFS, with some of its methods replaced.
#include "vfs.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

// The offset of the checkpoint lock among the locks of the index.
#define CHECKPOINT_LOCK 1

// In memory, this struct follows the file of the underlying VFS.
struct shim_file {
    const sqlite3_io_methods *below;
    sqlite3_io_methods methods;
    int type;             // SQLITE_OPEN_MAIN_DB, _WAL or _MAIN_JOURNAL; 0: another type
    int journal_id;       // number in the journal; -1: not recorded
    int cause;            // errno of the last fault
    bool syncs_directory; // the next sync of the file syncs the directory, too
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *below;
    struct journal *journal;
    struct vfs_fault fault;
    unsigned calls; // number of calls of the fault's kind
    bool fired;
    atomic_uint checkpoints;
} shim;

static struct shim_file *shim_of(sqlite3_file *file)
{
    return (struct shim_file *)(void *)((char *)file + shim.below->szOsFile);
}

static bool fails(enum vfs_call call, int type)
{
    const struct vfs_fault *fault = &shim.fault;
    bool failing;

    if (fault->countdown == 0 || fault->call != call || (fault->file && fault->file != type))
        return false;
    shim.calls++;
    failing = shim.calls == fault->countdown || (fault->repeat && shim.calls > fault->countdown);
    shim.fired |= failing;
    return failing;
}

static bool file_fails(sqlite3_file *file, enum vfs_call call)
{
    struct shim_file *self = shim_of(file);

    if (!fails(call, self->type))
        return false;
    self->cause = shim.fault.cause;
    return true;
}

static int shim_read(sqlite3_file *file, void *data, int length, sqlite3_int64 offset)
{
    return file_fails(file, VFS_READ) ? shim.fault.code : shim_of(file)->below->xRead(file, data, length, offset);
}

static int shim_write(sqlite3_file *file, const void *data, int length, sqlite3_int64 offset)
{
    int id = shim_of(file)->journal_id, code;
    bool failing = file_fails(file, VFS_WRITE);

    if (failing)
        length = shim.fault.partial ? length / 2 : 0;
    code = length > 0 ? shim_of(file)->below->xWrite(file, data, length, offset) : SQLITE_OK;
    if (code == SQLITE_OK && length > 0)
        journal_write(shim.journal, id, offset, data, (size_t)length);
    return failing ? shim.fault.code : code;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code;

    if (file_fails(file, VFS_TRUNCATE))
        return shim.fault.code;
    code = shim_of(file)->below->xTruncate(file, size);
    if (code == SQLITE_OK)
        journal_truncate(shim.journal, shim_of(file)->journal_id, size);
    return code;
}

static int shim_sync(sqlite3_file *file, int flags)
{
    struct shim_file *self = shim_of(file);
    bool failing = file_fails(file, VFS_SYNC);
    int code = failing ? shim.fault.code : shim_of(file)->below->xSync(file, flags);

    journal_sync(shim.journal, self->journal_id, code == SQLITE_OK);
    if (code == SQLITE_OK && self->syncs_directory) {
        journal_sync_directory(shim.journal);
        self->syncs_directory = false;
    }
    return code;
}

static int shim_file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    return file_fails(file, VFS_FILE_SIZE) ? shim.fault.code : shim_of(file)->below->xFileSize(file, ret_size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return file_fails(file, VFS_LOCK) ? shim.fault.code : shim_of(file)->below->xLock(file, level);
}

static int shim_file_control(sqlite3_file *file, int operation, void *argument)
{
    int cause = shim_of(file)->cause;

    if (operation != SQLITE_FCNTL_LAST_ERRNO || cause == 0)
        return shim_of(file)->below->xFileControl(file, operation, argument);
    *(int *)argument = cause;
    return SQLITE_OK;
}

static int shim_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret_memory)
{
    return file_fails(file, VFS_SHM_MAP) ? shim.fault.code
                                         : shim_of(file)->below->xShmMap(file, region, size, extend, ret_memory);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    bool taking = flags & SQLITE_SHM_LOCK, failing = taking && file_fails(file, VFS_SHM_LOCK);
    int code = failing ? shim.fault.code : shim_of(file)->below->xShmLock(file, offset, count, flags);

    if (offset == CHECKPOINT_LOCK && count == 1 && (!taking || code != SQLITE_OK))
        shim.checkpoints++;
    return code;
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    struct shim_file *self = shim_of(file);
    int type = flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL), code;

    (void)vfs;
    *self = (struct shim_file){.type = type, .journal_id = -1};
    file->pMethods = NULL; // so that SQLite does not close the file if xOpen fails
    if (fails(VFS_OPEN, type))
        return shim.fault.code;
    code = shim.below->xOpen(shim.below, name, file, flags, ret_flags);
    if (code != SQLITE_OK)
        return code;
    self->below = file->pMethods;
    self->methods = *file->pMethods;
    self->methods.iVersion = 2; // excludes memory-mapped I/O, which would bypass the shim
    self->methods.xRead = shim_read;
    self->methods.xWrite = shim_write;
    self->methods.xTruncate = shim_truncate;
    self->methods.xSync = shim_sync;
    self->methods.xFileSize = shim_file_size;
    self->methods.xLock = shim_lock;
    self->methods.xFileControl = shim_file_control;
    self->methods.xShmMap = shim_shm_map;
    self->methods.xShmLock = shim_shm_lock;
    file->pMethods = &self->methods;
    if (type && name)
        self->journal_id = journal_open(shim.journal, name);
    // For the files that the journal records, the underlying VFS syncs the directory under the same condition.
    self->syncs_directory = flags & SQLITE_OPEN_CREATE && type != SQLITE_OPEN_MAIN_DB;
    return SQLITE_OK;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    int code;

    (void)vfs;
    if (fails(VFS_DELETE, 0))
        return shim.fault.code;
    code = shim.below->xDelete(shim.below, name, sync_directory);
    if (code == SQLITE_OK)
        journal_delete(shim.journal, name);
    if (code == SQLITE_OK && sync_directory)
        journal_sync_directory(shim.journal);
    return code;
}

static int shim_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret_result)
{
    (void)vfs;
    if (fails(VFS_ACCESS, 0))
        return shim.fault.code;
    return shim.below->xAccess(shim.below, name, flags, ret_result);
}

static int shim_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds;
}

static int shim_last_error(sqlite3_vfs *vfs, int length, char *text)
{
    (void)vfs;
    (void)length;
    (void)text;
    return shim.fired ? shim.fault.cause : shim.below->xGetLastError(shim.below, 0, NULL);
}

void vfs_install(struct journal *journal)
{
    int code;

    assert(!shim.below);
    shim.journal = journal;
    shim.below = sqlite3_vfs_find(NULL);
    shim.vfs = *shim.below;
    shim.vfs.zName = "faults";
    shim.vfs.szOsFile = (int)sizeof(struct shim_file) + shim.below->szOsFile;
    shim.vfs.xOpen = shim_open;
    shim.vfs.xDelete = shim_delete;
    shim.vfs.xAccess = shim_access;
    shim.vfs.xSleep = shim_sleep;
    shim.vfs.xGetLastError = shim_last_error;
    code = sqlite3_vfs_register(&shim.vfs, 1);
    assert(code == SQLITE_OK);
}

void vfs_set_fault(const struct vfs_fault *fault)
{
    shim.fault = fault ? *fault : (struct vfs_fault){0};
    shim.calls = 0;
    shim.fired = false;
}

bool vfs_fault_fired(void)
{
    return shim.fired;
}

unsigned vfs_checkpoints(void)
{
    return shim.checkpoints;
}

// The store's limits for the length of the log count pages. With each page counted ten times, a log of 400 kB is long
// enough for a checkpoint, and a test copies a tenth of the bytes.
#define COUNTED_PER_PAGE 10

int __real_sqlite3_db_status(sqlite3 *connection, int operation, int *ret_current, int *ret_highest, int reset);
int __wrap_sqlite3_db_status(sqlite3 *connection, int operation, int *ret_current, int *ret_highest, int reset);

int __wrap_sqlite3_db_status(sqlite3 *connection, int operation, int *ret_current, int *ret_highest, int reset)
{
    int code = __real_sqlite3_db_status(connection, operation, ret_current, ret_highest, reset);

    if (code == SQLITE_OK && operation == SQLITE_DBSTATUS_CACHE_WRITE)
        *ret_current *= COUNTED_PER_PAGE;
    return code;
}

ssize_t __real_pwrite(int fd, const void *data, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

struct name {
    char text[256];
};

static struct name name_of(int fd)
{
    struct name name = {""};
    char link[32];

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, name.text, sizeof name.text - 1) <= 0)
        abort();
    return name;
}

static bool is_index(int fd)
{
    return strstr(name_of(fd).text, "-shm") != NULL;
}

static int journal_id_of(int fd)
{
    return journal_open(shim.journal, name_of(fd).text);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset)
{
    ssize_t r;

    if (is_index(fd))
        return __real_pwrite(fd, data, length, offset);
    if (fails(VFS_OWN_WRITE, 0)) {
        errno = shim.fault.cause;
        return -1;
    }
    r = __real_pwrite(fd, data, length, offset);
    if (r > 0)
        journal_write(shim.journal, journal_id_of(fd), offset, data, (size_t)r);
    return r;
}

int __wrap_fdatasync(int fd)
{
    bool failing = fails(VFS_OWN_SYNC, 0);
    int r = failing ? -1 : __real_fdatasync(fd);

    journal_sync(shim.journal, journal_id_of(fd), r == 0);
    if (failing)
        errno = shim.fault.cause;
    return r;
}
