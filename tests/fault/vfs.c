// Each method checks whether its call must fail, calls the VFS below, and records the effect of that call.
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

// The file of the VFS below follows it in memory.
struct shim_file {
    sqlite3_file base;
    int type;             // SQLITE_OPEN_MAIN_DB, …
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

static sqlite3_file *below(sqlite3_file *file)
{
    return (sqlite3_file *)((struct shim_file *)file + 1);
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
    struct shim_file *self = (struct shim_file *)file;

    if (!fails(call, self->type))
        return false;
    self->cause = shim.fault.cause;
    return true;
}

static int shim_close(sqlite3_file *file)
{
    return below(file)->pMethods->xClose(below(file));
}

static int shim_read(sqlite3_file *file, void *data, int length, sqlite3_int64 offset)
{
    if (file_fails(file, VFS_READ))
        return shim.fault.code;
    return below(file)->pMethods->xRead(below(file), data, length, offset);
}

static int shim_write(sqlite3_file *file, const void *data, int length, sqlite3_int64 offset)
{
    int id = ((struct shim_file *)file)->journal_id, code;
    bool failing = file_fails(file, VFS_WRITE);

    if (failing)
        length = shim.fault.partial ? length / 2 : 0;
    code = length > 0 ? below(file)->pMethods->xWrite(below(file), data, length, offset) : SQLITE_OK;
    if (code == SQLITE_OK && length > 0)
        journal_write(shim.journal, id, offset, data, (size_t)length);
    return failing ? shim.fault.code : code;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code;

    if (file_fails(file, VFS_TRUNCATE))
        return shim.fault.code;
    code = below(file)->pMethods->xTruncate(below(file), size);
    if (code == SQLITE_OK)
        journal_truncate(shim.journal, ((struct shim_file *)file)->journal_id, size);
    return code;
}

static int shim_sync(sqlite3_file *file, int flags)
{
    struct shim_file *self = (struct shim_file *)file;
    bool failing = file_fails(file, VFS_SYNC);
    int code = failing ? shim.fault.code : below(file)->pMethods->xSync(below(file), flags);

    journal_sync(shim.journal, self->journal_id, code == SQLITE_OK);
    if (code == SQLITE_OK && self->syncs_directory) {
        journal_sync_directory(shim.journal);
        self->syncs_directory = false;
    }
    return code;
}

static int shim_file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    if (file_fails(file, VFS_FILE_SIZE))
        return shim.fault.code;
    return below(file)->pMethods->xFileSize(below(file), ret_size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    if (file_fails(file, VFS_LOCK))
        return shim.fault.code;
    return below(file)->pMethods->xLock(below(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return below(file)->pMethods->xUnlock(below(file), level);
}

static int shim_check_reserved_lock(sqlite3_file *file, int *ret_locked)
{
    return below(file)->pMethods->xCheckReservedLock(below(file), ret_locked);
}

static int shim_file_control(sqlite3_file *file, int operation, void *argument)
{
    int cause = ((struct shim_file *)file)->cause;

    if (operation != SQLITE_FCNTL_LAST_ERRNO || cause == 0)
        return below(file)->pMethods->xFileControl(below(file), operation, argument);
    *(int *)argument = cause;
    return SQLITE_OK;
}

static int shim_sector_size(sqlite3_file *file)
{
    return below(file)->pMethods->xSectorSize(below(file));
}

static int shim_device_characteristics(sqlite3_file *file)
{
    return below(file)->pMethods->xDeviceCharacteristics(below(file));
}

static int shim_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret_memory)
{
    if (file_fails(file, VFS_SHM_MAP))
        return shim.fault.code;
    return below(file)->pMethods->xShmMap(below(file), region, size, extend, ret_memory);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    bool taking = flags & SQLITE_SHM_LOCK, failing = taking && file_fails(file, VFS_SHM_LOCK);
    int code = failing ? shim.fault.code : below(file)->pMethods->xShmLock(below(file), offset, count, flags);

    if (offset == CHECKPOINT_LOCK && count == 1 && (!taking || code != SQLITE_OK))
        shim.checkpoints++;
    return code;
}

static void shim_shm_barrier(sqlite3_file *file)
{
    below(file)->pMethods->xShmBarrier(below(file));
}

static int shim_shm_unmap(sqlite3_file *file, int delete)
{
    return below(file)->pMethods->xShmUnmap(below(file), delete);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_file_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_check_reserved_lock,
    .xFileControl = shim_file_control,
    .xSectorSize = shim_sector_size,
    .xDeviceCharacteristics = shim_device_characteristics,
    .xShmMap = shim_shm_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_shm_barrier,
    .xShmUnmap = shim_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    struct shim_file *self = (struct shim_file *)file;
    int type = flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL), code;

    (void)vfs;
    *self = (struct shim_file){.type = type, .journal_id = -1};
    if (fails(VFS_OPEN, type))
        return shim.fault.code;
    code = shim.below->xOpen(shim.below, name, below(file), flags, ret_flags);
    if (code != SQLITE_OK)
        return code;
    self->base.pMethods = &methods;
    if (type && name)
        self->journal_id = journal_open(shim.journal, name);
    // The VFS below does the same.
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
